"""Live video: frames are dropped, never queued, so that the delay does not grow.

    source ─ capture ─> [slot] ─ prepare ─> [slot] ─ infer ─┬─> [slot] ─ sink
                                                            └─> [slot] ─ sink

A slot holds one frame; a newer one replaces it. Every stage has a thread of its own, inference the caller's.
Each sink drops frames independently of the others. Each frame carries the time at which it was captured.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mst_deploy.backends import Images, StylizeBackend
from mst_deploy.errors import MstError, OutputError, error_line
from mst_deploy.images import letterboxed
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.film import Blend
from mst_deploy.pipeline.events import Note, OnEvent, ignore
from mst_deploy.pipeline.live_counts import Ages, LiveReport, SinkReport
from mst_deploy.pipeline.live_repeat import Repeats
from mst_deploy.pipeline.live_size import SizeControl, SizePolicy
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.pipeline.slots import Slot
from mst_deploy.pipeline.still import stylize_as_planned
from mst_deploy.styles.plan import FramePlan
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.info import Frame
from mst_deploy.video.live_source import LIVE_CLOCK, Picture, SinkClosed

Clock = Callable[[], float]
"""Seconds of a clock that only goes forward."""
CLOSING = 10.0
"""Seconds that the stages get to end, and then the sinks; one that blocks for longer is abandoned and
reported."""


class LiveSink(Protocol):
    """The part of ``FrameSink`` that live video needs."""

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def abandon(self, error: BaseException) -> None: ...


@dataclass(frozen=True)
class _Prepared:
    image: Images
    canvas: Canvas | None
    captured: float
    seconds: float
    """Work of the prepare stage, in seconds."""


class _Outlet:
    """A sink with its slot, its thread and its counts."""

    def __init__(self, name: str, sink: LiveSink, shared: threading.Condition) -> None:
        self.name, self.sink = name, sink
        self.slot: Slot[Frame] = Slot(shared)
        self.ages = Ages()
        self.error, self.failure = "", False
        self.thread: threading.Thread | None = None

    def report(self) -> SinkReport:
        slot = self.slot
        return SinkReport(slot.done, slot.dropped, slot.in_flight, self.ages.percentiles(), self.error)


class LivePipeline:
    """Stylizes the frames of a live source until it ends or :meth:`stop` is called.

    ``active_style`` may be replaced at any time, from any thread; it applies from the next frame on.
    """

    def __init__(
        self,
        pictures: Callable[[], Generator[Picture, None, None]],
        sinks: Mapping[str, LiveSink],
        backend: StylizeBackend,
        style: LiveStyle,
        size: tuple[int, int],
        *,
        policy: SizePolicy | None = None,
        max_fps: float | None = None,
        similar: float = 0.0,
        on_event: OnEvent = ignore,
        clock: Clock = time.monotonic,
    ) -> None:
        """Prepare the threads, without starting them. ``pictures`` is called once, in the capture thread;
        frames are stylized at ``size`` (width, height) unless ``policy`` chooses another. Sinks get frames of
        that size and scale them themselves. Pictures above ``max_fps`` are dropped at once; ``similar`` is
        explained at ``Repeats``."""
        self.pictures, self.backend, self.active_style, self.size = pictures, backend, style, size
        self.policy, self.on_event, self.clock = policy, on_event, clock
        self.interval, self.above_rate = 1 / max_fps if max_fps else 0.0, 0
        self.repeats, self.repeated = Repeats(similar), 0
        self.compare = False
        """Whether the left half shows the source; may be set from any thread."""
        self.newest: Frame | None = None
        self.shared = threading.Condition(threading.RLock())
        self.to_prepare: Slot[Picture] = Slot(self.shared)
        self.to_infer: Slot[_Prepared] = Slot(self.shared)
        self.outlets = [_Outlet(name, sink, self.shared) for name, sink in sinks.items()]
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.age_at_inference, self.inference = Ages(), Ages()
        self.first: float | None = None
        self.last = 0.0
        self.size_changes = 0

    def stop(self) -> None:
        """Stop capturing; frames in flight are finished. May be called from a signal handler."""
        self.stopping.set()

    def run(self, seconds: float | None = None) -> LiveReport:
        """Stylize until the source ends, ``seconds`` have passed since the first frame, or :meth:`stop`.

        Returns when every sink is finished. Raises the error of the source or the model; OutputError when a
        sink has failed, at once if it was the last one, else at the end.
        """
        control = self._measured() if self.policy else None
        stages = [
            threading.Thread(target=self._guarded, args=(self._capture,), name="capture", daemon=True),
            threading.Thread(target=self._guarded, args=(self._prepare,), name="prepare", daemon=True),
        ]
        for outlet in self.outlets:
            outlet.thread = threading.Thread(
                target=self._write, args=(outlet,), name=f"sink {outlet.name}", daemon=True
            )
        try:
            for thread in [*stages, *(outlet.thread for outlet in self.outlets if outlet.thread)]:
                thread.start()
            self._infer(control, seconds)
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            self.stopping.set()
            self._leave(stages)
        if self.failure is not None:
            raise self.failure
        if failed := [outlet for outlet in self.outlets if outlet.failure]:
            raise OutputError("; ".join(f"{outlet.name}: {outlet.error}" for outlet in failed))
        return self.report()

    def report(self) -> LiveReport:
        """Return the present counts; may be called from any thread."""
        with self.shared:
            width, height = self.size
            passed = max(0.0, self.last - self.first) if self.first is not None else 0.0
            return LiveReport(
                captured=self.to_prepare.put_count + self.above_rate,
                stylized=self.to_infer.done,
                dropped={
                    "capture": self.above_rate,
                    "prepare": self.to_prepare.dropped,
                    "infer": self.to_infer.dropped,
                },
                repeated=self.repeated,
                in_flight=self.to_prepare.in_flight + self.to_infer.in_flight,
                age_at_inference_ms=self.age_at_inference.percentiles(),
                inference_ms=self.inference.percentiles(),
                sinks={outlet.name: outlet.report() for outlet in self.outlets},
                seconds=passed,
                fps=self.to_infer.done / passed if passed else 0.0,
                width=width,
                height=height,
                size_changes=self.size_changes,
            )

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:
            self.failure = self.failure or error
            self.stopping.set()

    def _capture(self) -> None:
        due = -math.inf
        try:
            with closing(self.pictures()) as pictures:
                for picture in pictures:
                    if self.stopping.is_set():
                        break
                    if self.first is None:
                        self.first = picture.captured
                    if picture.captured < due - self.interval / 10:  # cameras are not exact
                        with self.shared:
                            self.above_rate += 1
                        continue
                    due = max(due, picture.captured - self.interval) + self.interval
                    self.to_prepare.put(picture)
        finally:
            self.to_prepare.close()

    def _prepare(self) -> None:
        canvas: MovingCanvas | None = None
        plan = self.active_style.plan
        try:
            while (picture := self.to_prepare.take()) is not None:
                started = self.clock()
                width, height = self.size
                image = np.ascontiguousarray(letterboxed(picture.rgb(), width, height))
                if plan.has_canvas:
                    if canvas is None or (canvas.width, canvas.height) != (width, height):
                        canvas = MovingCanvas(height, width, plan.timeline.seed)
                    strokes = canvas(image)
                else:
                    strokes = None
                done = _Prepared(image, strokes, picture.captured, self.clock() - started)
                self.to_prepare.finish([(self.to_infer, done)])
        finally:
            self.to_infer.close()

    def _infer(self, control: SizeControl | None, seconds: float | None) -> None:
        def over() -> bool:
            if self.first is not None and seconds is not None and self.clock() - self.first >= seconds:
                self.stopping.set()
            if self.stopping.is_set():
                self.to_prepare.close()  # the source may be waiting for a frame that never comes
            return self.failure is not None

        while (item := self.to_infer.take(over)) is not None:
            started = self.clock()
            self.age_at_inference.add(started - item.captured)
            again = self.repeats.again(item.image, self.active_style, started)
            stylized = self._stylized(item, started) if again is None else again
            self.last = self.clock()
            if again is None:
                self.inference.add(self.last - started)
            else:
                self.repeated += 1
            self.newest = frame = self._frame(self._compared(item.image, stylized), item.captured)
            self.to_infer.finish([(outlet.slot, frame) for outlet in self.outlets])
            if control is not None and again is None:
                control = self._resized(control, max(self.last - started, item.seconds))
            if not any(outlet.error == "" for outlet in self.outlets):
                self.stopping.set()
            over()

    def _stylized(self, item: _Prepared, now: float) -> Images:
        style = self.active_style
        if style.needs_content:
            begun = style.plan.started_with(item.image)
            style = LiveStyle(begun, style.since)
            if self.active_style.plan.own is None:  # the content's own row stays for all styles to come
                active = self.active_style
                self.active_style = replace(active, plan=replace(active.plan, own=begun.own))
        stylized = stylize_as_planned(item.image, style.at(now), self.backend, item.canvas)
        self.repeats.keep(item.image, self.active_style, stylized)
        return stylized

    def _compared(self, source: Images, stylized: Images) -> Images:
        if not self.compare or source.shape != stylized.shape:
            return stylized
        middle = source.shape[1] // 2
        return np.concatenate([source[:, :middle], stylized[:, middle:]], axis=1)

    def _frame(self, image: Images, captured: float) -> Frame:
        assert self.first is not None
        return Frame(image, round((captured - self.first) * LIVE_CLOCK), 0, captured)

    def _measured(self) -> SizeControl:
        """Choose the first size by stylizing gray pictures at two sizes."""
        assert self.policy is not None
        plan = FramePlan(Blend(next(iter(self.active_style.plan.film_params.values()))))

        def seconds(size: tuple[int, int]) -> float:
            width, height = size
            image = np.full((height, width, 3), 128, np.uint8)
            noise = MovingCanvas(height, width)(image) if self.active_style.plan.has_canvas else None
            times = []
            for _ in range(3):  # the first call of a size prepares the runtime for it
                started = self.clock()
                stylize_as_planned(image, plan, self.backend, noise)
                times.append(self.clock() - started)
            return min(times[1:])

        control = self.policy.start(seconds, self.clock())
        self.size = self.policy.sizes[control.rung]
        return control

    def _resized(self, control: SizeControl, seconds: float) -> SizeControl:
        assert self.policy is not None
        after = self.policy.step(control, self.clock(), seconds)
        if after.rung != control.rung:
            self.size = self.policy.sizes[after.rung]
            self.size_changes += 1
            width, height = self.size
            self.on_event(Note(f"painting at {width}x{height} from now on, to hold {self.policy.fps:g} fps"))
        return after

    def _write(self, outlet: _Outlet) -> None:
        sink, slot = outlet.sink, outlet.slot
        try:
            while (frame := slot.take()) is not None:
                sink.write(frame)
                assert frame.captured is not None
                outlet.ages.add(self.clock() - frame.captured)
                slot.finish()
            sink.finish()
        except SinkClosed as closed:
            outlet.error = str(closed)
            slot.refuse()
        except BaseException as error:
            outlet.error, outlet.failure = error_line(error) or type(error).__name__, True
            slot.refuse()
            with suppress(Exception):
                sink.abandon(error)
            if not isinstance(error, MstError):
                self.failure = self.failure or error  # a defect, not something the user could mend
            else:
                self.on_event(Note(f"{outlet.name} gets no more frames: {outlet.error}"))

    def _leave(self, stages: list[threading.Thread]) -> None:
        """Close the slots and wait for the stages, then for the sinks, each at most ``CLOSING`` seconds."""
        slots: list[Slot[Any]] = [self.to_prepare, self.to_infer, *(outlet.slot for outlet in self.outlets)]
        for slot in slots:
            slot.close()
        until = time.monotonic() + CLOSING
        for thread in stages:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        until = time.monotonic() + CLOSING
        for outlet in self.outlets:
            if outlet.thread is None or outlet.thread.ident is None:
                continue
            outlet.thread.join(max(0.0, until - time.monotonic()))
            if outlet.thread.is_alive():
                outlet.error, outlet.failure = f"did not finish within {CLOSING:g} s", True
