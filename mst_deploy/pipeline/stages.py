"""The stages between decoding and encoding: prepare, infer, deflicker, compose. ``render`` joins them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mst_deploy.backends import FilmBatch, Images, StylizeBackend
from mst_deploy.images import check_image, mix, pad_to_minimum, resize
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.film import FilmParams
from mst_deploy.pipeline.contrast import stylized_opacity
from mst_deploy.pipeline.threads import StageTimer
from mst_deploy.styles.masks import Mask
from mst_deploy.styles.plan import FramePlan, StylePlan
from mst_deploy.video.canvas import CanvasState, MovingCanvas

if TYPE_CHECKING:  # pictures and sizes need no PyAV
    from mst_deploy.video.deflicker import Deflicker
    from mst_deploy.video.info import Frame

T = TypeVar("T")
Request = tuple[Images, FilmParams, Canvas | None]
"""A picture (H, W, 3) uint8, its FiLM vector (P,) float32, and its canvas (H, W, 1) uint8."""


@dataclass(frozen=True)
class PreparedFrame:
    """A frame of the result's size, with its plan."""

    frame: Frame
    frame_plan: FramePlan = field(repr=False)
    canvas: Canvas | None = field(default=None, repr=False)
    """(H, W, 1); None for a model without a canvas."""


@dataclass(frozen=True)
class StylizedFrame:
    """A frame with its stylized pictures."""

    prepared: PreparedFrame
    pictures: tuple[Images, ...] = field(repr=False)
    """One (H, W, 3) uint8 for each FiLM vector of the plan."""

    def deflickered(self, deflicker_filter: Deflicker) -> StylizedFrame:
        """Return the same, averaged with the frames that ``deflicker_filter`` was given before."""
        return replace(self, pictures=deflicker_filter(self.prepared.frame.image, self.pictures))

    def compose(self) -> Frame:
        """Return the frame of the result: mixed with its source, masked, its colors kept, according to the
        plan. Frames without contrast are shown as they are."""
        frame = self.prepared.frame
        image = self.prepared.frame_plan.compose(frame.image, self.pictures)
        if self.pictures:
            image = mix(frame.image, image, stylized_opacity(frame.image))
        return replace(frame, image=image)


class FramePreparer:
    """Prepares every frame: its size, its plan and its canvas. Frames come in order, from the first of the
    video."""

    def __init__(
        self, style_plan: StylePlan, width: int, height: int, base: Fraction, mask: Mask | None = None
    ) -> None:
        self.style_plan, self.width, self.height, self.base, self.mask = style_plan, width, height, base, mask
        self.start: int | None = None
        self.canvas = MovingCanvas(height, width, style_plan.timeline.seed) if style_plan.has_canvas else None

    def prepare_all(self, frames: Iterable[Frame], skip: int, timer: StageTimer) -> Iterator[PreparedFrame]:
        """Prepare each frame after the first ``skip``.

        The very first one is prepared in any case, and the canvas is moved along all of them, so that it does
        not depend on ``skip``.
        """
        for index, frame in enumerate(frames):
            if 0 < index < skip and self.canvas is None:
                continue
            with timer.timing("prepare"):
                prepared = self(frame)
            if self.canvas is not None:
                with timer.timing("canvas"):
                    if index < skip:
                        self.canvas.follow(prepared.frame.image)
                    else:
                        prepared = replace(prepared, canvas=self.canvas(prepared.frame.image))
            if index >= skip:
                yield prepared

    def continue_from(self, first: Frame, canvas: CanvasState | None) -> None:
        """Go on in the middle of the video, as if all frames before had been prepared.

        ``first`` is the very first frame of the video; ``canvas`` the state after the frame before the next.
        """
        self._start(first.pts, np.ascontiguousarray(resize(first.image, self.width, self.height)))
        if self.canvas is not None:
            self.canvas.restore(canvas)

    def _start(self, pts: int, image: Images) -> None:
        self.start = pts
        self.style_plan = self.style_plan.started_with(image)

    def __call__(self, frame: Frame) -> PreparedFrame:
        """Prepare one frame. Raises InvalidArgument for an image of another form than (H, W, 3) uint8."""
        check_image(frame.image, "a frame")
        image = np.ascontiguousarray(resize(frame.image, self.width, self.height))
        if self.start is None:
            self._start(frame.pts, image)
        assert self.start is not None
        time = (frame.pts - self.start) * self.base
        mask = self.mask.at(time, self.width, self.height) if self.mask else None
        alpha = None if frame.alpha is None else resize(frame.alpha, self.width, self.height)
        return PreparedFrame(replace(frame, image=image, alpha=alpha), self.style_plan.at(time, mask))


def infer(
    prepared: Iterable[PreparedFrame], generator: StylizeBackend, batch: int, timer: StageTimer
) -> Iterator[StylizedFrame]:
    """Send frames through the generator, in order; a backend may overlap two.

    ``batch`` pictures go into each call; the last batch is padded, so that engines of a fixed batch size can
    be used. Frames that show only their source skip the generator.
    """
    for needed, group in groupby(prepared, lambda plan: bool(plan.frame_plan.film_params)):
        if needed:
            yield from _through(group, generator, batch, timer)
        else:
            yield from (StylizedFrame(plan, ()) for plan in group)


def _through(
    group: Iterator[PreparedFrame], generator: StylizeBackend, batch: int, timer: StageTimer
) -> Iterator[StylizedFrame]:
    under_way: deque[tuple[PreparedFrame, list[Images]]] = deque()

    least = generator.manifest.min_size

    def requests() -> Iterator[Request]:
        for plan in timer.each("infer", group, sign=-1):  # waiting happens inside it
            under_way.append((plan, []))
            image = pad_to_minimum(plan.frame.image, least)
            canvas = None if plan.canvas is None else pad_to_minimum(plan.canvas, least)
            yield from ((image, film, canvas) for film in plan.frame_plan.film_params)

    results = generator.stream(map(_stacked, batches(requests(), batch)))
    for stylized in timer.each("infer", results):
        for picture in stylized:
            if not under_way:
                break  # what the last batch was filled up with
            plan, pictures = under_way[0]
            height, width = plan.frame.image.shape[:2]
            pictures.append(picture[:height, :width])
            if len(pictures) == len(plan.frame_plan.film_params):
                under_way.popleft()
                yield StylizedFrame(plan, tuple(pictures))


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; the last one is padded with its last item."""
    while chunk := list(islice(items, size)):
        yield chunk + [chunk[-1]] * (size - len(chunk))


def _stacked(requests: Sequence[Request]) -> tuple[Images, FilmBatch, Canvas | None]:
    """Return one batch: (N, H, W, 3), (N, P) and, with a canvas, (N, H, W, 1)."""
    images, films, canvases = zip(*requests, strict=True)
    canvas = None if canvases[0] is None else np.stack(canvases)
    if len(images) == 1:
        return np.ascontiguousarray(images[0][None]), films[0][None], canvas
    return np.stack(images), np.stack(films), canvas
