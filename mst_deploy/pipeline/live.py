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
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mst_deploy.backends import Images, StylizeBackend
from mst_deploy.errors import InvalidArgument, MstError, OutputError, error_line
from mst_deploy.images import letterboxed
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.film import Blend
from mst_deploy.pipeline.events import Note, OnEvent, ignore
from mst_deploy.pipeline.live_size import SizeControl, SizePolicy
from mst_deploy.pipeline.still import stylize_as_planned
from mst_deploy.styles.plan import FramePlan, StylePlan
from mst_deploy.styles.timeline import StrengthKey, StyleKey
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.capture import LIVE_CLOCK, Picture, SinkClosed
from mst_deploy.video.info import Frame

T = TypeVar("T")
Clock = Callable[[], float]
"""Seconds of a clock that only goes forward."""
TICK = 0.1  # seconds between checks whether to stop; a frame that comes is taken at once
CLOSING = 5.0
"""Seconds that stages get to end; a sink that blocks for longer is abandoned and reported."""
RESOLUTION = 2000  # classes of age per second


class Slot(Generic[T]):
    """A one-item buffer between two threads: putting an item replaces the waiting one, which counts as
    dropped.

    Slots of one pipeline share a condition variable, so that an item passes from one to the next atomically
    and :attr:`counts` of all of them are consistent. At all times ``put == done + dropped + waiting + busy``.
    """

    def __init__(self, shared: threading.Condition | None = None) -> None:
        self.shared = shared or threading.Condition()
        self.item: T | None = None
        self.put_count = self.dropped = self.done = 0
        self.busy = self.closed = self.refusing = False

    def put(self, item: T) -> None:
        """Put an item in the place of the one that waits, if there is one."""
        with self.shared:
            self.put_count += 1
            if self.refusing or self.closed:
                self.dropped += 1
                return
            self.dropped += self.item is not None
            self.item = item
            self.shared.notify_all()

    def take(self, stopped: Callable[[], bool] = lambda: False) -> T | None:
        """Wait for an item and take it; None when the slot is closed and empty, or ``stopped()``.

        The item counts as busy until :meth:`finish`.
        """
        with self.shared:
            while self.item is None:
                if self.closed or stopped():
                    return None
                self.shared.wait(TICK)
            item, self.item, self.busy = self.item, None, True
            return item

    def finish(self, puts: Iterable[tuple[Slot[Any], Any]] = ()) -> None:
        """Count the item taken as done and, in the same step, put its result into other slots."""
        with self.shared:
            self.busy = False
            self.done += 1
            for slot, item in puts:
                slot.put(item)

    def close(self) -> None:
        """Announce that no more items come; a waiting one can still be taken."""
        with self.shared:
            self.closed = True
            self.shared.notify_all()

    def refuse(self) -> None:
        """Drop the waiting item, the busy one and all later ones: the next stage has failed."""
        with self.shared:
            self.dropped += (self.item is not None) + self.busy
            self.item, self.busy, self.refusing = None, False, True

    @property
    def in_flight(self) -> int:
        """Return the number of items that wait or are being processed: 0 to 2."""
        return (self.item is not None) + self.busy


class Ages:
    """Percentiles of durations in constant memory: a histogram with bins of half a millisecond."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        with self.lock:
            self.counts[math.ceil(seconds * RESOLUTION)] += 1

    def percentiles(self) -> dict[str, float | None]:
        """Return ``{"p50": ..., "p95": ..., "p99": ...}`` in milliseconds, by nearest rank, rounded up to a
        bin."""
        with self.lock:
            classes = sorted(self.counts.items())
        total = sum(count for _, count in classes)
        result: dict[str, float | None] = {}
        for percent in (50, 95, 99):
            rank, seen, value = math.ceil(total * percent / 100), 0, None
            for number, count in classes:
                seen += count
                if seen >= rank and total:
                    value = number * 1000 / RESOLUTION
                    break
            result[f"p{percent}"] = value
        return result


@dataclass(frozen=True)
class Look:
    """Style and strength of the frames from now on. Immutable: a change is one assignment between two frames.

    A fade is a timeline that began when the change was made, so it depends on the clock, not on frames.
    """

    plan: StylePlan = field(repr=False)
    """Its FiLM vectors are those of every style that can be chosen; its timeline counts from ``since``."""
    since: float
    """Time of the change, in seconds of the monotonic clock."""

    @classmethod
    def of(cls, plan: StylePlan, now: float) -> Look:
        """Take a plan whose timeline begins now. Raises InvalidArgument for one with a mask."""
        if plan.timeline.mask is not None:
            raise InvalidArgument("live video has no mask; leave it out")
        return cls(plan, now)

    def at(self, now: float) -> FramePlan:
        """Return the plan of a frame that is stylized now."""
        return self.plan.at(self._elapsed(now))

    @property
    def needs_content(self) -> bool:
        """Return whether the FiLM vector of the content is needed and not known yet."""
        return self.plan.own is None and not self.plan.timeline.always_full

    def weights(self, now: float) -> dict[str, float]:
        """Return the weight of every style that is visible at a time; they sum to 1."""
        weights = self.plan.timeline.weights_at(self._elapsed(now))
        return {name: weight for name, weight in weights.items() if weight > 0}

    def with_style(self, name: str, now: float, fade: float = 0.0, strength: float | None = None) -> Look:
        """Return a look that fades to a style and a strength in ``fade`` seconds; None keeps the present
        strength."""
        if name not in self.plan.film_params:
            raise InvalidArgument(
                f"the style {name!r} was not read before the start; known are: "
                f"{', '.join(self.plan.film_params)}"
            )
        keys = [StyleKey(name)]
        if fade > 0:
            keys = [StyleKey(each, weight=weight) for each, weight in self.weights(now).items()]
            keys.append(StyleKey(name, Fraction(fade)))
        before = self.strength(now)
        after = before if strength is None else float(strength)
        strengths = (
            [StrengthKey(after)]
            if after == before or fade <= 0
            else [StrengthKey(before), StrengthKey(after, Fraction(fade))]
        )
        return self._changed(now, styles=tuple(keys), strength=tuple(strengths))

    def with_strength(self, strength: float, now: float) -> Look:
        """Return a look with another strength from now on; a fade between styles stops where it is."""
        keys = tuple(StyleKey(each, weight=weight) for each, weight in self.weights(now).items())
        return self._changed(now, styles=keys, strength=(StrengthKey(strength),))

    def strength(self, now: float) -> float:
        """Return the strength at a time, 0..1."""
        return self.plan.timeline.strength_at(self._elapsed(now))

    def _elapsed(self, now: float) -> Fraction:
        return Fraction(max(0.0, now - self.since))

    def _changed(self, now: float, **changes: Any) -> Look:
        return Look(replace(self.plan, timeline=replace(self.plan.timeline, **changes)), now)


class LiveSink(Protocol):
    """The part of ``FrameSink`` that live video needs."""

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def abandon(self, error: BaseException) -> None: ...


@dataclass(frozen=True)
class SinkReport:
    """Counts of the frames for one sink: ``stylized == written + dropped + in_flight``."""

    written: int
    dropped: int
    in_flight: int
    age_ms: dict[str, float | None]
    """Time from capture to the end of the sink's work on a frame, as percentiles."""
    error: str = ""
    """Reason why it takes no more frames; "" if it still does."""


@dataclass(frozen=True)
class LiveReport:
    """Counts at one time: ``captured == stylized + sum(dropped) + in_flight``."""

    captured: int
    stylized: int
    dropped: dict[str, int]
    """Dropped frames by the stage that was not ready for them: prepare, infer."""
    in_flight: int
    age_at_inference_ms: dict[str, float | None]
    """Time from capture to the beginning of inference, as percentiles."""
    inference_ms: dict[str, float | None]
    sinks: dict[str, SinkReport]
    seconds: float
    """Seconds since the first frame was captured."""
    fps: float
    """Stylized frames per second."""
    width: int
    """Size in pixels at which frames are stylized now."""
    height: int
    size_changes: int


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

    ``look`` may be replaced at any time, from any thread; it applies from the next frame on.
    """

    def __init__(
        self,
        pictures: Callable[[], Generator[Picture, None, None]],
        sinks: Mapping[str, LiveSink],
        backend: StylizeBackend,
        look: Look,
        size: tuple[int, int],
        *,
        policy: SizePolicy | None = None,
        on_event: OnEvent = ignore,
        clock: Clock = time.monotonic,
    ) -> None:
        """Prepare the threads, without starting them. ``pictures`` is called once, in the capture thread;
        frames are stylized at ``size`` (width, height) unless ``policy`` chooses another. Sinks get frames of
        that size and scale them themselves."""
        self.pictures, self.backend, self.look, self.size = pictures, backend, look, size
        self.policy, self.on_event, self.clock = policy, on_event, clock
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
                captured=self.to_prepare.put_count,
                stylized=self.to_infer.done,
                dropped={"prepare": self.to_prepare.dropped, "infer": self.to_infer.dropped},
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
        try:
            with closing(self.pictures()) as pictures:
                for picture in pictures:
                    if self.stopping.is_set():
                        break
                    if self.first is None:
                        self.first = picture.captured
                    self.to_prepare.put(picture)
        finally:
            self.to_prepare.close()

    def _prepare(self) -> None:
        canvas: MovingCanvas | None = None
        plan = self.look.plan
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
            stylized = self._stylized(item, started)
            self.last = self.clock()
            self.inference.add(self.last - started)
            frame = self._frame(stylized, item.captured)
            self.to_infer.finish([(outlet.slot, frame) for outlet in self.outlets])
            if control is not None:
                control = self._resized(control, max(self.last - started, item.seconds))
            if not any(outlet.error == "" for outlet in self.outlets):
                self.stopping.set()
            over()

    def _stylized(self, item: _Prepared, now: float) -> Images:
        look = self.look
        if look.needs_content:
            begun = look.plan.started_with(item.image)
            look = Look(begun, look.since)
            if self.look.plan.own is None:  # the content's own row stays for all looks to come
                self.look = replace(self.look, plan=replace(self.look.plan, own=begun.own))
        return stylize_as_planned(item.image, look.at(now), self.backend, item.canvas)

    def _frame(self, image: Images, captured: float) -> Frame:
        assert self.first is not None
        return Frame(image, round((captured - self.first) * LIVE_CLOCK), 0, captured)

    def _measured(self) -> SizeControl:
        """Choose the first size by stylizing gray pictures at two sizes."""
        assert self.policy is not None
        plan = FramePlan(Blend(next(iter(self.look.plan.film_params.values()))))

        def seconds(size: tuple[int, int]) -> float:
            width, height = size
            image = np.full((height, width, 3), 128, np.uint8)
            noise = MovingCanvas(height, width)(image) if self.look.plan.has_canvas else None
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
        """Close the slots and wait for all threads, at most ``CLOSING`` seconds."""
        slots: list[Slot[Any]] = [self.to_prepare, self.to_infer, *(outlet.slot for outlet in self.outlets)]
        for slot in slots:
            slot.close()
        until = time.monotonic() + CLOSING
        for thread in stages:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        for outlet in self.outlets:
            if outlet.thread is None or outlet.thread.ident is None:
                continue
            outlet.thread.join(max(0.0, until - time.monotonic()))
            if outlet.thread.is_alive():
                outlet.error, outlet.failure = f"did not finish within {CLOSING:g} s", True
