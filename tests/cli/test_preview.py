"""``mst video --preview``: stills of the result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.images import resize
from mst_deploy.images.files import load_image
from mst_deploy.stylizer import open_video
from mst_deploy.video.time_ranges import parse_time, time_label
from tests.command_line import mst

FAKE = ("--style", "udnie", "--backend", "fake")


@pytest.fixture
def images(small_clip: Path, tmp_path: Path) -> list[Any]:
    """The frames of ``in.mp4``, 29.97 in a second."""
    shutil.copy(small_clip, tmp_path / "in.mp4")
    with open_video(tmp_path / "in.mp4") as clip:
        return [frame.image for frame in clip]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_stills_are_the_frames_at_these_times(images: list[Any], tmp_path: Path) -> None:
    done = mst("video", "in.mp4", *FAKE, "--preview", "00:00.3,0.1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["in-udnie-00m00.1s.png", "in-udnie-00m00.3s.png"]
    assert files(tmp_path) == ["in-udnie-00m00.1s.png", "in-udnie-00m00.3s.png", "in.mp4"]
    for name, index in (("00m00.1s", 2), ("00m00.3s", 8)):  # frame 3 begins at 0.1001 s, 9 at 0.3003 s
        np.testing.assert_array_equal(load_image(tmp_path / f"in-udnie-{name}.png"), 255 - images[index])


def test_size_strength_and_start_are_those_of_the_video(images: list[Any], tmp_path: Path) -> None:
    """A strength of 0 shows the source; with --start, times count from there."""
    options = ("--size", "32x20", "--strength", "0", "--start", "0.2")
    done = mst("video", "in.mp4", *FAKE, *options, "--preview", "0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    still = load_image(tmp_path / "in-udnie-00m00.1s.png")
    np.testing.assert_array_equal(still, resize(images[8], 32, 20))


def test_folders_and_several_videos(images: list[Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(tmp_path / "in.mp4", tmp_path / "second.mp4")
    done = mst("video", "in.mp4", "second.mp4", *FAKE, "--preview", "0", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["outputs"] == ["out/in-udnie-00m00s.png", "out/second-udnie-00m00s.png"]
    assert (found["style"], found["model"], found["backend"]) == ("udnie", "base", "fake")
    done = mst("video", "in.mp4", *FAKE, "--preview", "0.2", "-o", "out/film.mp4", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert files(tmp_path / "out") == [
        "in-udnie-00m00.2s.png",
        "in-udnie-00m00s.png",
        "second-udnie-00m00s.png",
    ]


def test_a_still_that_is_there_is_not_overwritten(images: list[Any], tmp_path: Path) -> None:
    still = tmp_path / "in-udnie-00m00s.png"
    still.write_bytes(b"mine")
    done = mst("video", "in.mp4", *FAKE, "--preview", "0,0.1", cwd=tmp_path)
    assert done.returncode == 1
    assert "in-udnie-00m00s.png already exists; use --force" in done.stderr
    assert files(tmp_path) == ["in-udnie-00m00s.png", "in.mp4"]
    assert mst("video", "in.mp4", *FAKE, "--preview", "0", "--force", cwd=tmp_path).returncode == 0
    np.testing.assert_array_equal(load_image(still), 255 - images[0])


def test_what_cannot_be_previewed_is_reported_in_one_line(images: list[Any], tmp_path: Path) -> None:
    cases = [
        (("in.mp4", "--preview", "0,01:05"), 2, "in.mp4 is 0.4 s long; there is no frame at 65 s"),
        (("in.mp4", "--preview", "soon"), 2, "cannot use 'soon' as a time"),
        (("in.mp4", "--preview", ""), 2, "cannot use '' as a time"),
        (("in.mp4", "--preview", "0", "--resume"), 2, "--preview starts no job"),
        (("in.mp4", "--preview", "0", "-o", "none"), 2, "there is no folder none"),
        (("-", "--preview", "0", "-o", "."), 2, "a pipe is read only once"),
        (("none.mp4", "--preview", "0"), 1, "none.mp4 does not exist"),
    ]
    for arguments, code, words in cases:
        done = mst("video", *FAKE, *arguments, cwd=tmp_path)
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    assert files(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("00:10", "00m10s"),
        ("65", "01m05s"),
        ("1:02:03", "01h02m03s"),
        ("1.25", "00m01.25s"),
        ("59.9999", "01m00s"),
        ("0", "00m00s"),
        ("3600", "01h00m00s"),
    ],
)
def test_times_in_names(typed: str, label: str) -> None:
    assert time_label(parse_time(typed)) == label
