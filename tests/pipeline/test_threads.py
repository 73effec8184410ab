"""Tests of threaded stages: order, limits, a single error, no thread left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import InputError, MstError
from mst_deploy.jobs import segments
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.pipeline.threads import StageTimer, ThreadedPipeline
from mst_deploy.styles.plan import FramePlan, StylePlan, constant_plan
from mst_deploy.video.deflicker import Deflicker
from mst_deploy.video.info import Frame
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import VideoWriter
from tests.events import frames_to

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def through(
    items: Iterable[int], *, depth: int = 3, fail: Callable[[Any], None] = lambda item: None
) -> list[Any]:
    """Two stages ahead, two behind; ``fail`` is called by the last one."""
    out: list[Any] = []

    def last(item: int) -> None:
        fail(item)
        out.append(item)

    with ThreadedPipeline(depth) as in_background, ThreadedPipeline(depth) as front:
        to_last = in_background.in_background("last", last)
        hand_on: Callable[[int], None] = in_background.in_background("first", lambda item: to_last(item * 10))
        for item in front.prefetch("second", (value + 1 for value in front.prefetch("source", items))):
            hand_on(item)
        in_background.finish()
    return out


@pytest.mark.parametrize("depth", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_order_is_kept_and_nothing_is_lost(depth: int, count: int) -> None:
    assert through(range(count), depth=depth) == [10 * (value + 1) for value in range(count)]


def test_items_before_an_error_arrive_first() -> None:
    def source() -> Iterator[int]:
        yield from range(50)
        raise InputError("end of the road")

    seen: list[int] = []
    with ThreadedPipeline(3) as line, pytest.raises(InputError, match="end of the road"):
        seen.extend(line.prefetch("second", line.prefetch("first", source())))
    assert seen == list(range(50))


@pytest.mark.parametrize("at", [0, 1, 57])
def test_an_error_behind_comes_out_in_the_caller(at: int) -> None:
    error = MstError("the disk is full")

    def fail(item: int) -> None:
        if item == 10 * (at + 1):
            raise error

    with pytest.raises(MstError) as caught:
        through(range(10**9), fail=fail)  # the source has no end: only the error can stop it
    assert caught.value is error


def test_an_error_of_the_last_item_is_not_missed() -> None:
    def fail(item: int) -> None:
        if item == 30:
            raise MstError("the last one")

    with pytest.raises(MstError, match="the last one"):
        through(range(3), depth=8, fail=fail)


def test_leaving_early_stops_the_threads() -> None:
    with ThreadedPipeline(2) as line:
        items = line.prefetch("second", line.prefetch("first", iter(range(10**9))))
        assert next(items) == 0


def test_a_slow_consumer_makes_the_source_wait() -> None:
    made = 0

    def source() -> Iterator[int]:
        nonlocal made
        for value in range(1000):
            made += 1
            yield value

    with ThreadedPipeline(4) as line:
        items = line.prefetch("source", source())
        for _ in range(10):
            next(items)
        time.sleep(0.3)
        assert made <= 10 + 4 + 1  # taken, waiting, in hand


def test_stages_run_at_the_same_time() -> None:
    """Each needs the other to be under way: one after the other they would wait for ever."""
    both = threading.Barrier(3, timeout=20)

    def source() -> Iterator[int]:
        yield 0
        yield 1
        both.wait()
        yield 2

    def last(item: int) -> None:
        if item == 0:
            both.wait()

    with ThreadedPipeline(8) as in_background, ThreadedPipeline(8) as front:
        hand_on = in_background.in_background("last", last)
        items = front.prefetch("source", source())
        hand_on(next(items))
        both.wait()
        for item in items:
            hand_on(item)
        in_background.finish()


def test_the_meter_counts_work_and_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a simulated clock: 5 x 1 s of work in a stage that waits 5 x 2 s."""
    clock = 0.0
    monkeypatch.setattr("mst_deploy.pipeline.threads.time.perf_counter", lambda: clock)

    def source() -> Iterator[int]:
        nonlocal clock
        for value in range(5):
            clock += 2.0
            yield value

    def work() -> Iterator[int]:
        nonlocal clock
        for value in meter.each("outer", source(), sign=-1):
            clock += 1.0
            yield value

    meter = StageTimer()
    assert list(meter.each("outer", work())) == [0, 1, 2, 3, 4]
    assert (meter.seconds, meter.limit()) == ({"outer": 5.0}, "outer")
    with meter.timing("other"):
        clock += 6.0
    assert meter.limit() == "other"


def failing(error: BaseException, at: int, inner: Callable[..., Any]) -> Callable[..., Any]:
    """``inner`` that raises at its call number ``at`` (0 is the first)."""
    calls = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise error
        return inner(*arguments, **named)

    return wrapped


def break_reader(patch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
    inner = VideoReader.__iter__

    def frames(self: VideoReader) -> Iterator[Frame]:
        for index, frame in enumerate(inner(self)):
            if index == at:
                raise error
            yield frame

    patch.setattr(VideoReader, "__iter__", frames)


STAGES: dict[str, Callable[[pytest.MonkeyPatch, BaseException, int, Any], Any]] = {
    "decode": lambda patch, error, at, generator: break_reader(patch, error, at),
    "prepare": lambda patch, error, at, generator: patch.setattr(
        StylePlan, "at", failing(error, at, StylePlan.at)
    ),
    "infer": lambda patch, error, at, generator: patch.setattr(
        type(generator), "__call__", failing(error, at, type(generator).__call__)
    ),
    "deflicker": lambda patch, error, at, generator: patch.setattr(
        Deflicker, "__call__", failing(error, at, Deflicker.__call__)
    ),
    "compose": lambda patch, error, at, generator: patch.setattr(
        FramePlan, "compose", failing(error, at, FramePlan.compose)
    ),
    "encode": lambda patch, error, at, generator: patch.setattr(
        VideoWriter, "write", failing(error, at, VideoWriter.write)
    ),
    "join": lambda patch, error, at, generator: patch.setattr(
        segments.SegmentedSink, "join", failing(error, 0, segments.SegmentedSink.join)
    ),
}


@pytest.mark.parametrize("at", [0, 5, 11])
@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_any_stage_stops_all_of_them_once(
    stage: str,
    at: int,
    small_clip: Path,
    tmp_path: Path,
    identity: Any,
    film: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 frames; the error comes out as it is, and no file is left that nobody can use."""
    error = MstError(f"{stage} broke")
    STAGES[stage](monkeypatch, error, at, identity)
    counts: list[int] = []
    with pytest.raises(MstError) as caught:
        render_file(
            small_clip,
            tmp_path / "out.mp4",
            identity,
            constant_plan(film),
            RenderOptions(deflicker=stage == "deflicker"),
            frames_to(counts.append),
        )
    assert caught.value is error
    assert caught.value.__context__ is None
    assert counts == list(range(1, len(counts) + 1))
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["out.mp4.parts"] if stage == "join" else [])


def test_the_result_says_which_stage_was_the_limit(
    small_clip: Path, tmp_path: Path, identity: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator is made the slowest: at 50 ms a frame it works for most of the time."""
    inner = type(identity).__call__

    def slow(self: Any, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        time.sleep(0.05)
        return inner(self, frames, film_params)

    monkeypatch.setattr(type(identity), "__call__", slow)
    result = render_file(small_clip, tmp_path / "out.mp4", identity, constant_plan(film), RenderOptions())
    assert set(result.stages) == {"decode", "prepare", "infer", "compose", "encode", "join"}
    assert result.stages["infer"] * result.seconds >= 12 * 0.05
    assert all(0 <= share <= 1 for share in result.stages.values())
    assert result.limit == max(result.stages, key=lambda stage: result.stages[stage])


def test_the_policy_latest_drops_what_is_late() -> None:
    """49 items are made while the first one is being used: the newest is next, and then the end."""
    taken, made = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert taken.wait(10)
        yield from range(1, 50)
        made.set()

    with ThreadedPipeline(8) as line:
        items = line.prefetch("camera", source(), policy="latest")
        assert next(items) == 0
        taken.set()
        assert made.wait(10)
        assert list(items) == [49]
        assert line.dropped == 48


def test_the_policy_block_loses_nothing() -> None:
    with ThreadedPipeline(2) as line:
        assert list(line.prefetch("file", range(50))) == list(range(50))
        assert line.dropped == 0
