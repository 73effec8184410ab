"""Channel pruning: initialize a smaller network from a larger one by keeping its most important channels.

Channels are chosen in sets: the outputs of the stem and of down1, the residual stream (written by down2 and
every block, read by every block and by up1), the inside of each block, the outputs of up1 and up2. A
channel's importance is |gamma| of an average style, the bias of the encoder's film layer, times the L2 norm
of the weights that read it (Li et al. 2017, arXiv 1608.08710, rank by such norms); for the stream both are
sums, over writers and over readers. Of the blocks the first ones and the last are kept: each adds a small
residual to the stream, and only the last was trained as the input of up1.

Nearly every convolution is followed by instance normalization, which removes the effect of the missing
channels on the scale. Only the head is not, so its weights are scaled up to compensate (see ``head_gain``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import Networks, StateDict, build_networks
from mst_deploy.model.networks import NetworkConfig

HEAD = "head.weight"


@dataclass(frozen=True)
class Layer:
    """One convolution of the generator."""

    weight: str
    """Name of its weights in the generator's state."""
    norm: str | None
    """Name of its layer in the FiLM layout; None for the head."""
    reads: str
    writes: str
    """Sets of channels; ``pixels`` are red, green and blue."""


def prune_channels(networks: Networks, config: NetworkConfig) -> Networks:
    """Return a network of ``config`` made of the channels of a larger FiLM model; its style encoder is kept.

    The padding may differ. Raises InvalidArgument if the configuration is wider or longer, or differs
    otherwise.
    """
    check(networks.config, config)
    blocks = kept_blocks(networks.config.residual_blocks, config.residual_blocks)
    old, new = wiring(blocks), wiring(range(len(blocks)))
    widths = dict(config.film_layout.layers)
    gammas, _ = split_film(networks.film_encoder.film.bias.detach(), networks.config)
    importances = importance(old, networks.generator.state_dict(), gammas)
    kept = {"pixels": torch.arange(3)}
    for layer in new:
        if layer.norm is not None:
            kept[layer.writes] = largest(importances[layer.writes], widths[layer.norm])
    state = {
        **generator_state(networks, list(zip(old, new, strict=True)), kept),
        **encoder_state(networks, old, kept),
    }
    state[f"generator.{HEAD}"] *= head_gain(importances["up2"], kept["up2"])
    return build_networks(config, state, networks.training, Path("the narrowed model"))


def check(old: NetworkConfig, new: NetworkConfig) -> None:
    """Raise InvalidArgument unless ``old`` can be pruned to ``new``."""
    if old.injection != "film":
        raise InvalidArgument(
            f"only film models can be narrowed; this one brings the style in by {old.injection!r}"
        )
    if any(prune_from > wide for prune_from, wide in zip(new.widths, old.widths, strict=True)):
        raise InvalidArgument(
            field="widths",
            problem=f"widths {new.widths} are more than the {old.widths} of the model to narrow",
        )
    if new.residual_blocks > old.residual_blocks:
        raise InvalidArgument(
            f"{new.residual_blocks} residual blocks are more than the {old.residual_blocks} of the model to "
            "narrow"
        )
    for name in (field.name for field in fields(NetworkConfig)):
        if name not in ("widths", "residual_blocks", "padding") and getattr(new, name) != getattr(old, name):
            raise InvalidArgument(
                f"a narrowed model keeps its {name}: it is {getattr(old, name)!r}, not {getattr(new, name)!r}"
            )


def kept_blocks(old: int, new: int) -> list[int]:
    """Return the numbers of the residual blocks that are kept: the first ones and the last."""
    return [*range(new - 1), old - 1] if new else []


def wiring(blocks: Sequence[int]) -> list[Layer]:
    """Return the convolutions of a generator with these blocks, in the order of the forward pass."""
    layers = [
        Layer("stem.conv.weight", "stem.norm", "pixels", "stem"),
        Layer("down1.conv.weight", "down1.norm", "stem", "down1"),
        Layer("down2.conv.weight", "down2.norm", "down1", "stream"),
    ]
    for place, number in enumerate(blocks):
        block, inside = f"blocks.{number}", f"inside block {place}"
        layers += [
            Layer(f"{block}.first.conv.weight", f"{block}.norm1", "stream", inside),
            Layer(f"{block}.second.conv.weight", f"{block}.norm2", inside, "stream"),
        ]
    return [
        *layers,
        Layer("up1.conv.weight", "up1.norm", "stream", "up1"),
        Layer("up2.conv.weight", "up2.norm", "up1", "up2"),
        Layer(HEAD, None, "up2", "pixels"),
    ]


def split_film(values: Tensor, config: NetworkConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split values (P, ...) in the layout of a FiLM vector into the gammas and the betas of each layer,
    (C, ...)."""
    gammas, betas, start = {}, {}, 0
    for name, channels in config.film_layout.layers:
        gammas[name] = values[start : start + channels]
        betas[name] = values[start + channels : start + 2 * channels]
        start += 2 * channels
    return gammas, betas


def importance(layers: Sequence[Layer], weights: StateDict, gammas: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return (C,) for every set of channels: |gamma| summed over its writers, times the norms of its
    readers."""
    written: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for layer in layers:
        norms = weights[layer.weight].square().sum(dim=(0, 2, 3)).sqrt()  # (inputs,)
        read[layer.reads] = read.get(layer.reads, 0) + norms
        if layer.norm is not None:
            written[layer.writes] = written.get(layer.writes, 0) + gammas[layer.norm].abs()
    return {name: gamma * read[name] for name, gamma in written.items()}


def largest(values: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` largest of (C,), in ascending order; of equal ones the first."""
    return values.sort(descending=True, stable=True).indices[:count].sort().values


def head_gain(values: Tensor, kept: Tensor) -> float:
    """Return the factor that compensates for pruned channels without normalization: root of all energy over
    the kept.

    An importance is the size of a channel's contribution to the result. For equally important channels the
    factor is sqrt(old / new); for pruned channels without effect it is 1.
    """
    rest = float(values[kept].square().sum())
    return (float(values.square().sum()) / rest) ** 0.5 if rest else 1.0


def generator_state(
    networks: Networks, pairs: Sequence[tuple[Layer, Layer]], kept: dict[str, Tensor]
) -> StateDict:
    """Return the generator's tensors, from old names and all channels to new names and the kept ones."""
    weights = networks.generator.state_dict()
    state = {
        f"generator.{new.weight}": weights[old.weight][kept[old.writes]][:, kept[old.reads]]
        for old, new in pairs
    }
    return {**state, "generator.head.bias": weights["head.bias"]}


def encoder_state(networks: Networks, layers: Sequence[Layer], kept: dict[str, Tensor]) -> StateDict:
    """Return the encoder's tensors; of its film layer only the kept channels."""
    encoder = networks.film_encoder.state_dict()
    for name in ("film.weight", "film.bias"):
        gammas, betas = split_film(encoder[name], networks.config)
        rows = [
            part[layer.norm][kept[layer.writes]]
            for layer in layers
            if layer.norm is not None
            for part in (gammas, betas)
        ]
        encoder[name] = torch.cat(rows)
    return {f"encoder.{name}": tensor for name, tensor in encoder.items()}
