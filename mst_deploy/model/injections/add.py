"""Injection by one linear map of z, shared by all residual blocks, added to the input of their first
convolution."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from mst_deploy.model.injections.base import Places, PlainNorms, as_map, spread_linear


class Add(PlainNorms):
    """F' = F + A z with one A for the whole trunk."""

    NEEDS: ClassVar[Literal["embedding"]] = "embedding"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.map = spread_linear(places.embedding_size, places.width)

    def prepare(self, condition: Any) -> Any:
        return self.map(condition)  # (N, C)

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        return F.relu(x) if conv else F.relu(x + as_map(condition, x))
