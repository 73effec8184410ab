"""Both networks as one module, and the style targets of the losses and the encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.errors import InvalidArgument
from mst_deploy.images import Image
from mst_deploy.model.canvas_bands import white
from mst_deploy.model.checkpoints import Networks
from mst_deploy.model.injections import INJECTIONS
from mst_deploy.model.injections.patch import FEATURES
from mst_deploy.model.networks import StyleEncoder
from mst_deploy.perceptual.distances import gram
from mst_deploy.perceptual.vgg import Vgg19
from mst_deploy.training.losses import palette
from mst_deploy.training.samples import View

EMBED_SIZE = 256  # side of a content crop as input of the style encoder, pixels
KEPT_BYTES = 4 << 30  # largest memory for style targets, bytes


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device without waiting for the work queued there: from pinned memory."""
    if device.type == "cuda" and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def to_tensor(images: Tensor, device: torch.device) -> Tensor:
    """Convert (N, H, W, 3) uint8 RGB to (N, 3, H, W) float32 in 0..1, channels last in memory."""
    return images.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def to_noise(canvas: Tensor | None, device: torch.device) -> Tensor | None:
    """Convert (N, H, W, 1) uint8 to (N, 1, H, W) float32 of unit variance; None stays None."""
    return None if canvas is None else white(canvas.to(device, non_blocking=True), torch.float32)


def fixed_canvas(height: int, width: int, device: torch.device) -> Tensor:
    """Return fixed white noise of a size: (1, 1, H, W) float32."""
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 1), np.uint8)
    return white(torch.from_numpy(noise).to(device), torch.float32)


def stack(images: Sequence[Image]) -> Tensor:
    """Stack images of one size to (N, H, W, 3) uint8."""
    return torch.stack([torch.from_numpy(image) for image in images])


def with_convolutions_in(module: nn.Module, dtype: torch.dtype) -> Any:
    """Return a copy of a frozen module whose convolutions are stored in ``dtype``.

    Its results under autocast to that type are bitwise the same. Autocast keeps its copies of trained weights
    during a step, but converts frozen ones at every call.
    """
    changed = copy.deepcopy(module).requires_grad_(False)
    for part in changed.modules():
        if isinstance(part, nn.Conv2d):
            part.to(dtype)
    return changed


class InterpolatedStyle(NamedTuple):
    """Styles of N samples at a strength: FiLM vectors between the content's own and the style's."""

    own: Tensor
    """Input of ``StyleNetwork.condition`` for the contents as styles."""
    style: Tensor
    """Input of ``StyleNetwork.condition`` for the styles."""
    strengths: Tensor
    """(N,) float32, 0..1."""


class StyleNetwork(nn.Module):
    """The trained networks behind one ``forward``, which wrappers for mixed precision and several GPUs
    need."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.generator = networks.generator
        self.encoder = networks.encoder
        self.needs = INJECTIONS[networks.config.injection].NEEDS

    def forward(
        self, contents: Tensor, style: Any, canvas: Tensor | None = None, gains: Tensor | None = None
    ) -> Tensor:
        """Stylize contents (N, 3, S, S) in 0..1 with a style (see ``condition``) -> (N, 3, S, S) in 0..1.

        A generator with a canvas needs white noise (N, 1, S, S) and takes the gains of its bands (N, K).
        """
        condition = self.condition(style)
        if canvas is None:
            stylized: Tensor = self.generator(contents, condition)
            return stylized
        if gains is not None:
            condition = torch.cat([condition[:, : -gains.shape[1]], gains.to(condition)], dim=1)
        stylized = self.generator(contents, condition, canvas)
        return stylized

    def condition(self, style: Any) -> Any:
        """Return the condition of the generator.

        ``style`` depends on the injection: for an embedding or a FiLM vector, pooled Inception features (N,
        summary_size), or style pictures (N, 3, Z, Z) if the trunk is trained as well; for features, those of
        content and style; else None. The first two may be ``InterpolatedStyle``.
        """
        if isinstance(style, InterpolatedStyle):
            own, full = self.condition(style.own), self.condition(style.style)
            return torch.lerp(own, full, style.strengths.float()[:, None])
        if self.encoder is None:
            return style
        pooled = style if style.dim() == 2 else self.encoder.pooled(style)
        with torch.autocast(pooled.device.type, enabled=False):  # the embedding is float32 when deployed
            return self.encoder.condition_of(self.encoder.embed(pooled.float()))


def confine_film(networks: Networks, layers: Sequence[str]) -> None:
    """Let the style affect only layers whose names begin with one of ``layers``.

    The FiLM parameters of the others no longer depend on the embedding: their weights are zero and get no
    gradient. Their biases are trained on. Raises InvalidArgument for a prefix that no name has.
    """
    names = [name for name, _ in networks.config.film_layout.layers]
    for layer in layers:
        if not any(name.startswith(layer) for name in names):
            raise InvalidArgument(f"no layer begins with {layer!r}; there are {', '.join(names)}")
    kept = torch.cat(
        [
            torch.full((2 * channels, 1), float(name.startswith(tuple(layers))))
            for name, channels in networks.config.film_layout.layers
        ]
    )
    weight = networks.film_encoder.film.weight
    with torch.no_grad():
        weight.mul_(kept.to(weight.device))
    weight.register_hook(lambda gradient: gradient * kept.to(gradient.device))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class StyleTarget:
    """Targets of a training step for one style view, or, with a leading dimension N, for those of a batch."""

    grams: dict[str, Tensor]
    """Gram matrices by layer, (C, C) float16 each."""
    pooled: Tensor | None = None
    """(summary_size,) float32, if the injection needs an embedding and the trunk is frozen."""
    features: Tensor | None = None
    """(256, h, w), if the injection matches patches."""
    picture: Tensor | None = None
    """(3, Z, Z) in 0..1, if the trunk is trained."""
    palette: Tensor | None = None
    """(DIRECTIONS, QUANTILES) float32, see ``losses.palette``."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by the name of the layer or field."""
        values = {name: getattr(self, name) for name in ("pooled", "features", "picture", "palette")}
        return {**self.grams, **{name: value for name, value in values.items() if value is not None}}

    def map(self, change: Callable[[Tensor], Tensor]) -> StyleTarget:
        """Return the target with every tensor changed."""
        changed = {name: change(value) for name, value in self.tensors().items()}
        grams = {name: changed.pop(name) for name in self.grams}
        return StyleTarget(grams, **changed)


class StyleTargets:
    """Style targets by view. They depend on no trained weights, so they are computed once and kept.

    With too many styles to keep, or if a target holds a whole map, nothing is kept; then ``known`` is None
    and every batch includes its style crops.
    """

    def __init__(
        self,
        network: StyleNetwork,
        vgg: Vgg19,
        styles: int,
        views: int,
        *,
        train_trunk: bool,
        scales: int = 1,
    ) -> None:
        """Set up the targets of ``styles`` images with ``views`` views each.

        ``scales`` is the number of scales of the Gram matrices, see ``grams_at``.
        """
        self.network, self.vgg, self.train_trunk, self.scales = network, vgg, train_trunk, scales
        self.converted: dict[torch.dtype, tuple[Vgg19, StyleEncoder | None]] = {}
        self.with_grams = True
        """Whether targets have Gram matrices; False if only the generator's condition is needed."""
        self.kept: dict[View, int] = {}
        """Row in ``blocks`` of every view that is kept."""
        self.most = styles * views
        self.blocks: StyleTarget | None = None
        """Kept targets, (styles * views, ...) each: allocated one by one between large short-lived maps, they
        would fragment the memory: 8 MB were lost with every target of 0.7 MB."""
        size = scales * styles * views * sum(2 * channels**2 for channels in (64, 128, 256, 512))
        keeps = size <= KEPT_BYTES and not train_trunk and network.needs != "features"
        self.known = torch.zeros(styles, views, dtype=torch.bool) if keeps else None
        if self.known is not None:
            self.known.share_memory_()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def of(
        self, views: Sequence[View | None], crops: Mapping[View, Tensor] | Tensor, device: torch.device
    ) -> StyleTarget | None:
        """Return the targets of a batch; where a view is None they are those of another. None if all are.

        ``crops`` (2, Z, Z, 3) uint8 must hold every view not known yet. If targets are not kept, they may be
        given as one tensor with a row for each sample, see ``samples.collate``.
        """
        if all(view is None for view in views):
            return None
        if self.known is None:
            return self.make_all(crops if isinstance(crops, Tensor) else aligned(crops, views), device)
        assert not isinstance(crops, Tensor)
        for view, crop in crops.items():
            # one at a time: in a batch, the rounding would depend on the other crops
            if view not in self.kept:
                self.keep(view, self.make_all(crop[None], device))
                self.known[view] = True
        assert self.blocks is not None
        rows = torch.tensor([0 if view is None else self.kept[view] for view in views])
        chosen = to_device(rows, device)
        return self.blocks.map(lambda block: block[chosen])

    def keep(self, view: View, target: StyleTarget) -> None:
        """Copy the target (1, ...) of a view into ``blocks``."""
        if self.blocks is None:
            self.blocks = target.map(lambda value: value.new_empty(self.most, *value.shape[1:]))
        row = self.kept[view] = len(self.kept)
        for block, value in zip(self.blocks.tensors().values(), target.tensors().values(), strict=True):
            block[row] = value[0]

    @torch.no_grad()
    def make_all(self, crops: Tensor, device: torch.device) -> StyleTarget:
        """Return the targets of crops (N, 2, Z, Z, 3) uint8, see ``samples.style_crops``, in one pass.

        (N, Z, Z, 3) if the encoder's input and the source of the targets are the same.
        """
        there = crops.to(device, non_blocking=True)
        encoder_crops, target_crops = (there, there) if crops.dim() == 4 else there.unbind(dim=1)
        pictures, strokes = to_tensor(encoder_crops, device), to_tensor(target_crops, device)
        vgg, encoder = self.frozen(device)
        taps = vgg(strokes) if self.with_grams or self.network.needs == "features" else {}
        grams = grams_at(self.scales, vgg, strokes, taps, vgg.style_layers) if self.with_grams else {}
        target = StyleTarget(
            {name: matrices.half() for name, matrices in grams.items()},
            palette=palette(pictures) if self.with_grams else None,
        )
        if self.train_trunk:
            return replace(target, picture=pictures)
        if self.network.needs == "features":
            return replace(target, features=taps[FEATURES])
        return target if encoder is None else replace(target, pooled=encoder.pooled(pictures))

    def frozen(self, device: torch.device) -> tuple[Vgg19, StyleEncoder | None]:
        """Return VGG and the style encoder with a frozen trunk, as they are called here: under autocast with
        convolutions of its type."""
        if self.train_trunk or not torch.is_autocast_enabled(device.type):
            return self.vgg, self.network.encoder
        dtype = torch.get_autocast_dtype(device.type)
        if dtype not in self.converted:
            encoder = self.network.encoder
            self.converted[dtype] = (
                with_convolutions_in(self.vgg, dtype),
                None if encoder is None else with_convolutions_in(encoder, dtype),
            )
        return self.converted[dtype]

    def style_input(
        self,
        target: StyleTarget | None,
        contents: Tensor,
        taps: dict[str, Tensor],
        own: Tensor | None = None,
        strengths: Tensor | None = None,
    ) -> Any:
        """Return the style input of ``StyleNetwork.forward`` for a batch.

        contents (N, 3, S, S) in 0..1; ``taps`` are their VGG features. ``own`` (N,) bool marks samples whose
        style is the content itself, none by default; ``strengths`` (N,) default to 1. Both are on the CPU, so
        that nothing waits for the device.
        """
        if self.network.needs == "nothing":
            return None
        if target is None:
            own = torch.ones(len(contents), dtype=torch.bool)
        with_own = own is not None and bool(own.any())
        if self.network.needs == "features":
            mine, given = taps[FEATURES], None if target is None else target.features
            marks = [False] * len(mine) if own is None else own.tolist()
            styles = [mine[row] if given is None or mark else given[row] for row, mark in enumerate(marks)]
            return mine, styles
        weak = strengths is not None and bool((strengths < 1).any())
        given = None if target is None else target.picture if self.train_trunk else target.pooled
        if given is not None and not weak and not with_own:
            return given
        side = EMBED_SIZE if target is None or target.picture is None else target.picture.shape[-1]
        mine = full = self._own(contents, side)
        if given is not None:
            full = given
            if own is not None and with_own:
                marked = to_device(own, contents.device).view(-1, *[1] * (given.dim() - 1))
                full = torch.where(marked, mine, given)
        if strengths is None or not weak:
            return full
        return InterpolatedStyle(mine, full, to_device(strengths, contents.device))

    @torch.no_grad()
    def _own(self, contents: Tensor, size: int) -> Tensor:
        """Return content crops (N, 3, S, S) as styles: resized pictures, or their pooled features.

        All of a batch are computed, even if only some are needed: with a shape that changes at every step
        cuDNN would search for the fastest algorithms at every step.
        """
        pictures = F.interpolate(contents, (size, size), mode="bilinear")
        if self.train_trunk:
            return pictures
        _, encoder = self.frozen(contents.device)
        assert encoder is not None
        pooled: Tensor = encoder.pooled(pictures)
        return pooled


def grams_at(
    scales: int,
    vgg: Callable[[Tensor], Mapping[str, Tensor]],
    pictures: Tensor,
    taps: Mapping[str, Tensor],
    layers: Sequence[str],
) -> dict[str, Tensor]:
    """Return Gram matrices of pictures (N, 3, H, W) in 0..1 at several scales, each half of the one before.

    ``taps`` are their features at full size. Keys are layer, layer@2, layer@4 ...; values are (N, C, C).
    """
    grams = {name: gram(taps[name]) for name in layers}
    for scale in (2**power for power in range(1, scales)):
        smaller = vgg(F.avg_pool2d(pictures, scale))
        grams |= {f"{name}@{scale}": gram(smaller[name]) for name in layers}
    return grams


def aligned(crops: Mapping[View, Tensor], views: Sequence[View | None]) -> Tensor:
    """Return the crop (2, Z, Z, 3) of every view, and the first crop in place of None: (N, 2, Z, Z, 3).

    This keeps the shape constant over steps, see ``StyleTargets._own``.
    """
    first = next(iter(crops.values()))
    return torch.stack([first if view is None else crops[view] for view in views])


@torch.inference_mode()
def stylize_pictures(
    network: StyleNetwork, vgg: Vgg19, photos: Sequence[Image], artwork: Image
) -> list[Image]:
    """Return images of one size (H, W, 3) in the style of one artwork (Z, Z, 3), with any injection."""
    device = next(network.parameters()).device
    targets = StyleTargets(network, vgg, 1, 1, train_trunk=False)
    target = targets.make_all(stack([artwork]), device)
    results = []
    for photo in photos:
        content = to_tensor(stack([photo]), device)
        taps = vgg(content) if network.needs == "features" else {}
        canvas = None
        if network.generator.config.canvas_bands:
            canvas = fixed_canvas(photo.shape[0], photo.shape[1], device)
        stylized = network(content, targets.style_input(target, content, taps), canvas)
        pixels = (stylized[0].float() * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
        results.append(np.asarray(pixels.cpu().numpy(), np.uint8))
    return results
