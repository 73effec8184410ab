"""FiLM: F' = gamma(z) F + beta(z) after every normalization (Perez et al. 2018, arXiv 1709.07871)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from mst_deploy.model.injections.base import Injection, Places


class FilmInjection(Injection):
    """Injection of a given FiLM vector: the style encoder computes it, and the deployed graph takes it as
    input."""

    NEEDS: ClassVar[Literal["film"]] = "film"

    def __init__(self, places: Places) -> None:
        super().__init__()

    def film_params(self, condition: Any) -> Tensor:
        film: Tensor = condition
        return film
