"""Interface between the generator and the injections."""

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
    """Properties of a generator that an injection depends on."""

    layout: FilmLayout
    """Layout of every normalization of the network, in the order of the forward pass."""
    blocks: int
    """Number of residual blocks; each has two convolutions, numbered 0 and 1."""
    width: int
    """Channels of the trunk."""
    embedding_size: int
    """d, the length of z."""


class Injection(nn.Module, ABC):
    """Interface of an injection; ``condition`` is the argument of ``Generator.forward``."""

    NEEDS: ClassVar[Literal["film", "embedding", "features", "nothing"]]
    """The form of the condition."""

    def prepare(self, condition: Any) -> Any:
        """Return values computed from the condition once per forward pass, the argument of the methods
        below."""
        return condition

    @abstractmethod
    def film_params(self, condition: Any) -> Tensor:
        """Return gamma and beta of every normalization: (N, P) or (1, P)."""

    def enter(self, x: Tensor, block: int, conv: int, condition: Any) -> Tensor:
        """Return the input of convolution ``conv`` of a residual block, computed from the map x (N, C, h, w).

        x is the block's input (conv 0) or the first normalization's output (conv 1).
        """
        return F.relu(x) if conv else x


class PlainNorms(Injection):
    """Injection that does not condition the normalizations: their scale and shift are ordinary parameters."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.affine = nn.Parameter(torch.from_numpy(places.layout.identity())[None])  # (1, P)

    def film_params(self, condition: Any) -> Tensor:
        return self.affine


def spread_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear map of z with small initial weights, so that all styles start as nearly the same
    network."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def small_conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 1x1 convolution with small initial weights."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(layer.weight, std=0.02)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def as_map(vector: Tensor, like: Tensor) -> Tensor:
    """Reshape (N, C) to (N, C, 1, 1) in the type of ``like``."""
    return vector[:, :, None, None].to(like.dtype)
