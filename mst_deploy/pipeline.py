"""Frames in, stylised frames out, in order, for pictures and videos.

Each name is a stage with a thread of its own, the generator stays in the caller's:

    decode ─> prepare (resize, film row, mask) ─> paint ─> [steady] ─> compose (mix, colours, mask) ─> encode
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mst_deploy.backends import Films, Generator, Images
from mst_deploy.errors import InvalidArgument
from mst_deploy.film import Film, Look
from mst_deploy.images import pad_to_minimum, resize
from mst_deploy.looks.looks import FrameLook, Looks
from mst_deploy.looks.masks import Mask
from mst_deploy.stages import Line, Meter

if TYPE_CHECKING:  # pictures and sizes need no PyAV
    from mst_deploy.video.reader import Frame
    from mst_deploy.video.steady import Steadier

T = TypeVar("T")
WAITING_BYTES = 64 * 2**20  # pictures between two stages


@dataclass(frozen=True)
class Size:
    """A wanted picture size: exactly width x height, or a short side that keeps the shape."""

    width: int | None = None
    height: int | None = None
    short_side: int | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """``640x360`` or ``360``. Raises InvalidArgument."""
        parts = text.lower().split("x")
        if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 16384 for part in parts):
            parts = []
        if len(parts) == 1:
            return cls(short_side=int(parts[0]))
        if len(parts) == 2:
            return cls(width=int(parts[0]), height=int(parts[1]))
        raise InvalidArgument(
            f"cannot use {text!r} as a size: give WIDTHxHEIGHT (640x360) or the short side (360), "
            "in pixels from 1 to 16384"
        )

    def applied(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) for a picture of the given one; a kept shape is rounded to even numbers."""
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.short_side is None or self.short_side == min(width, height):
            return width, height
        scale = self.short_side / min(width, height)
        wide, high = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
        return wide, high


@dataclass(frozen=True)
class Planned:
    """A frame of the result's size, and what shall become of it."""

    frame: Frame
    look: FrameLook = field(repr=False)


@dataclass(frozen=True)
class Painted:
    """A frame with what the generator made of it."""

    planned: Planned
    pictures: tuple[Images, ...] = field(repr=False)
    """One (H, W, 3) for each film row of the look."""

    def steadied(self, steadier: Steadier) -> Painted:
        """The same, made steady with the frames that ``steadier`` was given before."""
        return replace(self, pictures=steadier(self.planned.frame.image, self.pictures))

    def shown(self) -> Frame:
        """The frame as the viewer gets it."""
        frame = self.planned.frame
        return replace(frame, image=self.planned.look.compose(frame.image, self.pictures))


def stylize_image(image: Images, generator: Generator, look: Look | Film) -> Images:
    """(H, W, 3) uint8 -> the same shape and type. Pictures below the minimum are padded and cropped.

    ``look`` is a film row (P,) for a picture painted all over, or a row with its share of the result.
    """
    plain = look if isinstance(look, Look) else Look(look)
    return _painted(image, FrameLook(plain), generator)


def stylize_picture(image: Images, generator: Generator, looks: Looks, mask: Mask | None = None) -> Images:
    """One picture (H, W, 3) uint8 with everything that a timeline says of its beginning."""
    height, width = image.shape[:2]
    still = mask.at(Fraction(0), width, height) if mask else None
    return _painted(image, looks.begun(image).at(Fraction(0), still), generator)


def _painted(image: Images, look: FrameLook, generator: Generator) -> Images:
    height, width = image.shape[:2]
    batch = np.ascontiguousarray(pad_to_minimum(image, generator.manifest.min_size)[None])
    return look.compose(image, [generator(batch, film[None])[0, :height, :width] for film in look.films])


def depth_for(width: int, height: int) -> int:
    """How many frames of a size may wait between two stages: 64 MiB of them, 2 to 8."""
    return max(2, min(8, WAITING_BYTES // (3 * width * height)))


class Planner:
    """Gives every frame its size and its look. Frames come in order; the first begins the film."""

    def __init__(
        self, looks: Looks, width: int, height: int, base: Fraction, mask: Mask | None = None
    ) -> None:
        self.looks, self.width, self.height, self.base, self.mask = looks, width, height, base, mask
        self.start: int | None = None

    def plan(self, frames: Iterable[Frame], skip: int, meter: Meter) -> Iterator[Planned]:
        """What becomes of each frame after the first ``skip``; the very first one is looked at anyway."""
        for index, frame in enumerate(frames):
            if 0 < index < skip:
                continue
            with meter.working("prepare"):
                planned = self(frame)
            if index >= skip:
                yield planned

    def __call__(self, frame: Frame) -> Planned:
        image = np.ascontiguousarray(resize(frame.image, self.width, self.height))
        if self.start is None:
            self.start = frame.pts
            self.looks = self.looks.begun(image)
        time = (frame.pts - self.start) * self.base
        mask = self.mask.at(time, self.width, self.height) if self.mask else None
        return Planned(replace(frame, image=image), self.looks.at(time, mask))


def paint(planned: Iterable[Planned], generator: Generator, batch: int, meter: Meter) -> Iterator[Painted]:
    """Frames through the generator, in order; a backend may overlap two.

    ``batch`` pictures go into each call; the last one is filled up, so that engines of one size do.
    Frames of which only the source is shown pass by.
    """
    for needed, group in groupby(planned, lambda plan: bool(plan.look.films)):
        if needed:
            yield from _through(group, generator, batch, meter)
        else:
            yield from (Painted(plan, ()) for plan in group)


def _through(group: Iterator[Planned], generator: Generator, batch: int, meter: Meter) -> Iterator[Painted]:
    under_way: deque[tuple[Planned, list[Images]]] = deque()

    def requests() -> Iterator[tuple[Images, Film]]:
        for plan in meter.each("paint", group, sign=-1):  # waiting happens inside the painting
            under_way.append((plan, []))
            image = pad_to_minimum(plan.frame.image, generator.manifest.min_size)
            yield from ((image, film) for film in plan.look.films)

    results = generator.stream(map(_stacked, batches(requests(), batch)))
    for stylized in meter.each("paint", results):
        for picture in stylized:
            if not under_way:
                break  # what the last batch was filled up with
            plan, pictures = under_way[0]
            height, width = plan.frame.image.shape[:2]
            pictures.append(picture[:height, :width])
            if len(pictures) == len(plan.look.films):
                under_way.popleft()
                yield Painted(plan, tuple(pictures))


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last is filled up with its last item."""
    while chunk := list(islice(items, size)):
        yield chunk + [chunk[-1]] * (size - len(chunk))


def _stacked(requests: Sequence[tuple[Images, Film]]) -> tuple[Images, Films]:
    """One batch: (N, H, W, 3) and (N, P)."""
    images, films = zip(*requests, strict=True)
    if len(images) == 1:
        return np.ascontiguousarray(images[0][None]), films[0][None]
    return np.stack(images), np.stack(films)


def stylize_frames(
    frames: Iterable[Frame],
    generator: Generator,
    planner: Planner,
    *,
    batch: int = 1,
    skip: int = 0,
    meter: Meter | None = None,
) -> abc.Generator[Painted, None, None]:
    """Painted frames in order, made ahead of their use in threads that end with the iterator.

    The first ``skip`` frames are read and left out. Errors of the frames' source and of the generator
    surface here. Close the iterator when leaving early.
    """
    check_batch(batch)
    meter = meter or Meter()
    with Line(depth_for(planner.width, planner.height)) as line:
        decoded = line.ahead("decode", meter.each("decode", frames))
        planned = line.ahead("prepare", planner.plan(decoded, skip, meter))
        yield from paint(planned, generator, batch, meter)


def check_batch(batch: int) -> None:
    """Raises InvalidArgument for a batch without pictures."""
    if batch < 1:
        raise InvalidArgument(f"a batch must have at least 1 picture, got {batch}")
