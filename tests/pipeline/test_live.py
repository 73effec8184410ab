"""Live video: slots, exact counts, ages, styles that change, sinks that fail or block."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.pipeline import live as module
from mst_deploy.pipeline.live import LivePipeline
from mst_deploy.pipeline.live_counts import Ages, LiveReport
from mst_deploy.pipeline.live_look import Look
from mst_deploy.pipeline.slots import Slot
from mst_deploy.styles.resolve import encode_film
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.video.info import Frame
from mst_deploy.video.live_source import Picture, SinkClosed
from tests.pictures import picture


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def stylizer() -> Iterator[mst.Stylizer]:
    with mst.Stylizer("lite", backend="fake") as opened:
        yield opened


# Slots


def test_the_newest_item_wins() -> None:
    slot: Slot[int] = Slot()
    for number in range(5):
        slot.put(number)
    assert slot.take() == 4
    assert (slot.put_count, slot.dropped, slot.in_flight, slot.done) == (5, 4, 1, 0)
    slot.finish()
    assert (slot.in_flight, slot.done) == (0, 1)


def test_what_waits_can_be_taken_from_a_closed_slot() -> None:
    slot: Slot[int] = Slot()
    slot.put(1)
    slot.close()
    slot.put(2)  # comes too late, but is counted
    assert (slot.take(), slot.take()) == (1, None)
    assert (slot.put_count, slot.dropped) == (2, 1)


class Simulation:
    """The stages of the pipeline as events on a fake clock, joined by real slots.

    It keeps its own book of where every frame is, by name, not by count.
    """

    def __init__(self, seed: int, frames: int = 300) -> None:
        self.rng = np.random.default_rng(seed)
        self.interval, self.prepare, self.infer, *self.writes = self.rng.uniform(0.001, 0.1, 6)
        shared = threading.Condition(threading.RLock())
        self.to_prepare, self.to_infer, *self.to_sinks = (Slot[int](shared) for _ in range(5))
        self.book: dict[Slot[int], dict[int, str]] = {slot: {} for slot in self.slots}
        self.busy: set[Slot[int]] = set()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.now, self.count, self.frames = 0.0, 0, frames
        self.captured: list[float] = []
        self.ages: list[float] = []

    @property
    def slots(self) -> list[Slot[int]]:
        return [self.to_prepare, self.to_infer, *self.to_sinks]

    def at(self, delay: float, event: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, event))

    def run(self) -> None:
        self.at(0.0, self.capture)
        while self.events:
            self.now, _, event = heapq.heappop(self.events)
            event()
            for slot in self.slots:
                self.begin(slot)
            self.check()

    def capture(self) -> None:
        self.captured.append(self.now)
        self.noted(self.to_prepare, len(self.captured) - 1)
        self.to_prepare.put(len(self.captured) - 1)
        if len(self.captured) < self.frames:
            self.at(self.interval, self.capture)

    def begin(self, slot: Slot[int]) -> None:
        if slot in self.busy or (number := slot.take(lambda: True)) is None:
            return
        assert number == max(self.book[slot]), "not the newest"
        self.busy.add(slot)
        self.book[slot][number] = "busy"
        if slot is self.to_infer and number < self.frames - 1:  # the last waits, since no newer one comes
            self.ages.append(self.now - self.captured[number])
        longest = dict(zip(self.slots, (self.prepare, self.infer, *self.writes), strict=True))[slot]
        self.at(self.rng.uniform(0, longest), lambda: self.end(slot, number))

    def end(self, slot: Slot[int], number: int) -> None:
        following = {self.to_prepare: [self.to_infer], self.to_infer: self.to_sinks}.get(slot, [])
        self.busy.remove(slot)
        self.book[slot][number] = "done"
        for each in following:
            self.noted(each, number)
        slot.finish([(each, number) for each in following])

    def noted(self, slot: Slot[int], number: int) -> None:
        for other, state in self.book[slot].items():
            if state == "waiting":
                self.book[slot][other] = "dropped"
        self.book[slot][number] = "waiting"

    def check(self) -> None:
        for slot in self.slots:
            states = list(self.book[slot].values())
            assert slot.put_count == len(states)
            assert slot.dropped == states.count("dropped")
            assert slot.done == states.count("done")
            assert slot.in_flight == states.count("busy") + states.count("waiting")
        dropped = self.to_prepare.dropped + self.to_infer.dropped
        in_flight = self.to_prepare.in_flight + self.to_infer.in_flight
        assert len(self.captured) == self.to_infer.done + dropped + in_flight
        for sink in self.to_sinks:
            assert self.to_infer.done == sink.done + sink.dropped + sink.in_flight


@pytest.mark.parametrize("seed", range(40))
def test_counts_are_exact_and_ages_bounded_whatever_the_stages_take(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    assert all(slot.in_flight == 0 for slot in simulation.slots)
    # A frame waits for less than an interval before it is prepared, for one inference at most after it.
    assert max(simulation.ages) <= simulation.interval + simulation.prepare + simulation.infer + 1e-9


def test_the_newest_frame_is_the_last_for_every_sink() -> None:
    """What was captured last is not dropped in favor of anything, so the picture is right at the end."""
    simulation = Simulation(3, frames=50)
    simulation.run()
    for slot in simulation.slots:
        assert simulation.book[slot][max(simulation.book[slot])] == "done"
    assert max(simulation.book[simulation.to_infer]) == 49


def test_a_count_read_in_the_middle_is_that_of_one_moment() -> None:
    """Items pass from slot to slot in one step: a reader never sees one in both or in none."""
    shared = threading.Condition(threading.RLock())
    first, second = Slot[int](shared), Slot[int](shared)

    def work(slot: Slot[int], following: list[Slot[int]]) -> None:
        while (item := slot.take()) is not None:
            slot.finish([(each, item) for each in following])
        for each in following:
            each.close()

    threads = [
        threading.Thread(target=work, args=(first, [second])),
        threading.Thread(target=work, args=(second, [])),
    ]
    for thread in threads:
        thread.start()
    for number in range(3000):
        first.put(number)
        if number % 7 == 0:
            with shared:
                in_flight = first.in_flight + second.in_flight
                assert first.put_count == second.done + first.dropped + second.dropped + in_flight
    first.close()
    for thread in threads:
        thread.join()
    assert first.put_count == second.done + first.dropped + second.dropped == 3000


def test_percentiles_are_the_nearest_ranks() -> None:
    ages = Ages()
    assert ages.percentiles() == {"p50": None, "p95": None, "p99": None}
    values = np.random.default_rng(0).uniform(0, 3, 1000)
    for value in values:
        ages.add(value)
    for percent in (50, 95, 99):
        exact = 1000 * np.percentile(values, percent, method="inverted_cdf")
        found = ages.percentiles()[f"p{percent}"]
        assert found is not None
        assert exact <= found < exact + 0.5


# The pipeline


class Recorder:
    """A sink that keeps what it gets; ``before`` may block or raise."""

    def __init__(self, before: Callable[[Frame], None] = lambda frame: None) -> None:
        self.frames: list[Frame] = []
        self.before, self.finished = before, False
        self.abandoned: BaseException | None = None

    def write(self, frame: Frame) -> None:
        self.before(frame)
        self.frames.append(frame)

    def finish(self) -> None:
        self.finished = True

    def abandon(self, error: BaseException) -> None:
        self.abandoned = error

    @property
    def numbers(self) -> list[int]:
        """The number that the source wrote into each frame; the fake model inverts it."""
        return [255 - int(frame.image[0, 0, 0]) for frame in self.frames]


def slow_by(seconds: float) -> Callable[[Frame], None]:
    return lambda frame: time.sleep(seconds)


def source(count: int = 10**9, pause: float = 0.002) -> Callable[[], Generator[Picture, None, None]]:
    """Gray pictures whose level is their number, modulo 256."""

    def pictures() -> Generator[Picture, None, None]:
        for number in range(count):
            yield Picture(time.monotonic(), np.full((40, 48, 3), number % 256, np.uint8))
            time.sleep(pause)

    return pictures


def pipeline(
    stylizer: mst.Stylizer, sinks: dict[str, Any], pictures: Any = None, **options: Any
) -> LivePipeline:
    look = Look.of(stylizer.plan("udnie"), time.monotonic())
    return LivePipeline(pictures or source(), sinks, stylizer.backend, look, (48, 40), **options)


def assert_exact(report: LiveReport) -> None:
    assert report.in_flight == 0
    assert report.captured == report.stylized + sum(report.dropped.values())
    for sink in report.sinks.values():
        assert report.stylized == sink.written + sink.dropped + sink.in_flight


def until(condition: Callable[[], bool], patience: float = 60.0) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < patience, "did not happen"
        time.sleep(0.005)


def test_a_source_that_ends(stylizer: mst.Stylizer) -> None:
    sinks = {"a": Recorder(), "b": Recorder()}
    report = pipeline(stylizer, sinks, source(60)).run()
    assert_exact(report)
    assert report.captured == 60
    for name, sink in sinks.items():
        assert sink.finished
        assert sink.numbers[-1] == 59, "the last frame is shown, not dropped"
        assert sink.numbers == sorted(set(sink.numbers))
        assert report.sinks[name].written == len(sink.frames)
        assert [frame.pts for frame in sink.frames] == sorted({frame.pts for frame in sink.frames})
    ages = report.age_at_inference_ms
    assert ages["p50"] is not None
    assert ages["p50"] <= (ages["p99"] or 0)


@pytest.mark.parametrize("seed", range(5))
def test_random_stage_times(stylizer: mst.Stylizer, seed: int) -> None:
    """The identity holds while the threads run, not only at the end."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(0, 0.006, 3)
    sinks = {name: Recorder(slow_by(t)) for name, t in zip("ab", times, strict=False)}
    run = pipeline(stylizer, sinks, source(80, times[2]))
    seen = []

    def watch() -> None:
        while not run.stopping.is_set():
            seen.append(run.report())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    report = run.run()
    watcher.join()
    assert_exact(report)
    for each in seen:
        assert each.captured == each.stylized + sum(each.dropped.values()) + each.in_flight
        for sink in each.sinks.values():
            assert each.stylized == sink.written + sink.dropped + sink.in_flight


def test_a_blocked_sink_disturbs_no_other(stylizer: mst.Stylizer) -> None:
    gate, blocked = threading.Event(), threading.Event()

    def wait(frame: Frame) -> None:
        if not gate.is_set():
            blocked.set()
            gate.wait(60)

    slow, fast = Recorder(wait), Recorder()
    run = pipeline(stylizer, {"slow": slow, "fast": fast})
    runner = threading.Thread(target=run.run)
    runner.start()
    blocked.wait(60)
    before = len(fast.frames)
    until(lambda: len(fast.frames) > before + 30)
    assert slow.frames == []
    newest = fast.frames[-1].pts  # it waits for the slow one, or a newer one does
    gate.set()
    until(lambda: len(slow.frames) >= 3)
    run.stop()
    runner.join()
    assert_exact(run.report())
    assert run.report().sinks["slow"].dropped >= 29
    # The frame it was stuck with is old. The next one is the newest there was, not the next in order.
    assert slow.frames[1].pts >= newest


def test_stop_ends_in_order_although_the_source_is_silent(stylizer: mst.Stylizer) -> None:
    silent = threading.Event()

    def pictures() -> Generator[Picture, None, None]:
        yield from source(5)()
        silent.wait(60)

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures)

    def stop() -> None:
        until(lambda: len(sink.frames) > 0)
        run.stop()
        silent.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    report = run.run()
    stopper.join()
    assert sink.finished
    assert_exact(report)


def test_seconds(stylizer: mst.Stylizer) -> None:
    sink = Recorder()
    report = pipeline(stylizer, {"a": sink}).run(seconds=0.3)
    assert sink.finished
    assert report.seconds >= 0.29
    assert_exact(report)


def test_pictures_above_the_highest_rate_are_dropped_at_once(stylizer: mst.Stylizer) -> None:
    """Pictures of 50 a second with jitter, of which 20 a second are let through."""
    rng = np.random.default_rng(0)

    def pictures() -> Generator[Picture, None, None]:
        for number in range(100):
            moment = 1000 + number / 50 + rng.uniform(0, 0.002)
            yield Picture(moment, np.full((40, 48, 3), number, np.uint8))
            until(lambda: run.to_infer.done == run.to_prepare.put_count)

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures, max_fps=20)
    report = run.run()
    assert report.captured == 100
    assert report.captured == report.stylized + sum(report.dropped.values())
    assert 39 <= 100 - report.dropped["capture"] <= 42


def test_what_hardly_changes_is_not_painted_again(stylizer: mst.Stylizer) -> None:
    levels = [100, 100, 101, 104, 104, 104]

    def pictures() -> Generator[Picture, None, None]:
        for number, level in enumerate(levels):
            if number == 5:
                run.look = run.look.with_style("udnie", time.monotonic())  # a look that was set anew
            yield Picture(time.monotonic(), np.full((40, 48, 3), level, np.uint8))
            until(lambda number=number: len(sink.frames) > number)  # type: ignore[misc]

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures, similar=2.0)
    run.look = look_of(stylizer, "udnie")
    report = run.run()
    assert sink.numbers == [100, 100, 100, 104, 104, 104]
    assert (report.stylized, report.repeated) == (6, 3)  # the second, the third and the fifth
    assert len({frame.pts for frame in sink.frames}) == 6, "a picture shown again has its own time"
    assert_exact(report)


def test_freezing_and_comparing(stylizer: mst.Stylizer) -> None:
    def pictures() -> Generator[Picture, None, None]:
        for number in range(4):
            run.repeats.frozen, run.compare = number in (1, 2), number == 3
            yield Picture(time.monotonic(), np.full((40, 48, 3), 10 * number, np.uint8))
            until(lambda number=number: len(sink.frames) > number)  # type: ignore[misc]

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures)
    assert run.run().repeated == 2
    assert [int(frame.image[0, -1, 0]) for frame in sink.frames] == [255, 255, 255, 225]
    assert [int(frame.image[0, 0, 0]) for frame in sink.frames] == [255, 255, 255, 30], "left is the source"


def test_a_sink_that_fails_leaves_the_others(stylizer: mst.Stylizer) -> None:
    def fail(frame: Frame) -> None:
        raise OutputError("the other end has gone")

    broken, good = Recorder(fail), Recorder()
    notes: list[Any] = []
    run = pipeline(stylizer, {"broken": broken, "good": good}, source(40), on_event=notes.append)
    with pytest.raises(OutputError, match="broken: the other end has gone"):
        run.run()
    assert good.finished
    assert good.numbers[-1] == 39
    assert isinstance(broken.abandoned, OutputError)
    assert_exact(run.report())
    assert run.report().sinks["broken"].error == "the other end has gone"
    assert [note.text for note in notes] == ["broken gets no more frames: the other end has gone"]


def test_without_any_sink_left_the_run_ends(stylizer: mst.Stylizer) -> None:
    def close(frame: Frame) -> None:
        raise SinkClosed("the window was closed")

    report = pipeline(stylizer, {"window": Recorder(close)}).run()  # the source has no end
    assert report.sinks["window"].error == "the window was closed"
    assert_exact(report)


def test_an_error_of_the_source_is_raised_and_sinks_are_finished(stylizer: mst.Stylizer) -> None:
    def pictures() -> Generator[Picture, None, None]:
        yield from source(10)()
        raise InputError("the cable was pulled")

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures)
    with pytest.raises(InputError, match="cable"):
        run.run()
    assert sink.finished
    assert sink.frames


def test_a_sink_that_never_returns_is_left_behind(
    stylizer: mst.Stylizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSING", 0.2)
    gate = threading.Event()
    stuck = Recorder(lambda frame: (gate.wait(60), None)[1])
    run = pipeline(stylizer, {"stuck": stuck}, source(20))
    with pytest.raises(OutputError, match="stuck: did not finish"):
        run.run()
    gate.set()
    until(lambda: stuck.finished)
    thread = run.outlets[0].thread
    assert thread is not None
    thread.join()


def test_a_source_whose_pictures_change_size(stylizer: mst.Stylizer) -> None:
    def pictures() -> Generator[Picture, None, None]:
        for width, height in ((48, 40), (96, 80), (100, 20), (17, 90)):
            yield Picture(time.monotonic(), np.full((height, width, 3), 255, np.uint8))
            shown.append(width)
            until(lambda: len(sink.frames) >= len(shown))

    shown: list[int] = []
    sink = Recorder()
    report = pipeline(stylizer, {"a": sink}, pictures).run()
    assert report.captured == 4
    assert {frame.image.shape for frame in sink.frames} == {(40, 48, 3)}
    assert (sink.frames[1].image == 0).all()  # same shape: scaled
    assert (sink.frames[2].image[0] == 255).all()  # wider: bars above and below, inverted
    assert (sink.frames[3].image[:, 0] == 255).all()


# Looks


def look_of(stylizer: mst.Stylizer, *names: str, strength: float = 1.0) -> Look:
    plan = stylizer.plan(Timeline(tuple(StyleKey(name) for name in names), (StrengthKey(strength),)))
    return Look.of(plan, 100.0)


def test_a_style_is_switched_at_once_or_faded_by_the_clock(stylizer: mst.Stylizer) -> None:
    both = look_of(stylizer, "udnie", "zodiac")
    vectors = both.plan.film_params
    look = both.with_style("udnie", 100.0)
    np.testing.assert_array_equal(look.at(100.0).inside.film[:50], vectors["udnie"][:50])
    switched = look.with_style("zodiac", 101.0)
    np.testing.assert_array_equal(switched.at(101.0).inside.film[:50], vectors["zodiac"][:50])
    fading = look.with_style("zodiac", 101.0, fade=2.0)
    for passed, share in ((0.0, 0.0), (0.5, 0.25), (2.0, 1.0), (9.0, 1.0)):
        wanted = (1 - share) * vectors["udnie"] + share * vectors["zodiac"]
        np.testing.assert_allclose(fading.at(101.0 + passed).inside.film[:50], wanted[:50], atol=1e-5)
    # Back in the middle of a fade: from what is shown at that moment.
    back = fading.with_style("udnie", 102.0, fade=1.0)
    for passed, share in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0)):
        wanted = (1 - share) * vectors["udnie"] + share * vectors["zodiac"]
        np.testing.assert_allclose(back.at(102.0 + passed).inside.film[:50], wanted[:50], atol=1e-5)


def test_a_strength_fades_along_with_the_style(stylizer: mst.Stylizer) -> None:
    look = look_of(stylizer, "udnie", "zodiac").with_style("udnie", 100.0)
    fading = look.with_style("zodiac", 100.0, fade=2.0, strength=0.5)
    assert [fading.strength(100.0 + passed) for passed in (0, 1, 2, 5)] == [1.0, 0.75, 0.5, 0.5]
    assert [fading.weights(100.0 + passed) for passed in (0, 1, 2)] == [
        {"udnie": 1.0},
        {"udnie": 0.5, "zodiac": 0.5},
        {"zodiac": 1.0},
    ]
    assert look.with_style("zodiac", 100.0, strength=0.25).strength(100.0) == 0.25


def test_a_style_is_mixed_in(stylizer: mst.Stylizer) -> None:
    look = look_of(stylizer, "udnie", "zodiac").with_style("udnie", 100.0)
    assert look.mixed_with("zodiac", 100.0).weights(100.0) == {"udnie": 0.5, "zodiac": 0.5}
    fading = look.mixed_with("zodiac", 100.0, fade=2.0)
    assert [fading.weights(100.0 + passed).get("zodiac", 0.0) for passed in (0, 1, 2, 9)] == [
        0,
        0.25,
        0.5,
        0.5,
    ]
    assert [fading.steady(100.0 + passed) for passed in (0, 1.9, 2)] == [False, False, True]


def test_an_unknown_style_is_refused(stylizer: mst.Stylizer) -> None:
    with pytest.raises(InvalidArgument, match="'zodiac' was not read before the start; known are: udnie"):
        look_of(stylizer, "udnie").with_style("zodiac", 0.0)


def test_strength_0_shows_the_source_and_changes_between_two_frames(stylizer: mst.Stylizer) -> None:
    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, lambda: still())
    given: list[float] = []
    reads = []

    def read(image: Any) -> Any:
        reads.append(image.shape)
        return encode_film(stylizer.encoder(), image)

    run.look = replace(run.look, plan=replace(run.look.plan, read=read))
    shown = picture(48, 40, 7)

    def still() -> Generator[Picture, None, None]:
        for strength in (1.0, 0.0, 0.25, 1.0):
            run.look = run.look.with_strength(strength, time.monotonic())
            yield Picture(time.monotonic(), shown)
            given.append(strength)
            until(lambda: len(sink.frames) >= len(given))

    run.run()
    painted, untouched, half, again = (frame.image.astype(int) for frame in sink.frames)
    np.testing.assert_array_equal(painted, 255 - shown)
    np.testing.assert_array_equal(untouched, shown)
    np.testing.assert_allclose(half, 127.5, atol=0.51)
    np.testing.assert_array_equal(again, painted)
    assert reads == [(40, 48, 3)], "the content's own vector is read once"


def test_a_mask_is_refused(stylizer: mst.Stylizer) -> None:
    plan = stylizer.plan("udnie")
    with pytest.raises(InvalidArgument, match="no mask"):
        Look.of(replace(plan, timeline=replace(plan.timeline, mask=Path("mask.png"))), 0.0)
