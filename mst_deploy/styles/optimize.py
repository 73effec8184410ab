"""Tuning: a style's FiLM vector, fitted to the pictures that will be painted with it.

The style encoder reads a FiLM vector off the artwork alone, so one row has to do for every picture. How near
a result comes to the artwork depends on the picture, too: instance normalization makes as much of a
blank sky as of a crowd. Here gradient descent moves the row, and nothing else, until a few given pictures
meet the artwork. The networks stay what they are, and painting costs what it did.

The distances are those of ``perceptual``, after Gatys et al. 2016 (CVPR). In a video, what moved with the
picture should look the same one frame later, too: the temporal loss of Ruder et al. 2016 (arXiv 1604.08610)
as Huang et al. 2017 (CVPR) take it for feed-forward networks, but not squared. Flat areas are kept even and
edges clean, as in training (``halos``). The optimizer is Adam (Kingma & Ba 2015, arXiv 1412.6980) with short
memories, since the steps are few.
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
from mst_deploy.styles.resolve import encode_film
from mst_deploy.styles.tuning_data import FramePair, is_blank
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.motion import Flow, estimate_flow, visible

BETAS = (0.8, 0.95)
CANVAS_CELLS = (32,)  # pixels: larger than the strokes that a canvas is painted into
LAST_RATE = 0.2  # of the first
STRENGTH_POWER = 3.0  # of ``OptimizeOptions.strengths``; the recipes train with the same
LEVEL = 1 / 255  # pixels in 0..1
HALF_A_LEVEL = LEVEL / 2  # in 0..1: what rounding hides


@dataclass(frozen=True)
class OptimizeOptions:
    """How a FiLM vector is tuned."""

    steps: int = 16
    style_weight: float = 4.0
    """Of the style distance against the content distance (``perceptual``)."""
    halo_weight: float = 1_500.0
    """Of ``low_frequency_bleed_loss``: seams along edges and clouds in flat areas."""
    fringe_weight: float = 1_000.0
    """Of ``edge_fringe_loss``: light and colored lines along edges."""
    temporal_weight: float = 0.6
    """Of log(1 + flicker in gray levels), flicker being the warping error: the mean RGB distance between what
    a frame and the next show of the same things. To halve it is worth as much in a noisy clip as in a calm
    one."""
    temporal_limit: float = 0.5
    """How long the gradient against flicker may be beside that of the distances. Below 1 it cannot turn them
    back, and the picture does not lose the painting; infinity is no limit."""
    at_once: int = 3
    """Moments that one step looks at; where there are more, they take turns."""
    strengths: tuple[float, ...] = (1.0,)
    """At which they are painted, in turn (see ``film.with_strength``). A row that was fitted at 1 alone may
    lie where the way to it leads through worse pictures. Below 1 the style weighs its weight times strength
    to the power STRENGTH_POWER, as in training."""
    rate: float = 0.04
    """First step of every number of the row; it falls to a fifth of this."""

    def __post_init__(self) -> None:
        counts = self.steps, self.at_once
        weights = (
            self.style_weight,
            self.halo_weight,
            self.fringe_weight,
            self.temporal_weight,
            self.temporal_limit,
        )
        possible = all(0 < strength <= 1 for strength in self.strengths) and self.strengths
        if min(counts) < 1 or not all(weight >= 0 for weight in weights) or not self.rate > 0 or not possible:
            raise InvalidArgument(
                "tuning needs steps, weights of 0 or more, a positive rate and strengths above 0 and up to "
                f"1, got {self}"
            )


FOR_ALL = OptimizeOptions(
    style_weight=8.0, halo_weight=6_000.0, fringe_weight=4_000.0, strengths=(1.0, 0.9, 0.8)
)
"""For the shipped photographs, which stand for all. A style can be turned down by the strength, not up."""


@dataclass(frozen=True)
class Means:
    """Means over the moments: distances (see ``perceptual``) and, for videos, the warping error."""

    style: float
    content: float
    flicker: float
    """RGB distance, 0..sqrt(3); 0 where nothing follows."""


@dataclass(frozen=True)
class OptimizedStyle:
    """A FiLM vector and what it gained."""

    film: FilmParams = field(repr=False)
    """(P,) float32."""
    before: Means
    """With the row that was given."""
    after: Means

    def words(self) -> str:
        """What it gained, in a line for people."""
        before, after = self.before, self.after
        told = f"style distance {before.style:.3f} -> {after.style:.3f}, content distance "
        told += f"{before.content:.3f} -> {after.content:.3f}"
        if before.flicker:
            told += f", flicker {before.flicker:.4f} -> {after.flicker:.4f}"
        return told


@dataclass(frozen=True)
class _Motion:
    """From a frame to the next."""

    following: Tensor
    """(1, 3, H, W) in 0..1."""
    canvas: Tensor | None
    """Of the following frame, see ``_Target.canvas``."""
    grid: Tensor
    """(1, H, W, 2): where each pixel went, as ``grid_sample`` takes it."""
    seen: Tensor
    """(1, 1, H, W): 1 where it can still be seen."""


@dataclass(frozen=True)
class _Target:
    picture: Tensor
    """(1, 3, H, W) in 0..1."""
    content: Tensor
    """Its features at CONTENT_LAYER."""
    motion: _Motion | None
    own: Tensor | None
    """(1, P): its own FiLM vector, from which strengths below 1 begin."""
    canvas: Tensor | None
    """(1, 1, H, W): white noise for a generator that paints from a canvas."""


def optimize_style(
    generator: Generator,
    film: FilmParams,
    moments: Sequence[FramePair],
    artwork: Image,
    vgg: Vgg19,
    how: OptimizeOptions | None = None,
    tell: Callable[[int], None] = lambda done: None,
    own: Callable[[Image], FilmParams] | None = None,
) -> OptimizedStyle:
    """Fit a FiLM vector (P,) to moments of any sizes and an artwork (h, w, 3) uint8.

    ``generator`` and ``vgg`` are on one device; neither is changed. ``tell`` gets the number of steps done.
    ``own`` reads a picture's own FiLM vector off it; strengths below 1 need it. What is told is of strength
    1. Raises InvalidArgument without moments, for pictures of one color, and where weights are too large.
    """
    if not moments:
        raise InvalidArgument("tuning needs at least one picture")
    if any(map(is_blank, moments)):
        raise InvalidArgument("a picture of one color cannot be tuned to; give one that shows something")
    how = how or OptimizeOptions()
    turned_down = min(how.strengths) < 1
    if turned_down and own is None:
        raise InvalidArgument("tuning at strengths below 1 needs the pictures' own FiLM vectors")
    device = vgg.mean.device
    layout = generator.layout
    whole = torch.from_numpy(film[None].copy()).to(device)  # (1, P)
    gains = whole[:, layout.norm_size :]  # of the canvas: they are chosen, not tuned
    row = whole[:, : layout.norm_size].clone().requires_grad_(True)
    cells = CANVAS_CELLS if layout.canvas_bands else BLEED_CELLS
    with torch.no_grad():
        grams = gram_target(vgg(as_tensor(artwork).to(device)))
        targets = [_target(moment, vgg, layout, own if turned_down else None) for moment in moments]
    strengths = cycle(how.strengths)
    optimizer = torch.optim.Adam([row], lr=how.rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, how.steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))

    def look(targets: Sequence[_Target], *, learn: bool) -> Means:
        """Means with the present row; with ``learn`` the gradient is left in it."""
        found = np.zeros(3)
        nearer, calmer = torch.zeros_like(row), torch.zeros_like(row)
        for target in targets:  # one by one: a batch of large frames would need much memory
            strength = next(strengths) if learn else 1.0
            with torch.set_grad_enabled(learn), autocast:
                full = torch.cat([row, gains], dim=1)
                turned = full if target.own is None else torch.lerp(target.own, full, strength)
                painted = generator(target.picture, turned, target.canvas)
                taps = vgg(painted)
                style = style_distance(gram_target(taps), grams)[0]
                content = content_distance(taps[CONTENT_LAYER], target.content)[0]
                flicker = torch.zeros_like(style)
                if target.motion is not None:
                    following = generator(target.motion.following, turned, target.motion.canvas)
                    flicker = _flicker(painted.float(), following.float(), target.motion)
                distance = how.style_weight * strength**STRENGTH_POWER * style + content
                if how.halo_weight:
                    distance = (
                        distance
                        + how.halo_weight * low_frequency_bleed_loss(painted, target.picture, cells)[0]
                    )
                if how.fringe_weight:
                    distance = distance + how.fringe_weight * edge_fringe_loss(painted, target.picture)[0]
                unrest = how.temporal_weight * (flicker / LEVEL).log1p() / len(targets)
            if learn and unrest.requires_grad:
                calmer += torch.autograd.grad(unrest, row, retain_graph=True)[0]
            if learn:
                nearer += torch.autograd.grad(distance / len(targets), row)[0]
            found += np.array([style.item(), content.item(), flicker.item()]) / len(targets)
        if learn:
            row.grad = nearer + limited(calmer, how.temporal_limit * nearer.norm().clamp_min(1e-12))
        return Means(*found.tolist())

    wanted = [parameter.requires_grad for parameter in generator.parameters()]
    generator.requires_grad_(False)
    try:
        every = len(targets) <= how.at_once
        before = None if every and not turned_down else look(targets, learn=False)
        turns = cycle(targets)
        for done in range(1, how.steps + 1):
            means = look(targets if every else list(islice(turns, how.at_once)), learn=True)
            before = before or means
            optimizer.step()
            schedule.step()
            tell(done)
        assert before is not None
        if not torch.isfinite(row).all():
            raise InvalidArgument(f"tuning came to no numbers with {how}; lower the rate or the weights")
        after = look(targets, learn=False)
    finally:
        for parameter, need in zip(generator.parameters(), wanted, strict=True):
            parameter.requires_grad_(need)
    return OptimizedStyle(torch.cat([row.detach(), gains], dim=1)[0].cpu().numpy(), before, after)


def limited(gradient: Tensor, most: Tensor) -> Tensor:
    """The same direction, with a Euclidean length of ``most`` at most."""
    share: Tensor = (most / gradient.norm().clamp_min(1e-12)).clamp_max(1.0)
    return gradient * share


def _target(
    moment: FramePair, vgg: Vgg19, layout: FilmLayout, own: Callable[[Image], FilmParams] | None
) -> _Target:
    device = vgg.mean.device
    picture = as_tensor(moment.frame).to(device)
    row = None
    if own is not None:
        row = torch.from_numpy(layout.without_canvas(own(moment.frame)))[None].to(device)
    moving = MovingCanvas(*moment.frame.shape[:2]) if layout.canvas_bands else None
    canvas = None if moving is None else _noise(moving(moment.frame), device)
    motion = _motion(moment, moving, device)
    return _Target(picture, vgg(picture)[CONTENT_LAYER], motion, row, canvas)


def _noise(canvas: Canvas, device: torch.device) -> Tensor:
    return white(torch.from_numpy(canvas)[None].to(device), torch.float32)


def _motion(moment: FramePair, moving: MovingCanvas | None, device: torch.device) -> _Motion | None:
    if moment.following is None:
        return None
    flow = estimate_flow(moment.frame, moment.following, "dis")
    seen = visible(flow, estimate_flow(moment.following, moment.frame, "dis"))
    return _Motion(
        as_tensor(moment.following).to(device),
        None if moving is None else _noise(moving(moment.following), device),
        _grid(flow).to(device),
        torch.from_numpy(seen)[None, None].to(device, torch.float32),
    )


def _grid(flow: Flow) -> Tensor:
    """(H, W, 2) pixels -> (1, H, W, 2), -1 and 1 being the centers of the outermost pixels."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    places = (columns + flow[..., 0]) / max(width - 1, 1), (rows + flow[..., 1]) / max(height - 1, 1)
    return torch.from_numpy(np.stack(places, axis=-1)[None] * 2 - 1).float()


def _flicker(painted: Tensor, following: Tensor, motion: _Motion) -> Tensor:
    """Mean RGB distance where both frames show the same; smooth at 0."""
    warped = F.grid_sample(following, motion.grid, padding_mode="border", align_corners=True)
    squares = (painted - warped).square().sum(dim=1, keepdim=True)
    distance = (squares + HALF_A_LEVEL**2).sqrt() - HALF_A_LEVEL
    return (distance * motion.seen).sum() / motion.seen.sum().clamp_min(1.0)


class StyleOptimizer:
    """Tunes rows for the generator of one bundle, on one device.

    With a folder, what was tuned is kept there and not made again for the same row, pictures, artwork,
    settings, model and VGG. Raises BackendError for a device that is not there.
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
        moments: Sequence[FramePair],
        artwork: Image,
        tell: Callable[[int], None] = lambda done: None,
    ) -> OptimizedStyle:
        """As ``optimize_style``, or read from the folder if it is there and can be read."""
        if self.kept is None:
            return self._tuned(film, moments, artwork, tell)
        path = self.kept / f"{self._name(film, moments, artwork)}.npz"
        found = _read_row(path)
        if found is None:
            found = self._tuned(film, moments, artwork, tell)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, film=found.film, before=astuple(found.before), after=astuple(found.after))
        return found

    def _tuned(
        self, film: FilmParams, moments: Sequence[FramePair], artwork: Image, tell: Callable[[int], None]
    ) -> OptimizedStyle:
        return optimize_style(self.generator, film, moments, artwork, self.vgg, self.how, tell, self.own)

    def _name(self, film: FilmParams, moments: Sequence[FramePair], artwork: Image) -> str:
        """A digest of all that a tuned row depends on."""
        pictures = [picture for moment in moments for picture in moment.pictures]
        arrays: list[NDArray[Any]] = [film, *pictures, artwork]
        shapes = [array.shape for array in arrays], [len(moment.pictures) for moment in moments]
        total = hashlib.sha256(repr((self.networks, self.how, shapes)).encode())
        for array in arrays:
            total.update(array.tobytes())
        return total.hexdigest()[:32]


def _read_row(path: Path) -> OptimizedStyle | None:
    """A row that was kept; None where there is none, or where the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as found:
            before, after = Means(*found["before"].tolist()), Means(*found["after"].tolist())
            return OptimizedStyle(np.asarray(found["film"], np.float32), before, after)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def normalized_vgg(path: Path | None, scales: Path | None) -> Vgg19:
    """VGG-19, normalized by the given factors or else on the shipped photographs.

    What a weight means depends on it, and so does what becomes of the picture: to the few pictures at hand
    many channels hardly respond, and their noise would count for much. ``path`` None takes torchvision's,
    which is downloaded once. Raises InputError.
    """
    vgg = load_vgg(find_vgg(path), scales)
    if scales is None:
        calibrate(vgg, map(as_tensor, map(load_image, shipped_photographs())))
    return vgg


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of recent versions of PyTorch
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
