"""The pipeline of live video: exact counts, sinks that fail or block, sources that end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.errors import InputError, OutputError
from mst_deploy.pipeline import live as module
from mst_deploy.pipeline.live import LivePipeline
from mst_deploy.pipeline.live_counts import LiveReport
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.styles.resolve import encode_film
from mst_deploy.video.info import Frame
from mst_deploy.video.live_source import Picture, SinkClosed
from tests.pictures import picture

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture(scope="module")
def stylizer() -> Iterator[mst.Stylizer]:
    with mst.Stylizer("lite", backend="fake") as opened:
        yield opened


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
    style = LiveStyle.of(stylizer.plan("udnie"), time.monotonic())
    return LivePipeline(pictures or source(), sinks, stylizer.backend, style, (48, 40), **options)


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
                run.active_style = run.active_style.with_style(
                    "udnie", time.monotonic()
                )  # an equal style, set again
            yield Picture(time.monotonic(), np.full((40, 48, 3), level, np.uint8))
            until(lambda number=number: len(sink.frames) > number)  # type: ignore[misc]

    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, pictures, similar=2.0)
    run.active_style = LiveStyle.of(stylizer.plan("udnie"), 100.0)
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


def test_strength_0_shows_the_source_and_changes_between_two_frames(stylizer: mst.Stylizer) -> None:
    sink = Recorder()
    run = pipeline(stylizer, {"a": sink}, lambda: still())
    given: list[float] = []
    reads = []

    def read(image: Any) -> Any:
        reads.append(image.shape)
        return encode_film(stylizer.encoder(), image)

    run.active_style = replace(run.active_style, plan=replace(run.active_style.plan, read=read))
    shown = picture(48, 40, 7)

    def still() -> Generator[Picture, None, None]:
        for strength in (1.0, 0.0, 0.25, 1.0):
            run.active_style = run.active_style.with_strength(strength, time.monotonic())
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
