"""Optimization of a style's FiLM vector for the pictures that it will be used with.

The style encoder computes a FiLM vector from the artwork alone, so one vector has to serve every picture. The
style distance of a result depends on the picture, too: instance normalization amplifies a blank sky as much
as a crowd. Here gradient descent changes the vector, and nothing else, to minimize the distances of a few
given pictures. The networks do not change, and inference costs the same.

The distances are those of ``perceptual``, after Gatys et al. 2016 (CVPR). In a video, what moved with the
picture should look the same one frame later, too: the temporal loss of Ruder et al. 2016 (arXiv 1604.08610)
as used by Huang et al. 2017 (CVPR) for feed-forward networks, but not squared. Flat areas are kept even and
edges clean, as in training (``perceptual.artifacts``). The optimizer is Adam (Kingma & Ba 2015, arXiv
1412.6980) with small betas, since the steps are few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.backends import open_style_encoder
from mst_deploy.backends.pytorch import choose_device
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.images import Image, load_image
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.canvas_bands import white
from mst_deploy.model.checkpoints import digest, load_bundle
from mst_deploy.model.film import FilmLayout, FilmParams
from mst_deploy.model.networks import Generator
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.perceptual.artifacts import BLEED_CELLS, edge_fringe_loss, low_frequency_bleed_loss
from mst_deploy.perceptual.distances import (
    CONTENT_LAYER,
    as_tensor,
    content_distance,
    gram_target,
    style_distance,
)
from mst_deploy.perceptual.vgg import Vgg19, calibrate, find_vgg, load_vgg
from mst_deploy.styles.options import OptimizeOptions
from mst_deploy.styles.resolve import encode_film
from mst_deploy.styles.tuning_data import FramePair, is_blank
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.motion import Flow, estimate_flow, visible

BETAS = (0.8, 0.95)
CANVAS_CELLS = (32,)  # pixels: larger than the strokes made from a canvas
LAST_RATE = 0.2  # relative to the first rate
STRENGTH_POWER = 3.0  # exponent for ``OptimizeOptions.strengths``, as in the training recipes
LEVEL = 1 / 255  # one gray level, of pixels in 0..1
HALF_A_LEVEL = LEVEL / 2  # smoothing of the distance at 0: differences that rounding hides


@dataclass(frozen=True)
class Means:
    """Means over the frame pairs: distances (see ``perceptual``) and, for videos, the warping error."""

    style: float
    content: float
    flicker: float
    """RGB distance, 0..sqrt(3); 0 without following frames."""


@dataclass(frozen=True)
class OptimizedStyle:
    """An optimized FiLM vector, with the means before and after."""

    film: FilmParams = field(repr=False)
    """(P,) float32."""
    before: Means
    """Means with the given vector."""
    after: Means

    def describe(self) -> str:
        """Describe the gain in one line."""
        before, after = self.before, self.after
        text = f"style distance {before.style:.3f} -> {after.style:.3f}, content distance "
        text += f"{before.content:.3f} -> {after.content:.3f}"
        if before.flicker:
            text += f", flicker {before.flicker:.4f} -> {after.flicker:.4f}"
        return text


@dataclass(frozen=True)
class _Motion:
    """Motion from a frame to the next."""

    following: Tensor
    """(1, 3, H, W) in 0..1."""
    canvas: Tensor | None
    """Canvas of the following frame, see ``_Target.canvas``."""
    grid: Tensor
    """(1, H, W, 2): target of each pixel, in the coordinates of ``grid_sample``."""
    seen: Tensor
    """(1, 1, H, W): 1 where the pixel is still visible, else 0."""


@dataclass(frozen=True)
class _Target:
    picture: Tensor
    """(1, 3, H, W) in 0..1."""
    content: Tensor
    """Features of the picture at CONTENT_LAYER."""
    motion: _Motion | None
    own: Tensor | None
    """(1, P): FiLM vector of the picture itself, the start of the interpolation for strengths below 1."""
    canvas: Tensor | None
    """(1, 1, H, W): white noise for a generator with a canvas."""


def optimize_style(
    generator: Generator,
    film: FilmParams,
    frame_pairs: Sequence[FramePair],
    artwork: Image,
    vgg: Vgg19,
    how: OptimizeOptions | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
    own: Callable[[Image], FilmParams] | None = None,
) -> OptimizedStyle:
    """Optimize a FiLM vector (P,) for frame pairs of any sizes and an artwork (h, w, 3) uint8.

    ``generator`` and ``vgg`` are on one device; neither is changed. ``on_progress`` gets the number of
    finished steps. ``own`` encodes a picture's own FiLM vector; strengths below 1 need it. The returned means
    are of strength 1. Raises InvalidArgument without frame pairs, for pictures of one color, and if the
    weights are too large.
    """
    if not frame_pairs:
        raise InvalidArgument("an optimization needs at least one picture")
    if any(map(is_blank, frame_pairs)):
        raise InvalidArgument(
            "no style can be optimized for a picture of one color; give one that shows something"
        )
    how = how or OptimizeOptions()
    weakened = min(how.strengths) < 1
    if weakened and own is None:
        raise InvalidArgument("an optimization at strengths below 1 needs the pictures' own FiLM vectors")
    device = vgg.mean.device
    layout = generator.layout
    whole = torch.from_numpy(film[None].copy()).to(device)  # (1, P)
    gains = whole[:, layout.norm_size :]  # gains of the canvas: they are chosen, not optimized
    params = whole[:, : layout.norm_size].clone().requires_grad_(True)
    cells = CANVAS_CELLS if layout.canvas_bands else BLEED_CELLS
    with torch.no_grad():
        grams = gram_target(vgg(as_tensor(artwork).to(device)))
        targets = [_target(pair, vgg, layout, own if weakened else None) for pair in frame_pairs]
    strengths = cycle(how.strengths)
    optimizer = torch.optim.Adam([params], lr=how.rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, how.steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))

    def evaluate(targets: Sequence[_Target], *, learn: bool) -> Means:
        """Return the means with the current vector; with ``learn`` its gradient is set."""
        found = np.zeros(3)
        distance_gradient, temporal_gradient = torch.zeros_like(params), torch.zeros_like(params)
        for target in targets:  # one by one: a batch of large frames would need much memory
            strength = next(strengths) if learn else 1.0
            with torch.set_grad_enabled(learn), autocast:
                full = torch.cat([params, gains], dim=1)
                vector = full if target.own is None else torch.lerp(target.own, full, strength)
                stylized = generator(target.picture, vector, target.canvas)
                taps = vgg(stylized)
                style = style_distance(gram_target(taps), grams)[0]
                content = content_distance(taps[CONTENT_LAYER], target.content)[0]
                flicker = torch.zeros_like(style)
                if target.motion is not None:
                    following = generator(target.motion.following, vector, target.motion.canvas)
                    flicker = _flicker(stylized.float(), following.float(), target.motion)
                distance = how.style_weight * strength**STRENGTH_POWER * style + content
                if how.halo_weight:
                    distance = (
                        distance
                        + how.halo_weight * low_frequency_bleed_loss(stylized, target.picture, cells)[0]
                    )
                if how.fringe_weight:
                    distance = distance + how.fringe_weight * edge_fringe_loss(stylized, target.picture)[0]
                temporal_term = how.temporal_weight * (flicker / LEVEL).log1p() / len(targets)
            if learn and temporal_term.requires_grad:
                temporal_gradient += torch.autograd.grad(temporal_term, params, retain_graph=True)[0]
            if learn:
                distance_gradient += torch.autograd.grad(distance / len(targets), params)[0]
            found += np.array([style.item(), content.item(), flicker.item()]) / len(targets)
        if learn:
            params.grad = distance_gradient + limited(
                temporal_gradient, how.temporal_limit * distance_gradient.norm().clamp_min(1e-12)
            )
        return Means(*found.tolist())

    trainable = [parameter.requires_grad for parameter in generator.parameters()]
    generator.requires_grad_(False)
    try:
        all_at_once = len(targets) <= how.at_once
        before = None if all_at_once and not weakened else evaluate(targets, learn=False)
        turns = cycle(targets)
        for done in range(1, how.steps + 1):
            means = evaluate(targets if all_at_once else list(islice(turns, how.at_once)), learn=True)
            before = before or means
            optimizer.step()
            schedule.step()
            on_progress(done)
        assert before is not None
        if not torch.isfinite(params).all():
            raise InvalidArgument(
                f"the optimization diverged (not finite) with {how}; lower the rate or the weights"
            )
        after = evaluate(targets, learn=False)
    finally:
        for parameter, need in zip(generator.parameters(), trainable, strict=True):
            parameter.requires_grad_(need)
    return OptimizedStyle(torch.cat([params.detach(), gains], dim=1)[0].cpu().numpy(), before, after)


def limited(gradient: Tensor, most: Tensor) -> Tensor:
    """Return the gradient scaled down to a Euclidean length of at most ``most``."""
    share: Tensor = (most / gradient.norm().clamp_min(1e-12)).clamp_max(1.0)
    return gradient * share


def _target(
    pair: FramePair, vgg: Vgg19, layout: FilmLayout, own: Callable[[Image], FilmParams] | None
) -> _Target:
    device = vgg.mean.device
    picture = as_tensor(pair.frame).to(device)
    params = None
    if own is not None:
        params = torch.from_numpy(layout.without_canvas(own(pair.frame)))[None].to(device)
    moving = MovingCanvas(*pair.frame.shape[:2]) if layout.canvas_bands else None
    canvas = None if moving is None else _noise(moving(pair.frame), device)
    motion = _motion(pair, moving, device)
    return _Target(picture, vgg(picture)[CONTENT_LAYER], motion, params, canvas)


def _noise(canvas: Canvas, device: torch.device) -> Tensor:
    return white(torch.from_numpy(canvas)[None].to(device), torch.float32)


def _motion(pair: FramePair, moving: MovingCanvas | None, device: torch.device) -> _Motion | None:
    if pair.following is None:
        return None
    flow = estimate_flow(pair.frame, pair.following, "dis")
    seen = visible(flow, estimate_flow(pair.following, pair.frame, "dis"))
    return _Motion(
        as_tensor(pair.following).to(device),
        None if moving is None else _noise(moving(pair.following), device),
        _grid(flow).to(device),
        torch.from_numpy(seen)[None, None].to(device, torch.float32),
    )


def _grid(flow: Flow) -> Tensor:
    """Convert flow (H, W, 2) in pixels to a grid (1, H, W, 2); -1 and 1 are the centers of the outermost
    pixels."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    places = (columns + flow[..., 0]) / max(width - 1, 1), (rows + flow[..., 1]) / max(height - 1, 1)
    return torch.from_numpy(np.stack(places, axis=-1)[None] * 2 - 1).float()


def _flicker(stylized: Tensor, following: Tensor, motion: _Motion) -> Tensor:
    """Return the mean RGB distance of corresponding visible pixels; smooth at 0."""
    warped = F.grid_sample(following, motion.grid, padding_mode="border", align_corners=True)
    squares = (stylized - warped).square().sum(dim=1, keepdim=True)
    distance = (squares + HALF_A_LEVEL**2).sqrt() - HALF_A_LEVEL
    return (distance * motion.seen).sum() / motion.seen.sum().clamp_min(1.0)


class StyleOptimizer:
    """Optimizes FiLM vectors for the generator of one bundle, on one device.

    With a folder ``kept``, results are cached there by vector, pictures, artwork, options, model and VGG.
    Raises BackendError for a missing device.
    """

    def __init__(
        self,
        bundle: Bundle,
        vgg: Vgg19,
        device: str = "auto",
        how: OptimizeOptions | None = None,
        kept: Path | None = None,
    ) -> None:
        chosen = choose_device(device)
        self.how, self.kept = how or OptimizeOptions(), kept
        self.networks = f"{bundle.manifest.model_id} {digest(vgg)}"
        self.vgg = vgg.to(chosen)
        self.generator = load_bundle(bundle).generator.to(chosen)
        self.own = partial(encode_film, open_style_encoder(bundle, device="cpu"))
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)

    def __call__(
        self,
        film: FilmParams,
        frame_pairs: Sequence[FramePair],
        artwork: Image,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> OptimizedStyle:
        """Return the result of ``optimize_style``, from the cache if possible."""
        if self.kept is None:
            return self._optimize(film, frame_pairs, artwork, on_progress)
        path = self.kept / f"{self._name(film, frame_pairs, artwork)}.npz"
        found = _read_cached(path)
        if found is None:
            found = self._optimize(film, frame_pairs, artwork, on_progress)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, film=found.film, before=astuple(found.before), after=astuple(found.after))
        return found

    def _optimize(
        self,
        film: FilmParams,
        frame_pairs: Sequence[FramePair],
        artwork: Image,
        on_progress: Callable[[int], None],
    ) -> OptimizedStyle:
        return optimize_style(
            self.generator, film, frame_pairs, artwork, self.vgg, self.how, on_progress, self.own
        )

    def _name(self, film: FilmParams, frame_pairs: Sequence[FramePair], artwork: Image) -> str:
        """Return a digest of all that an optimized vector depends on."""
        pictures = [picture for pair in frame_pairs for picture in pair.pictures]
        arrays: list[NDArray[Any]] = [film, *pictures, artwork]
        shapes = [array.shape for array in arrays], [len(pair.pictures) for pair in frame_pairs]
        total = hashlib.sha256(repr((self.networks, self.how, shapes)).encode())
        for array in arrays:
            total.update(array.tobytes())
        return total.hexdigest()[:32]


def _read_cached(path: Path) -> OptimizedStyle | None:
    """Return a cached result; None if it is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file) as found:
            before, after = Means(*found["before"].tolist()), Means(*found["after"].tolist())
            return OptimizedStyle(np.asarray(found["film"], np.float32), before, after)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def normalized_vgg(path: Path | None, scales: Path | None) -> Vgg19:
    """Return VGG-19, normalized by the given factors or else on the shipped photographs.

    The weights are calibrated for a normalized network, and the few pictures at hand cannot normalize it:
    many channels hardly respond to them, and their noise would be amplified. ``path`` None selects
    torchvision's, which is downloaded once. Raises InputError.
    """
    vgg = load_vgg(find_vgg(path), scales)
    if scales is None:
        calibrate(vgg, map(as_tensor, map(load_image, shipped_photographs())))
    return vgg


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has bfloat16 arithmetic; otherwise it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # exists in recent versions of PyTorch
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
