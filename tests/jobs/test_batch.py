"""Tests of batches: the schedule, segments from the middle of a video, storage, deaths and bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.errors import BackendError, InvalidArgument, OutputError
from mst_deploy.jobs.batch import worker as worker_module
from mst_deploy.jobs.batch.command import BatchOptions, BatchPlan, prepare, run
from mst_deploy.jobs.batch.run import BatchEvent, Driver, settings_of
from mst_deploy.jobs.batch.scan import SegmentScan, scan_segments
from mst_deploy.jobs.batch.schedule import STRAGGLER, Schedule
from mst_deploy.jobs.batch.segment_files import LEASE_SECONDS, Lease, SegmentFiles
from mst_deploy.jobs.batch.storage import LocalStorage, RemoteStorage, StorageError, open_storage
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video, divided, task_length
from mst_deploy.jobs.batch.worker import Worker
from mst_deploy.jobs.batch.workers import InProcess
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.model.bundle import Bundle
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.info import Frame
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange, parse_time
from tests.clips import Clip, write_clip
from tests.command_line import mst, mst_process
from tests.conftest import ROOT

TEN = RenderOptions(part_frames=10)
STARRY = Timeline((StyleKey("starry-night"),))


class Sensitive(FakeGenerator):
    """Generator whose pixels depend on the frame, on its FiLM vector and on its canvas."""

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        super().__call__(frames, film_params, canvas)
        shift = np.abs(film_params).sum(axis=1).astype(np.int64)[:, None, None, None]
        return ((frames // 2 + canvas // 4 + shift % 64) % 256).astype(np.uint8)


@pytest.fixture
def sensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "open_generator", lambda bundle, *_: Sensitive(bundle))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 frames of a variable rate, with B-frames, a key frame every 12, and sound."""
    steps = np.random.default_rng(5).integers(200, 2500, 64)
    times = tuple(int(when) for when in np.cumsum(steps))
    folder = tmp_path_factory.mktemp("batch")
    return write_clip(folder / "clip.mp4", Clip(times=times, options={"crf": "12", "g": "12"}))


def planned(
    inputs: list[Path], output: Path | str, render: RenderOptions = TEN, timeline: Timeline = STARRY
) -> BatchPlan:
    """A plan for two workers with the model lite and the fake backend."""
    options = BatchOptions(render, workers=2)
    return prepare(list(map(str, inputs)), str(output), timeline, "lite", "fake", "cpu", options)


def in_process(plan: BatchPlan, notes: list[str] | None = None) -> Any:
    """Run a plan in this process; splits are as planned for two workers."""

    def on_event(event: BatchEvent) -> None:
        if event.note and notes is not None:
            notes.append(event.note)

    return Driver(
        plan.storage,
        plan.videos,
        InProcess(plan.setup),
        lambda video: settings_of(video, plan.setup),
        plan.setup.options,
        on_event,
    ).run()


# --- the schedule, which is pure


def videos(*frames: int, split: bool = True) -> list[Video]:
    return [Video(f"{n}", "", f"{n}", count, count, split) for n, count in enumerate(frames)]


@pytest.mark.parametrize("seed", range(10))
def test_every_segment_is_made_once_whatever_dies(seed: int) -> None:
    """Workers die at random in the middle of tasks; what they had finished by then stays finished."""
    dice = random.Random(seed)
    schedule = Schedule(videos(70, 10, 35, split=True), 3, tries=1000)
    counts, made = [7, 1, 4], set[tuple[int, int]]()
    now, names = 0.0, [f"w{n}" for n in range(3)]
    for _ in range(3000):
        if schedule.finished:
            break
        now += 1
        for name in names:
            task = schedule.next(name, now) if name not in schedule.running else schedule.running[name].task
            if task is None or dice.random() < 0.5:
                continue
            if task.kind == "paint" and dice.random() < 0.5:
                done = range(task.first, dice.randint(task.first, task.last))
                made |= {(task.video, segment) for segment in done}
                schedule.painted(task.video, done)
                schedule.lose(name, "killed")
            elif dice.random() < 0.3:
                schedule.lose(name, "killed")
            else:
                if task.kind == "paint":
                    made |= {(task.video, segment) for segment in range(task.first, task.last)}
                if task.kind == "join":
                    assert {s for v, s in made if v == task.video} == set(range(counts[task.video]))
                schedule.finish(name, Outcome(task, 1, counts[task.video], seconds=1))
    assert [progress.state for progress in schedule.progress] == ["done"] * 3
    assert not schedule.running


def test_a_segment_that_kills_three_workers_fails_its_video_only() -> None:
    schedule = Schedule(videos(30, 30), 1)
    schedule.scanned(0, 3)
    for progress in schedule.progress:
        progress.segments = progress.ready = 3
    for _ in range(3):
        task = schedule.next("w", 0)
        assert task == Task("paint", 0, 0, 1)
        schedule.lose("w", "killed by SIGKILL")
    assert schedule.progress[0].state == "failed"
    assert "3 workers died over it at segment 0" in schedule.progress[0].reason
    assert schedule.next("w", 0) == Task("paint", 1, 0, 1)


def test_stragglers_are_started_twice_and_the_first_result_counts() -> None:
    schedule = Schedule(videos(30), 2)
    schedule.progress[0].segments = schedule.progress[0].ready = 2
    schedule.painted(0, [0])
    schedule.paint_times = [10.0]
    slow = schedule.next("slow", 0)
    assert slow == Task("paint", 0, 1, 2)
    assert schedule.next("other", STRAGGLER * 10) is None
    assert schedule.next("other", STRAGGLER * 10 + 1) == slow
    assert schedule.next("third", 1000) is None
    assert schedule.finish("other", Outcome(slow, seconds=10)) is True
    assert schedule.next("other", 1001) == Task("join", 0)
    assert schedule.finish("slow", Outcome(slow, seconds=1001)) is False


def test_damaged_segments_are_made_again_before_joining() -> None:
    schedule = Schedule(videos(30), 1)
    schedule.progress[0].segments = 3
    schedule.scanned(0, 3)
    schedule.painted(0, range(3))
    join = schedule.next("w", 0)
    assert join == Task("join", 0)
    schedule.finish("w", Outcome(join, again=(1,)))
    again = schedule.next("w", 0)
    assert again == Task("paint", 0, 1, 2)
    schedule.finish("w", Outcome(again, seconds=1))
    assert schedule.next("w", 0) == Task("join", 0)


def test_only_videos_longer_than_a_share_are_split() -> None:
    clips = videos(*[100] * 8, split=False)
    assert not any(video.split for video in divided(clips, 2, 10, remote=False))
    assert [video.split for video in divided(videos(1000, 50, 50), 4, 10, remote=False)] == [
        True,
        False,
        False,
    ]
    assert not divided(videos(10), 4, 10, remote=False)[0].split  # a single segment
    assert not divided(videos(1000), 1, 10, remote=False)[0].split
    assert divided(videos(1000), 1, 10, remote=True)[0].split  # a death would lose it all


def test_tasks_shrink_towards_the_end_and_stay_below_ten_seconds() -> None:
    assert task_length(1000, 2, None) == 1
    assert task_length(1000, 2, 1.0) == 10
    assert task_length(1000, 2, 0.01) == 250
    assert task_length(4, 2, 0.01) == 1
    assert task_length(1000, 2, 100.0) == 1


# --- segments from the middle


def frames_of_noise(count: int) -> list[Frame]:
    """A texture that moves, with a cut and a still part."""
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(2)]
    shifts = [0 if 20 <= n < 24 else n for n in range(count)]
    return [
        Frame(np.roll(pictures[n >= 30], (shift, 2 * shift), (0, 1))[:48, :64], 10 * n, 10)
        for n, shift in enumerate(shifts)
    ]


@pytest.mark.parametrize("each", [3, 10])
def test_canvas_and_frames_continue_at_every_border(each: int) -> None:
    frames = frames_of_noise(47)
    whole = MovingCanvas(48, 64, seed=1)
    expected = [whole(frame.image).copy() for frame in frames]
    scans = list(scan_segments(frames, each, MovingCanvas(48, 64, seed=1)))
    assert [scan.number for scan in scans] == list(range(-(-47 // each)))
    for packed in (scan.packed() for scan in scans):
        scan = SegmentScan.unpacked(packed)
        begin = scan.number * each - scan.lookback
        end = min(47, (scan.number + 1) * each)
        assert scan.times[:, 0].tolist() == [frame.pts for frame in frames[begin:end]]
        canvas = MovingCanvas(48, 64, seed=1)
        canvas.restore(scan.canvas)
        for frame, made in zip(frames[begin:end], expected[begin:end], strict=True):
            np.testing.assert_array_equal(canvas(frame.image), made)


CASES: dict[str, tuple[Clip, Timeline, RenderOptions]] = {
    "plain": (Clip(frames=64, options={"g": "12"}), STARRY, TEN),
    "deflicker": (Clip(frames=64, options={"g": "25"}), STARRY, replace(TEN, deflicker=True)),
    "fade, strength": (
        Clip(frames=64, options={"g": "9"}),
        Timeline(
            (StyleKey.parse("starry-night"), StyleKey.parse("zodiac@1.5")),
            (StrengthKey.parse("0.2"), StrengthKey.parse("1@1")),
        ),
        TEN,
    ),
    "rotated, one key frame": (Clip(frames=64, rotation=90, options={"g": "999"}), STARRY, TEN),
    "cut, sampled": (
        Clip(frames=90, options={"g": "12"}),
        STARRY,
        replace(TEN, read=ReadOptions(TimeRange(parse_time("0.5"), parse_time("2.9"), parse_time("0.05")))),
    ),
    "odd size, open GOP": (
        Clip(
            width=63, height=47, frames=64, pix_fmt="yuv444p", options={"x264-params": "open-gop=1:keyint=9"}
        ),
        STARRY,
        TEN,
    ),
    "avi": (Clip(frames=64, codec="mpeg4", options={"bf": "2"}), STARRY, TEN),
    "interlaced": (Clip(frames=64, options={"flags": "+ilme+ildct", "g": "12"}), STARRY, TEN),
}


@pytest.mark.usefixtures("sensitive")
@pytest.mark.parametrize(
    "case",
    [name if name == "deflicker" else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_split_video_has_the_bytes_of_one_machine(case: str, bundle: Bundle, tmp_path: Path) -> None:
    recipe, timeline, options = CASES[case]
    suffix = ".avi" if case == "avi" else ".mp4"
    source = write_clip(tmp_path / f"in{suffix}", recipe)
    plan = planned([source], tmp_path / "out", options, timeline)
    assert plan.videos[0].split
    report = in_process(plan)
    assert report.failed == []
    expected = tmp_path / "expected.mp4"
    with Worker(plan.setup) as one:
        render_file(source, expected, one.generator, one.style_plan, options)
    (made,) = (tmp_path / "out").iterdir()
    assert made.read_bytes() == expected.read_bytes()
    assert report.videos[0].frames == frame_count(made) > 30


def frame_count(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.usefixtures("sensitive")
def test_frames_that_seeking_does_not_give_are_read_from_the_beginning(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seek that ends at the wrong place is noticed, and costs time only."""
    restart_at, seeks = VideoReader.restart_at, []

    def too_far(self: VideoReader, pts: int) -> bool:
        seeks.append(pts)
        return restart_at(self, pts + 20000)

    monkeypatch.setattr(VideoReader, "restart_at", too_far)
    plan = planned([clip], tmp_path / "out")
    assert in_process(plan).failed == []
    assert seeks
    expected = tmp_path / "expected.mp4"
    with Worker(plan.setup) as one:
        render_file(clip, expected, one.generator, one.style_plan, TEN)
    (made,) = (tmp_path / "out").iterdir()
    assert made.read_bytes() == expected.read_bytes()


# --- storage


def test_results_in_a_remote_store(clip: Path, tmp_path: Path) -> None:
    """Input and result in fsspec's store in memory; nothing else is left there."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe_file("/batch-in/clip.mp4", clip.read_bytes())
    plan = planned(["memory://batch-in/*.mp4"], "memory://batch-out")  # type: ignore[list-item]
    split = replace(plan, videos=(replace(plan.videos[0], split=True),))
    for each in (split, replace(plan, videos=(replace(plan.videos[0], split=False),))):
        report = in_process(each)
        assert report.failed == []
        assert [Path(name).name for name in files.find("/batch-out")] == [each.videos[0].name]
        local = tmp_path / "local.mp4"
        with Worker(plan.setup) as one:
            render_file(clip, local, one.generator, one.style_plan, TEN)
        assert files.cat_file(f"/batch-out/{each.videos[0].name}") == local.read_bytes()
        files.rm("/batch-out", recursive=True)


def test_a_store_that_fails_now_and_then_costs_only_time(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    dice, failures = random.Random(1), [0]

    def unsteady(name: str) -> Any:
        call = getattr(files, name)

        def operation(*arguments: Any, **named: Any) -> Any:
            if dice.random() < 0.1:
                failures[0] += 1
                raise OSError("connection reset")
            return call(*arguments, **named)

        return operation

    plan = planned([clip], "memory://unsteady")
    for name in ("pipe_file", "put_file", "cat_file", "mv", "makedirs", "ls"):
        monkeypatch.setattr(files, name, unsteady(name), raising=False)
    monkeypatch.setattr(RemoteStorage.__init__, "__defaults__", ((0.0,) * 5,))
    replaced = replace(
        plan, storage=open_storage("memory://unsteady"), videos=(replace(plan.videos[0], split=True),)
    )
    assert in_process(replaced).failed == []
    assert failures[0] > 3
    monkeypatch.undo()
    assert [Path(name).name for name in files.find("/unsteady")] == [plan.videos[0].name]


def test_storage_that_cannot_be_written_to_ends_the_batch_in_one_line(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "file").write_text("")
    done = mst("batch", clip, "-o", tmp_path / "file", "-s", "starry-night", "--backend", "fake")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = mst("batch", clip, "-o", "/proc/out", "-s", "starry-night", "--backend", "fake", "--model", "lite")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot use the storage /proc/out" in done.stderr


def test_a_disk_that_becomes_full_stops_the_batch(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned([clip], tmp_path / "out")
    put, puts = LocalStorage.put, [0]

    def full(self: LocalStorage, path: Path, name: str) -> None:
        puts[0] += 1
        if puts[0] == 3:
            raise StorageError("cannot use the storage: No space left on device")
        put(self, path, name)

    monkeypatch.setattr(LocalStorage, "put", full)
    notes: list[str] = []
    report = in_process(plan, notes)
    assert [video.reason for video in report.failed] == ["cannot use the storage: No space left on device"]
    assert not (tmp_path / "out" / plan.videos[0].name).exists()
    monkeypatch.undo()
    assert in_process(plan).failed == []  # goes on
    assert [path.name for path in (tmp_path / "out").iterdir()] == [plan.videos[0].name]


def test_other_settings_are_refused_and_a_changed_source_is_not(clip: Path, tmp_path: Path) -> None:
    files = SegmentFiles(LocalStorage(tmp_path), "out.mp4")
    files.begin({"input": "a", "size": "1"}, force=False)
    files.storage.write(files.path("000000.json"), b"{}")
    with pytest.raises(OutputError, match="size was 1, now 2"):
        files.begin({"input": "a", "size": "2"}, force=False)
    files.begin({"input": "a", "size": "1"}, force=False)
    assert files.found() == (0, {0})
    files.begin({"input": "b", "size": "1"}, force=False)
    assert files.found() == (0, set())


def test_two_batches_never_work_on_one_result(tmp_path: Path) -> None:
    files = SegmentFiles(LocalStorage(tmp_path), "out.mp4")
    now = [1000.0]
    first, second = (Lease(files, lambda: now[0]) for _ in range(2))
    first.take()
    with pytest.raises(OutputError, match="another batch"):
        second.take()
    now[0] += LEASE_SECONDS / 2
    first.renew()
    now[0] += LEASE_SECONDS / 2 + 1
    with pytest.raises(OutputError, match="another batch"):
        second.take()
    now[0] += LEASE_SECONDS
    second.take()  # the first one is dead
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    second.owner["process"] = dead.pid
    second.renewed = 0
    second.renew()
    first.take()  # on one machine a dead process is known at once


# --- bad input


def test_an_input_that_vanishes_fails_alone(clip: Path, tmp_path: Path) -> None:
    sources = [tmp_path / f"{name}.mp4" for name in "abc"]
    for source in sources:
        source.write_bytes(clip.read_bytes())
    plan = planned(sources, tmp_path / "out")
    sources[1].unlink()
    report = in_process(plan)
    assert [video.state for video in report.videos] == ["done", "failed", "done"]
    assert "b.mp4: No such file" in report.failed[0].reason
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("split", [True, False])
def test_nothing_stays_of_a_source_that_changes(
    split: bool, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    plan = planned([source], tmp_path / "out")
    plan = replace(plan, videos=(replace(plan.videos[0], split=split),))
    changed = "render" if split else "render_file"
    render = getattr(worker_module, changed)

    def changing(*arguments: Any, **named: Any) -> Any:
        result = render(*arguments, **named)
        source.touch()
        return result

    monkeypatch.setattr(worker_module, changed, changing)
    report = in_process(plan)
    assert "was changed" in report.failed[0].reason
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_usage_is_one_line(clip: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / clip.name).write_bytes(clip.read_bytes())
    common = ("-s", "starry-night", "--backend", "fake", "--model", "lite")
    for arguments, code, words in [
        ([clip, again / clip.name, "-o", tmp_path], 2, "would both be written"),
        ([tmp_path / "none.mp4", "-o", tmp_path], 1, "cannot read"),
        ([tmp_path, "-o", tmp_path], 1, "has no file"),
        ([clip, "-o", tmp_path, "--workers", "0"], 2, "workers"),
        ([clip, "-o", tmp_path, "--address", "auto"], None, ""),
        ([clip, "-o", "nowhere://out"], 1, "nowhere"),
    ]:
        done = mst("batch", *arguments, *common)
        assert done.returncode == code if code is not None else done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"again"}


def test_a_worker_without_the_model_is_refused(clip: Path, tmp_path: Path) -> None:
    plan = planned([clip], tmp_path / "out")
    wrong = replace(plan, setup=replace(plan.setup, model="base"))
    with pytest.raises(
        BackendError, match="no worker can do the work: has another model under the name base"
    ):
        in_process(wrong)
    old = replace(plan, setup=replace(plan.setup, version="0.0.1"))
    with pytest.raises(BackendError, match=r"pip install mst-deploy==0\.0\.1"):
        in_process(old)
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_dry_run_and_report(clip: Path, tmp_path: Path) -> None:
    common = ("-s", "starry-night", "--backend", "fake", "--model", "lite", "--json")
    done = mst("batch", clip, "-o", tmp_path / "out", "--dry-run", "--workers", "2", *common)
    values = json.loads(done.stdout)
    assert (values["frames"], values["workers"]) == (64, 2)
    assert values["seconds"] > 0
    assert not (tmp_path / "out").exists()


# --- processes


@pytest.mark.slow
def test_processes_make_the_same_bytes_and_open_no_port(clip: Path, tmp_path: Path) -> None:
    plan = planned([clip], tmp_path / "out")
    before = listening()
    ports: list[set[str]] = []
    report = run(plan, lambda event: ports.append(listening() - before))
    assert report.failed == []
    assert len(report.workers) == 2
    assert not set().union(*ports)
    expected = tmp_path / "expected.mp4"
    with Worker(plan.setup) as one:
        render_file(clip, expected, one.generator, one.style_plan, TEN)
    assert (tmp_path / "out" / plan.videos[0].name).read_bytes() == expected.read_bytes()


def listening() -> set[str]:
    """Local addresses of listening TCP sockets of this machine."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {line[1] for line in lines if line[3] == "0A"}


BATCH = """
import sys, time
from pathlib import Path
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.jobs.batch import worker
from mst_deploy.jobs.batch.command import run
from tests.jobs.test_batch import planned

class Slow(FakeGenerator):
    def __call__(self, frames, film_params, canvas=None):
        time.sleep(0.03)
        return super().__call__(frames, film_params, canvas)

worker.open_generator = lambda bundle, *_: Slow(bundle)  # in the workers, too: they import this file

if __name__ == "__main__":
    plan = planned([Path(sys.argv[1])], sys.argv[2])
    raise SystemExit(len(run(plan, lambda event: None).failed))
"""


@pytest.mark.slow
def test_kill_workers_and_drivers_at_random_moments(clip: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "batch.py", tmp_path / "out"
    script.write_text(BATCH)
    command = [sys.executable, str(script), str(clip), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the tests' own modules
    expected = tmp_path / "expected.mp4"
    plan = planned([clip], out)
    with Worker(plan.setup) as one:
        render_file(clip, expected, one.generator, one.style_plan, TEN)
    result, unfinished = out / plan.videos[0].name, out / f"{plan.videos[0].name}.batch"
    dice = random.Random(7)
    begun = finished = 0
    for number in range(12):
        before = len(list(unfinished.glob("0*.json")))
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while len(list(unfinished.glob("0*.json"))) <= before and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.3))
        begun += driver.poll() is None
        victims = children(driver.pid)
        if number % 2 and victims:  # a worker: the driver goes on
            os.kill(dice.choice(victims), signal.SIGKILL)
            assert driver.wait(timeout=120) == 0
            finished += 1
        else:
            driver.kill()
            driver.wait()
        if result.exists():
            assert result.read_bytes() == expected.read_bytes()
            result.unlink()
    assert begun >= 5
    assert finished >= 5
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert [path.name for path in out.iterdir()] == [result.name]
    assert result.read_bytes() == expected.read_bytes()


def children(process: int, words: str = "spawn_main") -> list[int]:
    """Processes that a process has started, itself or through others, with words in their command line."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(path.parent.name)
            parents[number] = int(path.read_text().rpartition(")")[2].split()[1])
            commands[number] = path.with_name("cmdline").read_text()
        except OSError:
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [number for number in found - {process} if words in commands.get(number, "")]


@pytest.mark.slow
def test_interrupted_batch_goes_on(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mst_deploy", "batch", str(clip), "-o", str(tmp_path / "out")]
    command += ["-s", "starry-night", "--backend", "fake", "--model", "lite", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 0)
    assert "Traceback" not in errors
    assert mst_process(*command[3:]).returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.slow
def test_on_a_ray_cluster(clip: Path, tmp_path: Path) -> None:
    """A real cluster of two nodes of Ray on this machine: same bytes, although a worker is killed."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    plan = planned([clip], tmp_path / "out")
    unfinished = tmp_path / "out" / f"{plan.videos[0].name}.batch"
    options = BatchOptions(TEN, "", 2, 1.0, trust_network=True)
    killed: list[int] = []

    def kill_one(event: BatchEvent) -> None:
        if not killed and any(unfinished.glob("0*.json")):
            killed.extend(children(os.getpid(), "ray::Actor.run")[:1])
            for number in killed:
                os.kill(number, signal.SIGKILL)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        options = replace(options, address=cluster.address)
        with pytest.raises(InvalidArgument, match="RAY_AUTH_MODE"):
            run(replace(plan, options=replace(options, trust_network=False)), lambda event: None)
        crowded = replace(plan, options=replace(options, cpus_per_worker=64.0))
        with pytest.raises(BackendError, match="no machine of the cluster has 64 cores"):
            run(crowded, lambda event: None)
        wrong = replace(plan, options=options, setup=replace(plan.setup, model="base"))
        with pytest.raises(BackendError, match="has another model under the name base"):
            run(wrong, lambda event: None)
        report = run(replace(plan, options=options), kill_one)
    finally:
        cluster.shutdown()
    assert report.failed == []
    assert sum(worker.state == "lost" for worker in report.workers) == len(killed)
    expected = tmp_path / "expected.mp4"
    with Worker(plan.setup) as one:
        render_file(clip, expected, one.generator, one.style_plan, TEN)
    assert (tmp_path / "out" / plan.videos[0].name).read_bytes() == expected.read_bytes()


def test_no_cluster_at_the_address_is_one_line(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan = planned([clip], tmp_path / "out")
    nobody = replace(plan, options=BatchOptions(TEN, "127.0.0.1:9", 2, trust_network=True))
    with pytest.raises(BackendError, match=r"no Ray cluster answers at 127.0.0.1:9"):
        run(nobody, lambda event: None)
    assert not (tmp_path / "out").exists()
