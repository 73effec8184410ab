"""Injection of z expanded to a map and concatenated to the input of each convolution of the trunk."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.injections.base import Places, PlainNorms, small_conv1x1


class Concat(PlainNorms):
    """F' = relu(W [F; z] + b), W a 1x1 convolution that starts as the identity on F."""

    NEEDS: ClassVar[Literal["embedding"]] = "embedding"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        inputs = places.width + places.embedding_size
        convs = [small_conv1x1(inputs, places.width) for _ in range(2 * places.blocks)]
        for conv in convs:
            with torch.no_grad():
                conv.weight[:, : places.width, 0, 0] += torch.eye(places.width)
        self.fuse = nn.ModuleList(convs)

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        z = condition[:, :, None, None].to(x.dtype).expand(-1, -1, *x.shape[2:])  # (N, d, h, w)
        return F.relu(self.fuse[2 * block + conv](torch.cat([x, z], dim=1)))
