"""The interface between the generator and the ways of conditioning it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.film import FilmLayout


@dataclass(frozen=True)
class Places:
    """Where a generator can be conditioned, and the sizes of what it is conditioned with."""

    layout: FilmLayout
    """Every normalization of the network, in the order in which a frame meets them."""
    blocks: int
    """Residual blocks; each has two convolutions, numbered 0 and 1."""
    width: int
    """Channels of the trunk."""
    embedding_size: int
    """d, the length of z."""


class Injection(nn.Module, ABC):
    """What every way of conditioning may do; ``condition`` is what ``Generator.forward`` was given."""

    NEEDS: ClassVar[Literal["film", "embedding", "features", "nothing"]]
    """The form of the condition."""

    def prepare(self, condition: Any) -> Any:
        """Whatever is computed from the condition once per forward pass; the methods below get it."""
        return condition

    @abstractmethod
    def rows(self, condition: Any) -> Tensor:
        """(N, P) or (1, P): gamma and beta of every normalization."""

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        """What convolution ``conv`` of a residual block sees of the map x (N, C, h, w) before it.

        x is the block's input (conv 0) or the first normalization's output (conv 1).
        """
        return F.relu(x) if conv else x


class PlainNorms(Injection):
    """An injection that leaves the normalizations alone: their scale and shift are ordinary parameters."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.affine = nn.Parameter(torch.from_numpy(places.layout.identity())[None])  # (1, P)

    def rows(self, condition: Any) -> Tensor:
        return self.affine


def spread_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map of z that starts small, so that all styles begin as nearly the same network."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def small_conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution that starts small."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(layer.weight, std=0.02)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def as_map(vector: Tensor, like: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1, 1) in the type of ``like``."""
    return vector[:, :, None, None].to(like.dtype)
