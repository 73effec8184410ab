"""Wrong usage and bad input of the command line: one line, the right exit code, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from mst_deploy.model.bundle import Bundle
from tests.clips import Clip, write_clip
from tests.command_line import mst
from tests.conftest import ROOT


def test_wrong_usage_is_exit_code_two() -> None:
    assert mst("video").returncode == 2
    assert mst("video", "a.mp4", "--style", "zodiac", "--strength", "2").returncode == 2
    assert mst("video", "a.mp4").returncode == 2
    assert "name a style" in mst("image", "a.png").stderr
    assert mst("nonsense").returncode == 2


def text_file(folder: Path) -> Path:
    (folder / "note.txt").write_text("no video at all\n" * 100)
    return folder / "note.txt"


def truncated(folder: Path) -> Path:
    data = write_clip(folder / "whole.mp4", Clip(width=160, height=120, frames=40)).read_bytes()
    (folder / "whole.mp4").unlink()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    return folder / "cut.mp4"


def empty(folder: Path, name: str) -> Path:
    (folder / name).touch()
    return folder / name


def audio_only(folder: Path) -> Path:
    source = write_clip(folder / "with.mp4", Clip(frames=4))
    with av.open(source) as reader, av.open(folder / "sound.m4a", "w", format="mp4") as writer:
        track = reader.streams.audio[0]
        copy = writer.add_stream_from_template(track)
        for packet in reader.demux(track):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    source.unlink()
    return folder / "sound.m4a"


def bundle_with(folder: Path, bundle: Bundle, file: str, data: bytes) -> Path:
    shutil.copytree(bundle.path, folder / "model")
    (folder / "model" / file).write_bytes(data)
    return folder / "model"


def with_model(clip: Path, model: Path) -> list[object]:
    return ["video", clip, "-s", "zodiac", "--model", model, "-o", model.parent / "o.mp4"]


PAINTING = ROOT / "examples" / "paintings" / "zodiac.jpg"
Case = tuple[Callable[[Path, Path, Bundle], list[object]], str]
BAD: dict[str, Case] = {
    "missing file": (lambda d, c, b: ["video", d / "absent.mp4", "-s", "zodiac"], "does not exist"),
    "not a video": (lambda d, c, b: ["video", text_file(d), "-s", "zodiac"], "as a video"),
    "empty video": (lambda d, c, b: ["video", empty(d, "e.mp4"), "-s", "zodiac"], "is empty"),
    "no video stream": (lambda d, c, b: ["video", audio_only(d), "-s", "zodiac"], "no video stream"),
    "truncated video": (lambda d, c, b: ["video", truncated(d), "-s", "zodiac"], "truncated"),
    "empty image": (lambda d, c, b: ["image", empty(d, "e.png"), "-s", "zodiac"], "the file is empty"),
    "missing image": (lambda d, c, b: ["image", d / "no.png", "-s", "zodiac"], "does not exist"),
    "text as style": (lambda d, c, b: ["video", c, "-s", text_file(d), "-o", d / "o.mp4"], "as a style"),
    "broken style image": (lambda d, c, b: ["video", c, "-s", empty(d, "s.png"), "-o", d / "o.mp4"], "empty"),
    "unknown style": (lambda d, c, b: ["video", c, "-s", "nobody", "-o", d / "o.mp4"], "no style 'nobody'"),
    "no such folder": (lambda d, c, b: ["video", c, "-s", "zodiac", "-o", d / "n" / "o.mp4"], "not exist"),
    "unwritable folder": (lambda d, c, b: ["video", c, "-s", "zodiac", "-o", "/proc/o.mp4"], "cannot write"),
    "unknown codec": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--codec", "h999", "-o", d / "o.mp4"],
        "choose one of",
    ),
    "missing mask": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--mask", d / "n.png", "-o", d / "o.mp4"],
        "not exist",
    ),
    "style outside of nothing": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--background-style", "udnie", "-o", d / "o.mp4"],
        "a mask",
    ),
    "missing timeline": (lambda d, c, b: ["video", c, "--timeline", d / "no.yaml"], "read the timeline"),
    "empty folder": (lambda d, c, b: ["video", d, "-s", "zodiac"], "has no file of the types"),
    "pattern without a match": (lambda d, c, b: ["video", d / "*.mp4", "-s", "zodiac"], "no file matches"),
    "many into one file": (
        lambda d, c, b: ["video", c, PAINTING, "-s", "zodiac", "-o", d / "o.mp4"],
        "an existing folder",
    ),
    "resuming an animation": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--resume", "-o", d / "o.gif"],
        "be resumed",
    ),
    "bad rate": (lambda d, c, b: ["video", c, "-s", "zodiac", "--rate", "0", "-o", d / "o.mp4"], "as a rate"),
    "bad start": (lambda d, c, b: ["video", c, "-s", "zodiac", "--start", "x", "-o", d / "o.mp4"], "a time"),
    "unknown container": (lambda d, c, b: ["video", c, "-s", "zodiac", "-o", d / "o.xyz"], "video type"),
    "a picture": (lambda d, c, b: ["video", PAINTING, "-s", "zodiac"], "mst image"),
    "bad size": (lambda d, c, b: ["video", c, "-s", "zodiac", "--size", "big", "-o", d / "o.mp4"], "a size"),
    "no bundle": (lambda d, c, b: ["video", c, "-s", "zodiac", "--model", d, "-o", d / "o.mp4"], "manifest"),
    "corrupt bundle": (
        lambda d, c, b: with_model(c, bundle_with(d, b, "manifest.json", b"{")),
        "cannot read",
    ),
    "wrong hash": (
        lambda d, c, b: with_model(c, bundle_with(d, b, "generator.onnx", b"onnx")),
        "SHA-256",
    ),
    "cuda without a gpu": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--device", "cuda", "-o", d / "o.mp4"],
        "--device cpu",
    ),
    "export of nothing": (lambda d, c, b: ["export", d / "no.safetensors", "-o", d / "x"], "no.safetensors"),
    "unknown precision": (lambda d, c, b: ["export", "--precision", "int4", "-o", d / "x"], "fp16, fp32"),
}

USAGE = {
    "unknown codec",
    "style outside of nothing",
    "many into one file",
    "resuming an animation",
    "bad rate",
    "bad start",
    "bad size",
    "unknown precision",
    "unknown style",
    "unknown container",
    "export of nothing",
}
"""Cases that are wrong usage, whatever the files are: exit code 2, as for options that the parser refuses."""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, small_clip: Path, tmp_path: Path, bundle: Bundle
) -> None:
    make, message = BAD[case]
    arguments = make(tmp_path, small_clip, bundle)
    before = sorted(tmp_path.rglob("*"))
    done = mst(*arguments, cwd=tmp_path)
    assert done.returncode == (2 if case in USAGE else 1), done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mst: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
