"""A narrower, shorter network that starts from a wider one: the channels that matter most are kept.

Channels are chosen in sets: what the stem writes, what down1 writes, the residual stream (written by down2
and by every block, read by every block and by up1), the inside of each block, what up1 and up2 write. A
channel's importance is |gamma| of an average style, the bias of the encoder's film layer, times the L2 norm
of the weights that read it (Li et al. 2017, arXiv 1608.08710, rank by such norms); for the stream both are
sums, over writers and over readers. Of the blocks the first ones and the last are kept: each adds a
little to the stream, and only the last was trained to be followed by up1.

Nearly every convolution is followed by instance normalization, which takes out whatever the missing
channels did to the scale. Only the head is not, so its weights grow by what it lost (see ``regained``).
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
    """Name of its layer of the FiLM vector; None for the head."""
    reads: str
    writes: str
    """Sets of channels; ``pixels`` are red, green and blue."""


def prune_channels(networks: Networks, config: NetworkConfig) -> Networks:
    """A network of ``config`` out of the parts of a wider film model; its style encoder stays as it is.

    It may pad in another way. Raises InvalidArgument if the configuration is wider or longer, or differs
    in anything else.
    """
    check(networks.config, config)
    blocks = kept_blocks(networks.config.residual_blocks, config.residual_blocks)
    old, new = wiring(blocks), wiring(range(len(blocks)))
    widths = dict(config.film_layout.layers)
    gammas, _ = split_rows(networks.film_encoder.film.bias.detach(), networks.config)
    importances = importance(old, networks.generator.state_dict(), gammas)
    kept = {"pixels": torch.arange(3)}
    for layer in new:
        if layer.norm is not None:
            kept[layer.writes] = strongest(importances[layer.writes], widths[layer.norm])
    state = {
        **generator_state(networks, list(zip(old, new, strict=True)), kept),
        **encoder_state(networks, old, kept),
    }
    state[f"generator.{HEAD}"] *= regained(importances["up2"], kept["up2"])
    return build_networks(config, state, networks.training, Path("the narrowed model"))


def check(old: NetworkConfig, new: NetworkConfig) -> None:
    """Raises InvalidArgument unless ``new`` can be cut out of ``old``."""
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
    """Numbers of the residual blocks that stay: the first ones and the last."""
    return [*range(new - 1), old - 1] if new else []


def wiring(blocks: Sequence[int]) -> list[Layer]:
    """The convolutions of a generator with these blocks, in the order in which a frame meets them."""
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


def split_rows(values: Tensor, config: NetworkConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(P, ...) in the order of a FiLM vector -> what belongs to the gammas and to the betas of each layer."""
    gammas, betas, start = {}, {}, 0
    for name, channels in config.film_layout.layers:
        gammas[name] = values[start : start + channels]
        betas[name] = values[start + channels : start + 2 * channels]
        start += 2 * channels
    return gammas, betas


def importance(layers: Sequence[Layer], weights: StateDict, gammas: dict[str, Tensor]) -> dict[str, Tensor]:
    """(C,) for every set of channels: |gamma| summed over its writers, times weights that read it."""
    written: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for layer in layers:
        norms = weights[layer.weight].square().sum(dim=(0, 2, 3)).sqrt()  # (inputs,)
        read[layer.reads] = read.get(layer.reads, 0) + norms
        if layer.norm is not None:
            written[layer.writes] = written.get(layer.writes, 0) + gammas[layer.norm].abs()
    return {name: gamma * read[name] for name, gamma in written.items()}


def strongest(values: Tensor, count: int) -> Tensor:
    """Places of the ``count`` largest of (C,), in ascending order; of equal ones the first."""
    return values.sort(descending=True, stable=True).indices[:count].sort().values


def regained(values: Tensor, kept: Tensor) -> float:
    """What makes up for lost channels where no normalization follows: the root of all energy by the kept.

    An importance is the size of what its channel adds to the result. For channels that matter alike this
    is sqrt(old / new); for lost channels that did nothing it is 1.
    """
    rest = float(values[kept].square().sum())
    return (float(values.square().sum()) / rest) ** 0.5 if rest else 1.0


def generator_state(
    networks: Networks, pairs: Sequence[tuple[Layer, Layer]], kept: dict[str, Tensor]
) -> StateDict:
    """The generator's tensors, from old names and all channels to new names and the kept ones."""
    weights = networks.generator.state_dict()
    state = {
        f"generator.{new.weight}": weights[old.weight][kept[old.writes]][:, kept[old.reads]]
        for old, new in pairs
    }
    return {**state, "generator.head.bias": weights["head.bias"]}


def encoder_state(networks: Networks, layers: Sequence[Layer], kept: dict[str, Tensor]) -> StateDict:
    """The encoder's tensors; of its film layer the rows of the kept channels."""
    encoder = networks.film_encoder.state_dict()
    for name in ("film.weight", "film.bias"):
        gammas, betas = split_rows(encoder[name], networks.config)
        rows = [
            part[layer.norm][kept[layer.writes]]
            for layer in layers
            if layer.norm is not None
            for part in (gammas, betas)
        ]
        encoder[name] = torch.cat(rows)
    return {f"encoder.{name}": tensor for name, tensor in encoder.items()}
