"""Tests of jobs that are killed, interrupted, out of space or changed: no frame is lost, no file is left
behind."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.cli.errors import one_line
from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.jobs import disk
from mst_deploy.jobs.journal import JOURNAL, Journal, parts_folder, read_journal, unfinished
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.deflicker import REACH
from mst_deploy.video.hardware import device_opens
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.passthrough import PassthroughStreams
from tests.clips import Clip, probe, write_clip
from tests.conftest import IdentityGenerator
from tests.events import frames_to, notes_to

TEN = RenderOptions(part_frames=10)

JOB = """
import sys, time
from pathlib import Path
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.jobs.render_file import render_file
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.styles.plan import constant_plan
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import resolve_model

class Slow(FakeGenerator):
    def __call__(self, frames, films, canvas=None):
        time.sleep(0.004)
        return super().__call__(frames, films)

bundle = open_bundle(resolve_model())
style_plan = constant_plan(bundle.manifest.layout.identity())
print("ready", flush=True)
options = RenderOptions(part_frames=15, resume=True)
render_file(Path(sys.argv[1]), Path(sys.argv[2]), Slow(bundle), style_plan, options)
"""


@pytest.fixture(scope="module")
def long_clip(clip_folder: Path) -> Path:
    """200 frames of a rate that varies, with B-frames and two sound tracks."""
    steps = np.random.default_rng(5).integers(200, 2500, 200)
    times = tuple(int(time) for time in np.cumsum(steps))
    return write_clip(clip_folder / "killed.mp4", Clip(times=times, audio=2))


def start(source: Path, output: Path) -> subprocess.Popen[str]:
    """A job in a process of its own, everything imported."""
    process = subprocess.Popen([sys.executable, "-c", JOB, source, output], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    assert process.wait(timeout=120) == 0
    assert process.stdout is not None
    process.stdout.close()


def everything(path: Path) -> tuple[list[Fraction], list[bytes], list[Any]]:
    """Time and content of every decoded frame, and all sound packets."""
    with av.open(path) as container:
        frames: list[Any] = list(container.decode(video=0))
    contents = [frame.to_ndarray().tobytes() for frame in frames]
    return [frame.pts * frame.time_base for frame in frames], contents, probe(path).audio


def kill_and_go_on(source: Path, folder: Path, moments: list[float]) -> Path:
    """A job killed at each of the moments (seconds after its start) and always taken up again."""
    output = folder / "out.mp4"
    for moment in moments:
        process = start(source, output)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    finish(start(source, output))
    return output


@pytest.fixture(scope="module")
def undisturbed(long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, float]:
    """What a job gives that runs through, and the seconds it takes."""
    output = tmp_path_factory.mktemp("undisturbed") / "out.mp4"
    process = start(long_clip, output)
    started_with = time.monotonic()
    finish(process)
    return everything(output), time.monotonic() - started_with


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 8))])
def test_kill_at_random_moments(
    seed: int, long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    moments = random.Random(seed)
    output = kill_and_go_on(
        long_clip, tmp_path, [moments.uniform(0, seconds), moments.uniform(0, seconds / 2)]
    )
    assert everything(output) == expected
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
def test_one_job_killed_twenty_times(long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path) -> None:
    """Killed early enough that most of the kills find it at work, and late enough that it gets on."""
    expected, seconds = undisturbed
    moments = random.Random(20)
    output = kill_and_go_on(long_clip, tmp_path, [moments.uniform(0, seconds / 3) for _ in range(20)])
    assert everything(output) == expected
    assert list(tmp_path.iterdir()) == [output]


def test_parts_change_neither_frames_nor_times(
    long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path
) -> None:
    """All 200 times and every sound packet are those of the source."""
    (times, frames, audio), _ = undisturbed
    before = probe(long_clip)
    assert times == before.times
    assert audio == before.audio
    assert len(frames) == 200


class Breaking(IdentityGenerator):
    """Raises an error in place of frame ``at``."""

    def __init__(self, bundle: Any, error: BaseException, at: int) -> None:
        super().__init__(bundle)
        self.error, self.left = error, at

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__call__(frames, film_params)


def stopped(
    source: Path, output: Path, bundle: Any, film: Any, error: BaseException, at: int
) -> BaseException:
    """A job that was broken off at a frame."""
    with pytest.raises(type(error)) as caught:
        render_file(source, output, Breaking(bundle, error, at), constant_plan(film), TEN)
    return caught.value


def go_on(source: Path, output: Path, bundle: Any, film: Any, options: RenderOptions = TEN) -> Any:
    generator = Breaking(bundle, RuntimeError(), 10**9)
    return render_file(source, output, generator, constant_plan(film), replace(options, resume=True))


@pytest.fixture
def clip(clip_folder: Path) -> Path:
    path = clip_folder / "resumed.mp4"
    return path if path.exists() else write_clip(path, Clip(frames=36))


def test_ctrl_c_keeps_a_file_that_plays(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    error = stopped(clip, output, bundle, film, KeyboardInterrupt(), at=26)
    kept = tmp_path / "out.interrupted.mp4"
    assert error.__notes__ == [f"the first 26 frames are in {kept}; the same command with resume goes on"]
    assert one_line(error).endswith("; the same command with --resume goes on")
    assert not output.exists()
    before, part = probe(clip), probe(kept)
    assert part.times == before.times[:26]
    ends = part.times[-1] + Fraction(1001, 30000)
    assert part.audio == [packet for packet in before.audio if packet[1] < ends]
    go_on(clip, output, bundle, film)
    render_file(clip, tmp_path / "whole.mp4", Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN)
    assert everything(output) == everything(tmp_path / "whole.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "whole.mp4"]


class ShowingCanvas(Breaking):
    """Mixes the canvas into the frame, so that another canvas would be another file."""

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        super().__call__(frames, film_params)
        assert canvas is not None
        return frames // 2 + canvas // 2


@pytest.mark.parametrize(("batch", "at"), [(1, 26), (3, 7)])
def test_a_job_goes_on_with_the_canvas_of_the_frame_it_is_at(
    batch: int, at: int, clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    style_plan, options = constant_plan(film, bundle.manifest), replace(TEN, batch=batch)
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    render_file(clip, whole, ShowingCanvas(bundle, RuntimeError(), 99), style_plan, options)
    with pytest.raises(RuntimeError):
        render_file(clip, output, ShowingCanvas(bundle, RuntimeError(), at), style_plan, options)
    result = render_file(
        clip, output, ShowingCanvas(bundle, RuntimeError(), 99), style_plan, replace(options, resume=True)
    )
    assert result.resumed > 0
    assert everything(output) == everything(whole)
    other = replace(style_plan, timeline=replace(style_plan.timeline, seed=5))
    render_file(clip, tmp_path / "other.mp4", ShowingCanvas(bundle, RuntimeError(), 99), other, options)
    assert everything(tmp_path / "other.mp4")[1] != everything(whole)[1]


@pytest.mark.parametrize("frames_each", [2, 10])
def test_a_steadied_job_goes_on_as_if_nothing_had_happened(
    frames_each: int, clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    """Frames before the part that comes next are painted again, for those after them to be averaged with."""
    deflicker = replace(TEN, part_frames=frames_each, deflicker=True)
    counted: list[int] = []
    generator = Breaking(bundle, OutputError("no more"), 23)
    with pytest.raises(OutputError, match="no more"):
        render_file(clip, tmp_path / "out.mp4", generator, constant_plan(film), deflicker)
    with pytest.raises(OutputError, match="steady was True, now False"):
        go_on(clip, tmp_path / "out.mp4", bundle, film, replace(deflicker, deflicker=False))
    generator = Breaking(bundle, RuntimeError(), 99)
    options, listener = replace(deflicker, resume=True), frames_to(counted.append)
    result = render_file(clip, tmp_path / "out.mp4", generator, constant_plan(film), options, listener)
    done = 23 // frames_each * frames_each
    assert (result.resumed, result.frames) == (done, 36)
    assert counted == [done] * REACH + list(range(done + 1, 37))
    whole = {}
    for name, each in (("steady", deflicker), ("plain", replace(deflicker, deflicker=False))):
        generator = Breaking(bundle, RuntimeError(), 99)
        result = render_file(clip, tmp_path / f"{name}.mp4", generator, constant_plan(film), each)
        assert ("deflicker" in result.stages) == (name == "steady")
        whole[name] = everything(tmp_path / f"{name}.mp4")
    assert everything(tmp_path / "out.mp4") == whole["steady"]
    assert whole["steady"][1] != whole["plain"][1]


def test_ctrl_c_in_the_first_part(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    """No part is finished: there is nothing to go on with, but what was painted can be watched."""
    error = stopped(clip, tmp_path / "out.mp4", bundle, film, KeyboardInterrupt(), at=4)
    kept = tmp_path / "out.interrupted.mp4"
    assert error.__notes__ == [f"the first 4 frames are in {kept}"]
    assert list(tmp_path.iterdir()) == [kept]
    assert probe(kept).times == probe(clip).times[:4]


def test_ctrl_c_before_the_first_frame_leaves_nothing(
    clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    error = stopped(clip, tmp_path / "out.mp4", bundle, film, KeyboardInterrupt(), at=0)
    assert not hasattr(error, "__notes__")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_and_errors_where_there_are_no_parts(
    clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    """An animation is written in one piece: it is closed, and kept under the other name."""
    error = stopped(clip, tmp_path / "out.gif", bundle, film, KeyboardInterrupt(), at=4)
    kept = tmp_path / "out.interrupted.gif"
    assert error.__notes__ == [f"the first 4 frames are in {kept}"]
    assert list(tmp_path.iterdir()) == [kept]
    with av.open(kept) as container:
        assert len(list(container.decode(video=0))) == 4
    kept.unlink()
    error = stopped(clip, tmp_path / "out.gif", bundle, film, OutputError("no more"), at=4)
    assert not hasattr(error, "__notes__")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match="written in one piece"):
        go_on(clip, tmp_path / "out.gif", bundle, film)


def test_an_error_keeps_the_finished_parts_and_says_so(
    clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    output = tmp_path / "out.mp4"
    error = stopped(clip, output, bundle, film, OutputError("no more"), at=26)
    assert error.__notes__ == ["the first 20 frames are kept: the same command with resume goes on"]
    assert one_line(error).endswith("the same command with --resume goes on")
    assert list(tmp_path.iterdir()) == [parts_folder(output)]
    result = go_on(clip, output, bundle, film)
    assert (result.resumed, result.frames) == (20, 36)
    assert probe(output).times == probe(clip).times


def test_a_job_is_not_taken_up_unasked(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    stopped(clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match=r"unfinished job .*20 frames.*with resume.*with force"):
        render_file(clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN)
    forced = replace(TEN, force=True)
    result = render_file(clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), forced)
    assert result.resumed == 0
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (replace(TEN, encode=EncodeOptions("hevc")), "coding was .*None.*now .*hevc"),
        (RenderOptions(part_frames=12), "part was 10 frames, now 12 frames"),
        (replace(TEN, batch=2), "batch was 1, now 2"),
    ],
)
def test_a_job_with_other_settings_is_refused(
    options: RenderOptions, words: str, clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    output = tmp_path / "out.mp4"
    stopped(clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match=words):
        go_on(clip, output, bundle, film, options)
    with pytest.raises(OutputError, match="styles was"):
        go_on(clip, output, bundle, film + 1)
    go_on(clip, output, bundle, film)  # refusing has harmed nothing
    assert list(tmp_path.iterdir()) == [output]


def test_a_job_with_another_encoder_is_refused(
    clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--hwaccel auto found a GPU when the job began; parts of two encoders cannot be joined."""
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as then:
        then.setattr("mst_deploy.jobs.render_file.encoder_of", lambda *asked: "h264_nvenc")
        stopped(clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match="encoder was h264_nvenc, now libx264"):
        go_on(clip, output, bundle, film)


def test_auto_says_what_is_done_in_software(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    if device_opens():
        pytest.skip("there is hardware here")
    notes: list[str] = []
    options = replace(TEN, read=ReadOptions(hwaccel="auto"), encode=EncodeOptions(hwaccel="auto"))
    generator, listener = Breaking(bundle, RuntimeError(), 99), notes_to(notes.append)
    result = render_file(clip, tmp_path / "out.mp4", generator, constant_plan(film), options, listener)
    assert notes == [
        "hwaccel auto: decoding in software (h264)",
        "hwaccel auto: encoding in software (libx264)",
    ]
    assert (result.decoder, result.encoder) == ("h264", "libx264")


def test_damaged_sound_is_reported_by_the_job(
    clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet of the sound is held to be out of order."""
    monkeypatch.setattr(PassthroughStreams, "_in_order", lambda self, packet, route: False)
    for name in ("out.mp4", "out.mkv"):
        generator = Breaking(bundle, RuntimeError(), 99)
        result = render_file(clip, tmp_path / name, generator, constant_plan(film), TEN)
        assert any("sound or subtitles had times that make no sense" in words for words in result.damage)


@pytest.mark.parametrize(
    ("name", "coding", "words"),
    [
        ("out.webm", EncodeOptions(), "webm files cannot hold audio stream 1"),
        ("out.mov", EncodeOptions("vp9"), "cannot write vp9"),
        ("out.mp4", EncodeOptions("prores"), "cannot write prores"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_frame(
    name: str, coding: EncodeOptions, words: str, clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    generator = Breaking(bundle, AssertionError("painted"), 0)
    with pytest.raises(OutputError, match=words):
        render_file(clip, tmp_path / name, generator, constant_plan(film), replace(TEN, encode=coding))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_wrong_usage_before_the_first_frame(
    clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    generator = Breaking(bundle, AssertionError("painted"), 0)
    with pytest.raises(InvalidArgument, match=r"cannot write .*out.avi: unknown video type") as caught:
        render_file(clip, tmp_path / "out.avi", generator, constant_plan(film), TEN)
    assert caught.value.field == "output"
    assert list(tmp_path.iterdir()) == []


def test_a_job_on_another_input_is_refused(tmp_path: Path, bundle: Any, film: Any) -> None:
    source = write_clip(tmp_path / "in.mp4", Clip(frames=36))
    output = tmp_path / "out.mp4"
    stopped(source, output, bundle, film, OutputError("no more"), at=26)
    write_clip(source, Clip(frames=37))
    with pytest.raises(OutputError, match="input was"):
        go_on(source, output, bundle, film)


def test_a_part_that_was_damaged_is_made_again(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    stopped(clip, output, bundle, film, OutputError("no more"), at=35)
    second = parts_folder(output) / "000001.mp4"
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert go_on(clip, output, bundle, film).resumed == 10
    assert probe(output).times == probe(clip).times


def test_two_processes_do_not_share_a_job(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    with Journal(output) as held:
        held.begin({}, resume=False)
        with pytest.raises(OutputError, match="another process is working on"):
            go_on(clip, output, bundle, film)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "parts": 3}'])
def test_an_unreadable_journal_is_reported(
    text: str, clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / JOURNAL).write_text(text)
    with pytest.raises(OutputError, match=r"journal.json.*start anew"):
        go_on(clip, tmp_path / "out.mp4", bundle, film)


def test_a_crash_while_clearing_up_is_cleared_up(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    """The result has its name, the folder is still there: no frame is painted again."""
    output = tmp_path / "out.mp4"
    stopped(clip, output, bundle, film, OutputError("no more"), at=26)
    folder = parts_folder(output)
    kept = json.loads((folder / JOURNAL).read_text())
    go_on(clip, output, bundle, film)
    content = output.read_bytes()
    folder.mkdir()
    (folder / JOURNAL).write_text(json.dumps({**kept, "state": "joined"}))
    render_file(
        clip,
        output,
        Breaking(bundle, AssertionError("painted"), 0),
        constant_plan(film),
        replace(TEN, resume=True),
    )
    assert output.read_bytes() == content
    assert list(tmp_path.iterdir()) == [output]


def test_a_folder_of_somebody_else_is_left_alone(clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / "diary.txt").write_text("precious")
    assert not unfinished(tmp_path / "out.mp4")
    with pytest.raises(OutputError, match=r"holds other files \(diary.txt\)"):
        go_on(clip, tmp_path / "out.mp4", bundle, film)
    assert (folder / "diary.txt").read_text() == "precious"
    assert list(tmp_path.rglob("*")) == [folder, folder / "diary.txt"]


def test_a_folder_that_a_crash_left_without_a_journal_goes(tmp_path: Path) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    (folder / ".000003-x1y2").mkdir(parents=True)
    for name in ("lock", "journal.json.new", "000000.mp4", "out.mp4"):
        (folder / name).touch()
    assert not unfinished(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before(
    clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Breaking(bundle, AssertionError("started"), 0)
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1_000_000)
    with pytest.raises(OutputError, match=r"nearly full: the job needs about .* 1.0 MB are free"):
        render_file(clip, tmp_path / "out.mp4", generator, constant_plan(film), TEN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("missing", "said"), [(1, 1), (0, 0)])
def test_a_disk_that_may_become_full_is_said(
    missing: int,
    said: int,
    clip: Path,
    tmp_path: Path,
    bundle: Any,
    film: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One byte less than parts and result are expected to take is worth a note, and no more."""
    needed = 2 * disk.expected_bytes("h264", 64, 48, 36) + disk.RESERVE
    free = iter([needed - missing])
    monkeypatch.setattr(disk, "free_bytes", lambda path: next(free, 10**12))
    notes: list[str] = []
    generator = Breaking(bundle, RuntimeError(), 99)
    listener = notes_to(notes.append)
    render_file(clip, tmp_path / "out.mp4", generator, constant_plan(film), TEN, listener)
    assert len(notes) == said
    assert all("may become full" in note for note in notes)


def test_a_disk_that_fills_up_is_noticed_in_time(
    clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space goes while the job runs: it stops before a part fails, and goes on when there is room."""
    output = tmp_path / "out.mp4"
    folder = parts_folder(output)
    monkeypatch.setattr(
        disk, "free_bytes", lambda path: 10**6 if len(list(folder.glob("0*.mp4"))) == 2 else 10**12
    )
    with pytest.raises(
        OutputError, match=r"nearly full: 1.0 MB are free, going on needs .*with resume"
    ) as caught:
        render_file(clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN)
    assert caught.value.__notes__[0].startswith("the first 20 frames are kept")
    found = read_journal(folder)
    assert found is not None
    assert [part.frames for part in found.parts] == [10, 10]
    monkeypatch.setattr(disk, "free_bytes", lambda path: 10**12)
    assert go_on(clip, output, bundle, film).resumed == 20


def test_a_job_of_a_session_names_the_runtime_behind_it(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runtime gives other bytes, so the journal must distinguish them, also through a Stylizer."""
    begun: list[dict[str, str]] = []

    def begin(self: Journal, settings: dict[str, str], **how: Any) -> None:
        begun.append(settings)
        raise OutputError("seen enough")

    monkeypatch.setattr(Journal, "begin", begin)
    with mst.Stylizer(backend="fake") as stylizer, pytest.raises(OutputError, match="seen enough"):
        stylizer.file(clip, tmp_path / "out.mp4", "zodiac")
    assert begun[0]["runtime"] == "fake on cpu"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxrt", "openvino", "openvino:bf16"])
def test_every_precision_gives_the_same_bytes_again_and_after_a_break(
    backend: str, clip: Path, tmp_path: Path
) -> None:
    """Twice from the beginning, and stopped at frame 26 and taken up again: the same file."""
    if backend != "onnxrt":
        openvino = pytest.importorskip("openvino")
        if backend.endswith("bf16") and "BF16" not in openvino.Core().get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            pytest.skip("this processor has no bfloat16")
    target = tmp_path / "out.mp4"
    with mst.Stylizer("lite", backend=backend, device="cpu") as stylizer:
        first = everything(stylizer.file(clip, tmp_path / "first.mp4", "zodiac", TEN).output)
        second = everything(stylizer.file(clip, tmp_path / "second.mp4", "zodiac", TEN).output)
        assert first == second
        stopped_at = frames_to(lambda done: signal.raise_signal(signal.SIGINT) if done == 26 else None)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                stylizer.file(clip, target, "zodiac", TEN, stopped_at)
        finally:
            signal.signal(signal.SIGINT, before)
    other = "openvino" if backend == "onnxrt" else "onnxrt"
    if other != "openvino" or find_spec("openvino"):
        with mst.Stylizer("lite", backend=other, device="cpu") as stylizer:
            going_on = replace(TEN, resume=True)
            with pytest.raises(OutputError, match=f"runtime was {backend}, .*now {other}"):
                stylizer.file(clip, target, "zodiac", going_on)
    with mst.Stylizer("lite", backend=backend, device="cpu") as stylizer:
        result = stylizer.file(clip, target, "zodiac", replace(TEN, resume=True))
    assert result.resumed > 0
    assert everything(target) == first
