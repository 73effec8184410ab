"""Tests of jobs that are killed, interrupted, out of space or changed: no frame is lost, no file is left
behind."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import pytest

import mst_deploy as mst
from mst_deploy.cli.errors import one_line
from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.jobs.journal import JOURNAL, Journal, parts_folder, unfinished
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.deflicker import REACH
from mst_deploy.video.hardware import device_opens
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.passthrough import PassthroughStreams
from tests.clips import Clip, probe, write_clip
from tests.events import frames_to, notes_to
from tests.jobs.breaking import TEN, Breaking, everything, go_on, stopped


def test_ctrl_c_keeps_a_file_that_plays(short_clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    error = stopped(short_clip, output, bundle, film, KeyboardInterrupt(), at=26)
    kept = tmp_path / "out.interrupted.mp4"
    assert error.__notes__ == [f"the first 26 frames are in {kept}; the same command with resume goes on"]
    assert one_line(error).endswith("; the same command with --resume goes on")
    assert not output.exists()
    before, part = probe(short_clip), probe(kept)
    assert part.times == before.times[:26]
    ends = part.times[-1] + Fraction(1001, 30000)
    assert part.audio == [packet for packet in before.audio if packet[1] < ends]
    go_on(short_clip, output, bundle, film)
    render_file(
        short_clip, tmp_path / "whole.mp4", Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN
    )
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
    batch: int, at: int, short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    style_plan, options = constant_plan(film, bundle.manifest), replace(TEN, batch=batch)
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    render_file(short_clip, whole, ShowingCanvas(bundle, RuntimeError(), 99), style_plan, options)
    with pytest.raises(RuntimeError):
        render_file(short_clip, output, ShowingCanvas(bundle, RuntimeError(), at), style_plan, options)
    result = render_file(
        short_clip,
        output,
        ShowingCanvas(bundle, RuntimeError(), 99),
        style_plan,
        replace(options, resume=True),
    )
    assert result.resumed > 0
    assert everything(output) == everything(whole)
    other = replace(style_plan, timeline=replace(style_plan.timeline, seed=5))
    render_file(short_clip, tmp_path / "other.mp4", ShowingCanvas(bundle, RuntimeError(), 99), other, options)
    assert everything(tmp_path / "other.mp4")[1] != everything(whole)[1]


@pytest.mark.parametrize("frames_each", [2, 10])
def test_a_steadied_job_goes_on_as_if_nothing_had_happened(
    frames_each: int, short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    """Frames before the part that comes next are painted again, for those after them to be averaged with."""
    deflicker = replace(TEN, part_frames=frames_each, deflicker=True)
    counted: list[int] = []
    generator = Breaking(bundle, OutputError("no more"), 23)
    with pytest.raises(OutputError, match="no more"):
        render_file(short_clip, tmp_path / "out.mp4", generator, constant_plan(film), deflicker)
    with pytest.raises(OutputError, match="steady was True, now False"):
        go_on(short_clip, tmp_path / "out.mp4", bundle, film, replace(deflicker, deflicker=False))
    generator = Breaking(bundle, RuntimeError(), 99)
    options, listener = replace(deflicker, resume=True), frames_to(counted.append)
    result = render_file(short_clip, tmp_path / "out.mp4", generator, constant_plan(film), options, listener)
    done = 23 // frames_each * frames_each
    assert (result.resumed, result.frames) == (done, 36)
    assert counted == [done] * REACH + list(range(done + 1, 37))
    whole = {}
    for name, each in (("steady", deflicker), ("plain", replace(deflicker, deflicker=False))):
        generator = Breaking(bundle, RuntimeError(), 99)
        result = render_file(short_clip, tmp_path / f"{name}.mp4", generator, constant_plan(film), each)
        assert ("deflicker" in result.stages) == (name == "steady")
        whole[name] = everything(tmp_path / f"{name}.mp4")
    assert everything(tmp_path / "out.mp4") == whole["steady"]
    assert whole["steady"][1] != whole["plain"][1]


def test_ctrl_c_in_the_first_part(short_clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    """No part is finished: there is nothing to go on with, but what was painted can be watched."""
    error = stopped(short_clip, tmp_path / "out.mp4", bundle, film, KeyboardInterrupt(), at=4)
    kept = tmp_path / "out.interrupted.mp4"
    assert error.__notes__ == [f"the first 4 frames are in {kept}"]
    assert list(tmp_path.iterdir()) == [kept]
    assert probe(kept).times == probe(short_clip).times[:4]


def test_ctrl_c_before_the_first_frame_leaves_nothing(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    error = stopped(short_clip, tmp_path / "out.mp4", bundle, film, KeyboardInterrupt(), at=0)
    assert not hasattr(error, "__notes__")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_and_errors_where_there_are_no_parts(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    """An animation is written in one piece: it is closed, and kept under the other name."""
    error = stopped(short_clip, tmp_path / "out.gif", bundle, film, KeyboardInterrupt(), at=4)
    kept = tmp_path / "out.interrupted.gif"
    assert error.__notes__ == [f"the first 4 frames are in {kept}"]
    assert list(tmp_path.iterdir()) == [kept]
    with av.open(kept) as container:
        assert len(list(container.decode(video=0))) == 4
    kept.unlink()
    error = stopped(short_clip, tmp_path / "out.gif", bundle, film, OutputError("no more"), at=4)
    assert not hasattr(error, "__notes__")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match="written in one piece"):
        go_on(short_clip, tmp_path / "out.gif", bundle, film)


def test_an_error_keeps_the_finished_parts_and_says_so(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    output = tmp_path / "out.mp4"
    error = stopped(short_clip, output, bundle, film, OutputError("no more"), at=26)
    assert error.__notes__ == ["the first 20 frames are kept: the same command with resume goes on"]
    assert one_line(error).endswith("the same command with --resume goes on")
    assert list(tmp_path.iterdir()) == [parts_folder(output)]
    result = go_on(short_clip, output, bundle, film)
    assert (result.resumed, result.frames) == (20, 36)
    assert probe(output).times == probe(short_clip).times


def test_a_job_is_not_taken_up_unasked(short_clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    stopped(short_clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match=r"unfinished job .*20 frames.*with resume.*with force"):
        render_file(short_clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN)
    forced = replace(TEN, force=True)
    result = render_file(
        short_clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), forced
    )
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
    options: RenderOptions, words: str, short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    output = tmp_path / "out.mp4"
    stopped(short_clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match=words):
        go_on(short_clip, output, bundle, film, options)
    with pytest.raises(OutputError, match="styles was"):
        go_on(short_clip, output, bundle, film + 1)
    go_on(short_clip, output, bundle, film)  # refusing has harmed nothing
    assert list(tmp_path.iterdir()) == [output]


def test_a_job_with_another_encoder_is_refused(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--hwaccel auto found a GPU when the job began; parts of two encoders cannot be joined."""
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as then:
        then.setattr("mst_deploy.jobs.render_file.encoder_of", lambda *asked: "h264_nvenc")
        stopped(short_clip, output, bundle, film, OutputError("no more"), at=26)
    with pytest.raises(OutputError, match="encoder was h264_nvenc, now libx264"):
        go_on(short_clip, output, bundle, film)


def test_auto_says_what_is_done_in_software(short_clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    if device_opens():
        pytest.skip("there is hardware here")
    notes: list[str] = []
    options = replace(TEN, read=ReadOptions(hwaccel="auto"), encode=EncodeOptions(hwaccel="auto"))
    generator, listener = Breaking(bundle, RuntimeError(), 99), notes_to(notes.append)
    result = render_file(short_clip, tmp_path / "out.mp4", generator, constant_plan(film), options, listener)
    assert notes == [
        "hwaccel auto: decoding in software (h264)",
        "hwaccel auto: encoding in software (libx264)",
    ]
    assert (result.decoder, result.encoder) == ("h264", "libx264")


def test_damaged_sound_is_reported_by_the_job(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet of the sound is held to be out of order."""
    monkeypatch.setattr(PassthroughStreams, "_in_order", lambda self, packet, route: False)
    for name in ("out.mp4", "out.mkv"):
        generator = Breaking(bundle, RuntimeError(), 99)
        result = render_file(short_clip, tmp_path / name, generator, constant_plan(film), TEN)
        assert any("sound or subtitles had times that make no sense" in words for words in result.damage)


def test_a_job_on_another_input_is_refused(tmp_path: Path, bundle: Any, film: Any) -> None:
    source = write_clip(tmp_path / "in.mp4", Clip(frames=36))
    output = tmp_path / "out.mp4"
    stopped(source, output, bundle, film, OutputError("no more"), at=26)
    write_clip(source, Clip(frames=37))
    with pytest.raises(OutputError, match="input was"):
        go_on(source, output, bundle, film)


def test_a_part_that_was_damaged_is_made_again(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    output = tmp_path / "out.mp4"
    stopped(short_clip, output, bundle, film, OutputError("no more"), at=35)
    second = parts_folder(output) / "000001.mp4"
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert go_on(short_clip, output, bundle, film).resumed == 10
    assert probe(output).times == probe(short_clip).times


def test_two_processes_do_not_share_a_job(short_clip: Path, tmp_path: Path, bundle: Any, film: Any) -> None:
    output = tmp_path / "out.mp4"
    with Journal(output) as held:
        held.begin({}, resume=False)
        with pytest.raises(OutputError, match="another process is working on"):
            go_on(short_clip, output, bundle, film)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "parts": 3}'])
def test_an_unreadable_journal_is_reported(
    text: str, short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / JOURNAL).write_text(text)
    with pytest.raises(OutputError, match=r"journal.json.*start anew"):
        go_on(short_clip, tmp_path / "out.mp4", bundle, film)


def test_a_crash_while_clearing_up_is_cleared_up(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    """The result has its name, the folder is still there: no frame is painted again."""
    output = tmp_path / "out.mp4"
    stopped(short_clip, output, bundle, film, OutputError("no more"), at=26)
    folder = parts_folder(output)
    kept = json.loads((folder / JOURNAL).read_text())
    go_on(short_clip, output, bundle, film)
    content = output.read_bytes()
    folder.mkdir()
    (folder / JOURNAL).write_text(json.dumps({**kept, "state": "joined"}))
    render_file(
        short_clip,
        output,
        Breaking(bundle, AssertionError("painted"), 0),
        constant_plan(film),
        replace(TEN, resume=True),
    )
    assert output.read_bytes() == content
    assert list(tmp_path.iterdir()) == [output]


def test_a_folder_of_somebody_else_is_left_alone(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / "diary.txt").write_text("precious")
    assert not unfinished(tmp_path / "out.mp4")
    with pytest.raises(OutputError, match=r"holds other files \(diary.txt\)"):
        go_on(short_clip, tmp_path / "out.mp4", bundle, film)
    assert (folder / "diary.txt").read_text() == "precious"
    assert list(tmp_path.rglob("*")) == [folder, folder / "diary.txt"]


def test_a_folder_that_a_crash_left_without_a_journal_goes(tmp_path: Path) -> None:
    folder = parts_folder(tmp_path / "out.mp4")
    (folder / ".000003-x1y2").mkdir(parents=True)
    for name in ("lock", "journal.json.new", "000000.mp4", "out.mp4"):
        (folder / name).touch()
    assert not unfinished(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_a_session_names_the_runtime_behind_it(
    short_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runtime gives other bytes, so the journal must distinguish them, also through a Stylizer."""
    begun: list[dict[str, str]] = []

    def begin(self: Journal, settings: dict[str, str], **how: Any) -> None:
        begun.append(settings)
        raise OutputError("seen enough")

    monkeypatch.setattr(Journal, "begin", begin)
    with mst.Stylizer(backend="fake") as stylizer, pytest.raises(OutputError, match="seen enough"):
        stylizer.file(short_clip, tmp_path / "out.mp4", "zodiac")
    assert begun[0]["runtime"] == "fake on cpu"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxrt", "openvino", "openvino:bf16"])
def test_every_precision_gives_the_same_bytes_again_and_after_a_break(
    backend: str, short_clip: Path, tmp_path: Path
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
        first = everything(stylizer.file(short_clip, tmp_path / "first.mp4", "zodiac", TEN).output)
        second = everything(stylizer.file(short_clip, tmp_path / "second.mp4", "zodiac", TEN).output)
        assert first == second
        stopped_at = frames_to(lambda done: signal.raise_signal(signal.SIGINT) if done == 26 else None)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                stylizer.file(short_clip, target, "zodiac", TEN, stopped_at)
        finally:
            signal.signal(signal.SIGINT, before)
    other = "openvino" if backend == "onnxrt" else "onnxrt"
    if other != "openvino" or find_spec("openvino"):
        with mst.Stylizer("lite", backend=other, device="cpu") as stylizer:
            going_on = replace(TEN, resume=True)
            with pytest.raises(OutputError, match=f"runtime was {backend}, .*now {other}"):
                stylizer.file(short_clip, target, "zodiac", going_on)
    with mst.Stylizer("lite", backend=backend, device="cpu") as stylizer:
        result = stylizer.file(short_clip, target, "zodiac", replace(TEN, resume=True))
    assert result.resumed > 0
    assert everything(target) == first
