"""Injection by F' = F + Conv1x1(z) before each convolution of the trunk."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.injections.base import Places, PlainNorms, as_map, spread_linear


class Inject1x1(PlainNorms):
    """Separate linear map of z for each convolution of the trunk: a 1x1 convolution of a 1x1 map."""

    NEEDS: ClassVar[Literal["embedding"]] = "embedding"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.maps = nn.ModuleList(
            spread_linear(places.embedding_size, places.width) for _ in range(2 * places.blocks)
        )

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        return F.relu(x + as_map(self.maps[2 * block + conv](condition), x))
