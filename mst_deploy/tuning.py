"""Tuning: a style's film row, fitted to the pictures that will be painted with it.

The style encoder reads a film row off the artwork alone, so one row has to do for every picture. How near a
result comes to the artwork depends on the picture, too: instance normalisation makes as much of a
blank sky as of a crowd. Here gradient descent moves the row, and nothing else, until a few given pictures
meet the artwork. The networks stay what they are, and painting costs what it did.

The distances are those of ``perceptual``, after Gatys et al. 2016 (CVPR); the optimiser is Adam (Kingma & Ba
2015, arXiv 1412.6980) with short memories, since the steps are few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.backends.pytorch import choose_device
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.film import Film
from mst_deploy.images import IMAGE_SUFFIXES, Image, load_image, resize_short_side
from mst_deploy.manifest import Bundle
from mst_deploy.networks import Generator
from mst_deploy.perceptual import CONTENT_LAYER, as_tensor, content_distance, gram_target, style_distance
from mst_deploy.vgg import Vgg19, calibrate, find_vgg, load_vgg
from mst_deploy.video.info import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.spans import Span
from mst_deploy.weights import load_bundle

BETAS = (0.8, 0.95)
LAST_RATE = 0.2  # of the first


@dataclass(frozen=True)
class Tuning:
    """How a film row is tuned."""

    steps: int = 16
    style_weight: float = 4.0
    """Of the style distance against the content distance (``perceptual``)."""
    rate: float = 0.04
    """First step of every number of the row; it falls to a fifth of this."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.style_weight < 0 or self.rate <= 0:
            raise InvalidArgument(
                f"tuning needs steps, a style weight of 0 or more and a positive rate, got {self}"
            )


@dataclass(frozen=True)
class Means:
    """Mean distances over the pictures; see ``perceptual``."""

    style: float
    content: float


@dataclass(frozen=True)
class Tuned:
    """A film row and what it gained."""

    film: Film = field(repr=False)
    """(P,) float32."""
    before: Means
    """With the row that was given."""
    after: Means


@dataclass(frozen=True)
class _Target:
    picture: Tensor
    """(1, 3, H, W) in 0..1."""
    content: Tensor
    """Its features at CONTENT_LAYER."""


def tune(
    generator: Generator,
    film: Film,
    pictures: Sequence[Image],
    artwork: Image,
    vgg: Vgg19,
    how: Tuning | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Tuned:
    """Fit a film row (P,) to pictures (H, W, 3) of any sizes and an artwork (h, w, 3), all uint8.

    ``generator`` and ``vgg`` are on one device; neither is changed. ``tell`` gets the number of steps done.
    Raises InvalidArgument without pictures.
    """
    if not pictures:
        raise InvalidArgument("tuning needs at least one picture")
    how = how or Tuning()
    device = vgg.mean.device
    row = torch.from_numpy(film[None].copy()).to(device).requires_grad_(True)  # (1, P)
    with torch.no_grad():
        grams = gram_target(vgg(as_tensor(artwork).to(device)))
        inputs = [as_tensor(picture).to(device) for picture in pictures]
        targets = [_Target(picture, vgg(picture)[CONTENT_LAYER]) for picture in inputs]
    optimizer = torch.optim.Adam([row], lr=how.rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, how.steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))

    def distances(learn: bool) -> Means:
        """Means with the present row; with ``learn`` the gradient is left in it."""
        found = np.zeros(2)
        for target in targets:  # one by one: a batch of large frames would need much memory
            with torch.set_grad_enabled(learn), autocast:
                taps = vgg(generator(target.picture, row))
                style = style_distance(gram_target(taps), grams)[0]
                content = content_distance(taps[CONTENT_LAYER], target.content)[0]
                total = (how.style_weight * style + content) / len(targets)
            if learn:
                total.backward()  # type: ignore[no-untyped-call]
            found += np.array([style.item(), content.item()]) / len(targets)
        return Means(*found.tolist())

    wanted = [parameter.requires_grad for parameter in generator.parameters()]
    generator.requires_grad_(False)
    try:
        before = None
        for done in range(1, how.steps + 1):
            optimizer.zero_grad()
            means = distances(learn=True)
            before = before or means
            optimizer.step()
            schedule.step()
            tell(done)
        assert before is not None
        after = distances(learn=False)
    finally:
        for parameter, need in zip(generator.parameters(), wanted, strict=True):
            parameter.requires_grad_(need)
    return Tuned(row.detach()[0].cpu().numpy(), before, after)


class Tuner:
    """Tunes rows for the generator of one bundle, on one device.

    With a folder, rows are kept there and not made again for the same row, pictures, artwork and settings.
    Raises BackendError for a device that is not there.
    """

    def __init__(
        self,
        bundle: Bundle,
        vgg: Vgg19,
        device: str = "auto",
        how: Tuning | None = None,
        kept: Path | None = None,
    ) -> None:
        chosen = choose_device(device)
        self.how, self.kept, self.model_id = how or Tuning(), kept, bundle.manifest.model_id
        self.vgg = vgg.to(chosen)
        self.generator = load_bundle(bundle).generator.to(chosen)
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)

    def __call__(
        self,
        film: Film,
        pictures: Sequence[Image],
        artwork: Image,
        tell: Callable[[int], None] = lambda done: None,
    ) -> Tuned:
        """As ``tune``."""
        return tune(self.generator, film, pictures, artwork, self.vgg, self.how, tell)

    def row(self, film: Film, pictures: Sequence[Image], artwork: Image) -> Film:
        """The tuned row alone, (P,) float32; read from the folder if it is there."""
        if self.kept is None:
            return self(film, pictures, artwork).film
        arrays: list[NDArray[Any]] = [film, *pictures, artwork]
        digest = hashlib.sha256(repr((self.model_id, self.how, [a.shape for a in arrays])).encode())
        for array in arrays:
            digest.update(array.tobytes())
        path = self.kept / f"{digest.hexdigest()[:32]}.npy"
        if not path.exists():
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, self(film, pictures, artwork).film)
        return np.asarray(np.load(path), np.float32)


def normalised_vgg(path: Path | None, scales: Path | None, pictures: Sequence[Image]) -> Vgg19:
    """VGG-19, normalised by the given factors or else on ``pictures``: what a weight means depends on it.

    ``path`` None takes torchvision's, which is downloaded once. Raises InputError.
    """
    vgg = load_vgg(find_vgg(path), scales)
    if scales is None:
        calibrate(vgg, map(as_tensor, pictures))
    return vgg


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of recent versions of PyTorch
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def pictures_of(path: Path, count: int, size: int) -> list[Image]:
    """A picture, or ``count`` frames evenly spread over a video; the short side is ``size`` at most.

    Raises InputError for what is neither.
    """
    found = [load_image(path)] if path.suffix.lower() in IMAGE_SUFFIXES else _frames(path, count)
    return [
        picture if min(picture.shape[:2]) <= size else resize_short_side(picture, size) for picture in found
    ]


def _frames(path: Path, count: int) -> list[Image]:
    with VideoReader(path) as reader:
        info = reader.info
        found = [frame.image for frame in islice(reader, 1)]
    every = info.frames / info.rate / count  # seconds
    for number in range(1, count):
        try:
            with VideoReader(path, ReadOptions(Span(start=every * number))) as reader:
                found += [frame.image for frame in islice(reader, 1)]
        except InputError:
            break  # the container promised more than there is; the start is known to be readable
    return found
