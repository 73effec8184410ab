"""Tests of the command line from a user's perspective."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from mst_deploy.backends.options import MODEL_HELP
from mst_deploy.cli import app
from mst_deploy.errors import OutputError
from mst_deploy.files import refuse_to_overwrite
from mst_deploy.images import load_image, save_image
from mst_deploy.model.zoo import MODELS
from mst_deploy.video.reader import VideoReader
from tests.clips import Clip, probe, write_clip
from tests.command_line import mst, mst_process
from tests.pictures import picture

COMMANDS = [
    [],
    ["image"],
    ["video"],
    ["style"],
    ["style", "make"],
    ["style", "list"],
    ["doctor"],
    ["export"],
    ["train"],
    ["train", "joint"],
    ["bench"],
    ["bench", "latency"],
    ["bench", "video"],
    ["bench", "compare"],
    ["bench", "work"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    done = mst(*command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 8


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mst_deploy", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "onnxruntime", "tensorrt", "cv2", "av", "numpy", "onnx"}


def test_sdr_without_hdr_is_a_hint_and_no_loss(small_clip: Path, tmp_path: Path) -> None:
    done = mst("video", small_clip, "-s", "zodiac", "--backend", "fake", "--sdr", "-o", tmp_path / "o.mp4")
    assert done.returncode == 0, done.stderr
    assert f"note: {small_clip.name} is not HDR; --sdr has no effect" in done.stderr
    assert "not kept" not in done.stderr


def test_video_reports_to_programs_as_json(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "in.mp4")
    done = mst_process("video", "in.mp4", "--style", "great-wave", "--json", cwd=tmp_path)
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
    done = mst_process(*arguments)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (tmp_path / "o.mp4").read_bytes() == before
    assert mst(*arguments, "--force").returncode == 0


def test_the_input_is_never_overwritten(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "in.mp4")
    done = mst("video", "in.mp4", "-s", "zodiac", "-o", "in.mp4", "--force", cwd=tmp_path)
    assert done.returncode == 1
    assert "is the input itself" in done.stderr


def test_a_file_that_is_read_is_not_called_the_input(tmp_path: Path) -> None:
    mask, link = tmp_path / "mask.png", tmp_path / "link.png"
    mask.touch()
    link.symlink_to(mask)
    refuse_to_overwrite(tmp_path / "new.png", [mask], [mask])
    with pytest.raises(OutputError, match=r"mask\.png is a style, mask or model that is read for it"):
        refuse_to_overwrite(mask, [tmp_path / "in.png"], [mask])
    with pytest.raises(OutputError, match=r"link\.png is .*mask\.png, which is read for it"):
        refuse_to_overwrite(link, [tmp_path / "in.png"], [mask])


def test_style_list_and_doctor_print_json() -> None:
    for chosen in ([], ["--model", "lite"]):
        styles = json.loads(mst("style", "list", "--json", *chosen).stdout)["styles"]
        assert {"name", "title", "artist", "year"} <= styles[0].keys()
    findings = json.loads(mst("doctor", "--json").stdout)
    assert findings["devices"]["cpu"] == "works"
    assert findings["packages"]["onnx"]
    assert {name: (found["state"], len(found["styles"])) for name, found in findings["models"].items()} == {
        "base": ("works", 12),
        "lite": ("works", 12),
    }


def test_lite_paints_with_its_own_styles(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(60, 40, 0))
    save_image(tmp_path / "s.png", picture(200, 180, 7))
    assert mst("style", "make", "s.png", "--model", "lite", cwd=tmp_path).returncode == 0
    for style in ("udnie", "s.safetensors"):
        done = mst(
            "image", "a.png", "-s", style, "--model", "lite", "--json", "-o", f"{style}.png", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model"] == "lite"
    done = mst("image", "a.png", "-s", "s.safetensors", "-o", "c.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "was made by model" in done.stderr
    done = mst("image", "a.png", "-s", "udnie", "--model", "light", cwd=tmp_path)
    assert done.returncode == 2
    assert "no model 'light': it is neither shipped (base, lite) nor a file or folder" in done.stderr


def test_every_choice_of_a_model_says_the_same() -> None:
    def choices(command: Any, name: str) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            if "--model" in parameter.opts or parameter.metavar == "MODEL":
                yield name, parameter.help
        for word, sub in getattr(command, "commands", {}).items():
            yield from choices(sub, f"{name} {word}")

    found = list(choices(get_command(app), "mst"))
    assert [name for name, help_ in found if MODEL_HELP not in help_] == []
    assert {name for name, _ in found} == {
        "mst image",
        "mst sheet",
        "mst video",
        "mst style make",
        "mst style optimize",
        "mst style list",
        "mst build",
        "mst engines explain",
        "mst engines verify",
        "mst bench latency",
        "mst batch",
        "mst live",
        "mst serve",
        "mst bench video",
        "mst bench work",
        "mst eval model",
        "mst export",
    }
    assert all(model in MODEL_HELP for model in MODELS)


def interrupted(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """A job that gets Ctrl-C when its first part is being written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mst_deploy", "video", source, "-s", "zodiac", "-o", target],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 180  # on a busy machine the first part takes its time
    parts = target.with_name(f"{target.name}.parts")
    while not list(parts.glob(".0*/0*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_keeps_what_is_done_and_is_exit_code_130(clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / "slow.mp4", Clip(width=320, height=240, frames=200, audio=0))
    done = interrupted(source, tmp_path / "o.mp4")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    kept = tmp_path / "o.interrupted.mp4"
    assert list(tmp_path.iterdir()) == [kept]
    times = probe(kept).times
    assert times == probe(source).times[: len(times)]
    assert f"mst: interrupted; the first {len(times)} frames are in {kept}" in done.stderr


def test_resume_on_the_command_line(small_clip: Path, tmp_path: Path) -> None:
    """Nothing to go on with: the job is made; made already: it is left as it is and said."""
    arguments = (
        "video",
        small_clip,
        "-s",
        "zodiac",
        "--backend",
        "fake",
        "-o",
        tmp_path / "o.mp4",
        "--resume",
    )
    assert mst(*arguments).returncode == 0
    before = (tmp_path / "o.mp4").read_bytes()
    done = mst(*arguments)
    assert done.returncode == 0
    assert "is there already" in done.stderr
    assert (tmp_path / "o.mp4").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "o.mp4"]


def test_several_videos_folders_and_patterns(small_clip: Path, tmp_path: Path) -> None:
    """Each once; results of an earlier run are not stylized again; a bad one does not stop the others."""
    (tmp_path / "in").mkdir()
    for name in ("in/a.mp4", "in/b.mp4", "c.mp4"):
        shutil.copy(small_clip, tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no video")
    (tmp_path / "bad.mp4").touch()
    arguments = ("video", "in", "?.mp4", "c.mp4", "bad.mp4", "-s", "zodiac", "--backend", "fake", "--json")
    done = mst(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    results = ["in/a-zodiac.mp4", "in/b-zodiac.mp4", "c-zodiac.mp4"]
    assert [output["output"] for output in facts["outputs"]] == results
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("mst: bad.mp4: bad.mp4 is empty")
    assert lines[-1] == "mst: 1 of 4 inputs failed: bad.mp4"
    for result in results:
        assert probe(tmp_path / result).times == probe(small_clip).times
    shutil.copy(small_clip, tmp_path / "in" / "a-zodiac.interrupted.mp4")  # as Ctrl-C leaves it
    again = mst("video", "in", "-s", "zodiac", "--backend", "fake", "--force", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "a-zodiac.mp4",
        "a.mp4",
        "b-zodiac.mp4",
        "b.mp4",
        "notes.txt",
    ]
    assert "a-zodiac.mp4 is left out: it is the result of another input" in again.stderr


def test_styles_over_time_on_the_command_line_and_in_yaml(small_clip: Path, tmp_path: Path) -> None:
    """The same timeline in both forms gives the same frames, and strength 0 is the source."""
    (tmp_path / "timeline.yaml").write_text(
        "styles: [{style: zodiac}, {style: udnie, at: 0.4}]\nstrength: [{value: 0}, {value: 1, at: 0.3}]\n"
    )
    common = ("video", small_clip, "--codec", "ffv1")
    options = ("-s", "zodiac", "-s", "udnie@0.4", "--strength", "0", "--strength", "1@0.3")
    for name, words in (("a", options), ("b", ("--timeline", "timeline.yaml"))):
        done = mst(*common, *words, "-o", f"{name}.mkv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with VideoReader(tmp_path / "a.mkv") as a, VideoReader(tmp_path / "b.mkv") as b:
        first, second = list(a), list(b)
    with VideoReader(small_clip) as reader:
        source = next(iter(reader))
    assert np.abs(first[0].image.astype(int) - source.image).max() <= 2  # color conversion alone
    assert np.abs(first[-1].image.astype(int) - source.image).mean() > 10
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    both = mst(*common, *options, "--timeline", "timeline.yaml", "-o", "c.mkv", cwd=tmp_path)
    assert both.returncode == 2
    assert "leave out --style" in both.stderr


def test_masks_and_colors_on_the_command_line(tmp_path: Path) -> None:
    """Black is the source itself, white is painted; the colors stay the source's."""
    image = picture(64, 48, 0)
    mask = np.zeros_like(image)
    mask[:, 32:] = 255
    save_image(tmp_path / "a.png", image)
    save_image(tmp_path / "mask.png", mask)
    arguments = ("image", "a.png", "-s", "the-scream=2", "-s", "zodiac", "--mask", "mask.png", "-o", "b.png")
    assert mst(*arguments, cwd=tmp_path).returncode == 0
    found = load_image(tmp_path / "b.png")
    np.testing.assert_array_equal(found[:, :32], image[:, :32])
    assert np.abs(found[:, 32:].astype(int) - image[:, 32:]).mean() > 10
    assert (
        mst("image", "a.png", "-s", "zodiac", "--preserve-color", "-o", "c.png", cwd=tmp_path).returncode == 0
    )
    kept = load_image(tmp_path / "c.png").astype(int)
    moved = kept - image  # one number for red, green and blue, wherever nothing was clipped
    inside = ((kept > 0) & (kept < 255)).all(axis=-1)
    assert inside.mean() > 0.2
    assert np.ptp(moved, axis=-1)[inside].max() <= 1
    timed = mst("image", "a.png", "-s", "zodiac", "-s", "udnie@3", "-o", "d.png", cwd=tmp_path)
    assert timed.returncode == 2
    assert "a picture has no time" in timed.stderr


def test_the_summary_names_the_limit(small_clip: Path, tmp_path: Path) -> None:
    done = mst("video", small_clip, "-s", "zodiac", "-o", tmp_path / "o.mp4", "--json")
    facts = json.loads(done.stdout)
    assert facts["limit"] == max(facts["stages"], key=facts["stages"].get)
    stages = {"decode", "prepare", "canvas", "infer", "compose", "encode", "join"}
    assert set(facts["stages"]) == stages
    done = mst("video", small_clip, "-s", "zodiac", "-o", tmp_path / "s.mp4", "--deflicker", "--json")
    assert set(json.loads(done.stdout)["stages"]) == {*stages, "deflicker"}
    assert (tmp_path / "s.mp4").read_bytes() != (tmp_path / "o.mp4").read_bytes()


def test_a_pipe_is_written_without_other_words(small_clip: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mst_deploy",
            "video",
            small_clip,
            "-s",
            "zodiac",
            "--backend",
            "fake",
            "-o",
            "-",
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x1a\x45\xdf\xa3")  # Matroska begins so
    assert b"12 frames" in done.stderr
