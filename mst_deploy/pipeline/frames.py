"""Frames in, stylized frames out, in order, for pictures and videos.

Each name is a stage with a thread of its own, the generator stays in the caller's:

    decode ─> prepare (resize, FiLM vector, mask) ─> paint ─> [steady] ─> compose (mix, colors, mask) ─>
    encode
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mst_deploy.backends import FilmBatch, Images, StylizeBackend
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import mix, pad_to_minimum, resize
from mst_deploy.model.canvas import Canvas, still_canvas
from mst_deploy.model.film import Blend, FilmParams
from mst_deploy.pipeline.contrast import painted_share
from mst_deploy.pipeline.threads import StageTimer, ThreadedPipeline
from mst_deploy.styles.masks import Mask
from mst_deploy.styles.plan import FramePlan, StylePlan
from mst_deploy.video.canvas import MovingCanvas

if TYPE_CHECKING:  # pictures and sizes need no PyAV
    from mst_deploy.video.deflicker import Deflicker
    from mst_deploy.video.reader import Frame

T = TypeVar("T")
Request = tuple[Images, FilmParams, Canvas | None]
"""A picture (H, W, 3), the FiLM vector (P,) it is painted with, and its canvas (H, W, 1)."""
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
class PreparedFrame:
    """A frame of the result's size, and what shall become of it."""

    frame: Frame
    frame_plan: FramePlan = field(repr=False)
    canvas: Canvas | None = field(default=None, repr=False)
    """(H, W, 1); None for a model without a canvas."""


@dataclass(frozen=True)
class StylizedFrame:
    """A frame with what the generator made of it."""

    prepared: PreparedFrame
    pictures: tuple[Images, ...] = field(repr=False)
    """One (H, W, 3) for each FiLM vector of the look."""

    def deflickered(self, deflicker_filter: Deflicker) -> StylizedFrame:
        """The same, made steady with the frames that ``deflicker_filter`` was given before."""
        return replace(self, pictures=deflicker_filter(self.prepared.frame.image, self.pictures))

    def shown(self) -> Frame:
        """The frame as the viewer gets it: painted, but for what has no contrast."""
        frame = self.prepared.frame
        image = self.prepared.frame_plan.compose(frame.image, self.pictures)
        if self.pictures:
            image = mix(frame.image, image, painted_share(frame.image))
        return replace(frame, image=image)


def stylize_image(
    image: Images, generator: StylizeBackend, blend: Blend | FilmParams, canvas: Canvas | None = None
) -> Images:
    """(H, W, 3) uint8 -> the same shape and type. Pictures below the minimum are padded and cropped.

    ``blend`` is a FiLM vector (P,) for a picture painted all over, or a row with its share of the result.
    ``canvas`` (H, W, 1) uint8 is that of a still if left out.
    """
    plain = blend if isinstance(blend, Blend) else Blend(blend)
    if canvas is None and generator.manifest.canvas_bands:
        canvas = still_canvas(*image.shape[:2])
    return _stylized(image, FramePlan(plain), generator, canvas)


def stylize_picture(
    image: Images, generator: StylizeBackend, style_plan: StylePlan, mask: Mask | None = None
) -> Images:
    """One picture (H, W, 3) uint8 with everything that a timeline says of its beginning."""
    height, width = image.shape[:2]
    still = mask.at(Fraction(0), width, height) if mask else None
    canvas = still_canvas(height, width, style_plan.timeline.seed) if style_plan.has_canvas else None
    return _stylized(image, style_plan.started_with(image).at(Fraction(0), still), generator, canvas)


def _stylized(
    image: Images, frame_plan: FramePlan, generator: StylizeBackend, canvas: Canvas | None
) -> Images:
    height, width = image.shape[:2]
    least = generator.manifest.min_size
    batch = np.ascontiguousarray(pad_to_minimum(image, least)[None])
    noise = None if canvas is None else pad_to_minimum(canvas, least)[None]
    painted = [generator(batch, film[None], noise)[0, :height, :width] for film in frame_plan.films]
    return frame_plan.compose(image, painted)


def depth_for(width: int, height: int) -> int:
    """How many frames of a size may wait between two stages: 64 MiB of them, 2 to 8."""
    return max(2, min(8, WAITING_BYTES // (3 * width * height)))


class FramePreparer:
    """Gives every frame its size and its look. Frames come in order; the first begins the film."""

    def __init__(
        self, style_plan: StylePlan, width: int, height: int, base: Fraction, mask: Mask | None = None
    ) -> None:
        self.style_plan, self.width, self.height, self.base, self.mask = style_plan, width, height, base, mask
        self.start: int | None = None
        self.canvas = MovingCanvas(height, width, style_plan.timeline.seed) if style_plan.has_canvas else None

    def plan(self, frames: Iterable[Frame], skip: int, meter: StageTimer) -> Iterator[PreparedFrame]:
        """What becomes of each frame after the first ``skip``.

        The very first one is looked at anyway; the canvas is moved along all of them, so that it is the same.
        """
        for index, frame in enumerate(frames):
            if 0 < index < skip and self.canvas is None:
                continue
            with meter.timing("prepare"):
                prepared = self(frame)
            if self.canvas is not None:
                with meter.timing("canvas"):
                    prepared = replace(prepared, canvas=self.canvas(prepared.frame.image))
            if index >= skip:
                yield prepared

    def __call__(self, frame: Frame) -> PreparedFrame:
        image = np.ascontiguousarray(resize(frame.image, self.width, self.height))
        if self.start is None:
            self.start = frame.pts
            self.style_plan = self.style_plan.started_with(image)
        time = (frame.pts - self.start) * self.base
        mask = self.mask.at(time, self.width, self.height) if self.mask else None
        alpha = None if frame.alpha is None else resize(frame.alpha, self.width, self.height)
        return PreparedFrame(replace(frame, image=image, alpha=alpha), self.style_plan.at(time, mask))


def paint(
    prepared: Iterable[PreparedFrame], generator: StylizeBackend, batch: int, meter: StageTimer
) -> Iterator[StylizedFrame]:
    """Frames through the generator, in order; a backend may overlap two.

    ``batch`` pictures go into each call; the last one is filled up, so that engines of one size do.
    Frames of which only the source is shown pass by.
    """
    for needed, group in groupby(prepared, lambda plan: bool(plan.frame_plan.films)):
        if needed:
            yield from _through(group, generator, batch, meter)
        else:
            yield from (StylizedFrame(plan, ()) for plan in group)


def _through(
    group: Iterator[PreparedFrame], generator: StylizeBackend, batch: int, meter: StageTimer
) -> Iterator[StylizedFrame]:
    under_way: deque[tuple[PreparedFrame, list[Images]]] = deque()

    least = generator.manifest.min_size

    def requests() -> Iterator[Request]:
        for plan in meter.each("paint", group, sign=-1):  # waiting happens inside the painting
            under_way.append((plan, []))
            image = pad_to_minimum(plan.frame.image, least)
            canvas = None if plan.canvas is None else pad_to_minimum(plan.canvas, least)
            yield from ((image, film, canvas) for film in plan.frame_plan.films)

    results = generator.stream(map(_stacked, batches(requests(), batch)))
    for stylized in meter.each("paint", results):
        for picture in stylized:
            if not under_way:
                break  # what the last batch was filled up with
            plan, pictures = under_way[0]
            height, width = plan.frame.image.shape[:2]
            pictures.append(picture[:height, :width])
            if len(pictures) == len(plan.frame_plan.films):
                under_way.popleft()
                yield StylizedFrame(plan, tuple(pictures))


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last is filled up with its last item."""
    while chunk := list(islice(items, size)):
        yield chunk + [chunk[-1]] * (size - len(chunk))


def _stacked(requests: Sequence[Request]) -> tuple[Images, FilmBatch, Canvas | None]:
    """One batch: (N, H, W, 3), (N, P) and, with a canvas, (N, H, W, 1)."""
    images, films, canvases = zip(*requests, strict=True)
    canvas = None if canvases[0] is None else np.stack(canvases)
    if len(images) == 1:
        return np.ascontiguousarray(images[0][None]), films[0][None], canvas
    return np.stack(images), np.stack(films), canvas


def stylize_frames(
    frames: Iterable[Frame],
    generator: StylizeBackend,
    preparer: FramePreparer,
    *,
    batch: int = 1,
    skip: int = 0,
    meter: StageTimer | None = None,
) -> abc.Generator[StylizedFrame, None, None]:
    """Painted frames in order, made ahead of their use in threads that end with the iterator.

    The first ``skip`` frames are read and left out. Errors of the frames' source and of the generator
    surface here. Close the iterator when leaving early.
    """
    check_batch(batch)
    meter = meter or StageTimer()
    with ThreadedPipeline(depth_for(preparer.width, preparer.height)) as line:
        decoded = line.prefetch("decode", meter.each("decode", frames))
        prepared = line.prefetch("prepare", preparer.plan(decoded, skip, meter))
        yield from paint(prepared, generator, batch, meter)


def check_batch(batch: int) -> None:
    """Raises InvalidArgument for a batch without pictures."""
    if batch < 1:
        raise InvalidArgument(f"a batch must have at least 1 picture, got {batch}")
