"""The command line as a stranger meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mst_deploy.images import load_image, save_image
from mst_deploy.manifest import Bundle
from tests.clips import Clip, picture, probe, write_clip
from tests.conftest import ROOT

COMMANDS = [[], ["image"], ["video"], ["style"], ["style", "make"], ["style", "list"], ["doctor"],
            ["export"], ["train"], ["train", "joint"]]  # fmt: skip


def mst(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mst_deploy", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    done = mst(*command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 8


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mst_deploy", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "onnxruntime", "tensorrt", "cv2", "av", "numpy", "onnx"}


def test_video_tells_programs_what_it_did(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "in.mp4")
    done = mst("video", "in.mp4", "--style", "great-wave", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["output"] == "in-great-wave.mp4"
    assert (facts["frames"], facts["width"], facts["height"]) == (12, 64, 48)
    assert (facts["backend"], facts["device"], facts["style"]) == ("onnxrt", "cpu", "great-wave")
    before, after = probe(small_clip), probe(tmp_path / "in-great-wave.mp4")
    assert (after.times, after.audio) == (before.times, before.audio)


def test_quiet_is_quiet(small_clip: Path, tmp_path: Path) -> None:
    done = mst("video", small_clip, "--style", "zodiac", "--backend", "fake", "-q", "-o", tmp_path / "o.mp4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_several_images_and_a_folder(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        save_image(tmp_path / name, picture(40, 30, 0))
    (tmp_path / "out").mkdir()
    done = mst("image", "a.png", "b.jpg", "--style", "the-kiss", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-the-kiss.png", "b-the-kiss.jpg"]
    result = load_image(tmp_path / "out" / "a-the-kiss.png")
    assert result.shape == (30, 40, 3)
    assert np.abs(result.astype(int) - picture(40, 30, 0)).mean() > 5


def test_image_size_and_strength(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(60, 40, 0))
    done = mst(
        "image", "a.png", "-s", "udnie", "--size", "80", "--strength", "0.5", "-o", "b.png", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert load_image(tmp_path / "b.png").shape == (80, 120, 3)


def test_a_saved_style_gives_the_same_picture_as_its_image(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(60, 40, 0))
    save_image(tmp_path / "s.png", picture(200, 180, 7))
    assert mst("style", "make", "s.png", cwd=tmp_path).returncode == 0
    for style, output in (("s.png", "1.png"), ("s.safetensors", "2.png")):
        assert mst("image", "a.png", "-s", style, "-o", output, cwd=tmp_path).returncode == 0
    np.testing.assert_array_equal(load_image(tmp_path / "1.png"), load_image(tmp_path / "2.png"))


def test_nothing_is_overwritten_without_force(small_clip: Path, tmp_path: Path) -> None:
    arguments = ("video", small_clip, "--style", "zodiac", "--backend", "fake", "-o", tmp_path / "o.mp4")
    assert mst(*arguments).returncode == 0
    before = (tmp_path / "o.mp4").read_bytes()
    done = mst(*arguments)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (tmp_path / "o.mp4").read_bytes() == before
    assert mst(*arguments, "--force").returncode == 0


def test_the_input_is_never_overwritten(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "in.mp4")
    done = mst("video", "in.mp4", "-s", "zodiac", "-o", "in.mp4", "--force", cwd=tmp_path)
    assert done.returncode == 1
    assert "is the input itself" in done.stderr


def test_style_list_and_doctor_speak_json() -> None:
    styles = json.loads(mst("style", "list", "--json").stdout)["styles"]
    assert {"name", "title", "artist", "year"} <= styles[0].keys()
    findings = json.loads(mst("doctor", "--json").stdout)
    assert findings["devices"]["cpu"] == "works"
    assert findings["packages"]["onnx"]


def test_wrong_usage_is_exit_code_two() -> None:
    assert mst("video").returncode == 2
    assert mst("video", "a.mp4", "--style", "zodiac", "--strength", "2").returncode == 2
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


PAINTING = ROOT / "examples" / "paintings" / "zodiac.jpg"
Case = tuple[Callable[[Path, Path, Bundle], list[object]], str]
BAD: dict[str, Case] = {
    "missing file": (lambda d, c, b: ["video", d / "absent.mp4", "-s", "zodiac"], "does not exist"),
    "not a video": (lambda d, c, b: ["video", text_file(d), "-s", "zodiac"], "as a video"),
    "a folder": (lambda d, c, b: ["video", d, "-s", "zodiac"], "is a folder"),
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
        lambda d, c, b: ["video", c, "-s", "zodiac", "--codec", "h999", "-o", d / "o.mp4"], "choose one of"),
    "unknown container": (lambda d, c, b: ["video", c, "-s", "zodiac", "-o", d / "o.xyz"], "video type"),
    "a picture": (lambda d, c, b: ["video", PAINTING, "-s", "zodiac"], "mst image"),
    "bad size": (lambda d, c, b: ["video", c, "-s", "zodiac", "--size", "big", "-o", d / "o.mp4"], "a size"),
    "no bundle": (lambda d, c, b: ["video", c, "-s", "zodiac", "--model", d, "-o", d / "o.mp4"], "manifest"),
    "corrupt bundle": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--model", bundle_with(d, b, "manifest.json", b"{"),
                         "-o", d / "o.mp4"], "cannot read"),
    "wrong hash": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--model", bundle_with(d, b, "generator.onnx", b"onnx"),
                         "-o", d / "o.mp4"], "SHA-256"),
    "cuda without a gpu": (
        lambda d, c, b: ["video", c, "-s", "zodiac", "--device", "cuda", "-o", d / "o.mp4"], "--device cpu"),
    "export of nothing": (lambda d, c, b: ["export", d / "no.safetensors", "-o", d / "x"], "no.safetensors"),
    "unknown precision": (lambda d, c, b: ["export", "--precision", "int4", "-o", d / "x"], "fp16, fp32"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, small_clip: Path, tmp_path: Path, bundle: Bundle
) -> None:
    make, message = BAD[case]
    arguments = make(tmp_path, small_clip, bundle)
    before = sorted(tmp_path.rglob("*"))
    done = mst(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mst: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_interrupt_leaves_nothing_and_is_exit_code_130(clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / "slow.mp4", Clip(width=320, height=240, frames=200, audio=0))
    process = subprocess.Popen(
        [sys.executable, "-m", "mst_deploy", "video", source, "-s", "zodiac", "-o", tmp_path / "o.mp4"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".o-*/o.mp4")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
