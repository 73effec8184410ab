"""Names of files: one that exists is that file, one to be written is that name, whatever is in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mst_deploy.errors import OutputError
from mst_deploy.images import load_image, save_image
from mst_deploy.styles.tuning_data import sample_frames
from mst_deploy.stylizer import open_video, write_video
from mst_deploy.video.demuxing import is_pattern, is_sequence
from tests.clips import probe
from tests.command_line import mst
from tests.pictures import picture

FAKE = ("--style", "udnie", "--backend", "fake")
NAMES = ["50% done", "50% deal", "a%20b", "in%03d", "2024-01-01T10:30:00", "file:x", "[1]", "a*b", "pipe:1"]


def test_a_file_that_exists_is_that_file_and_its_result_has_its_name(
    small_clip: Path, tmp_path: Path
) -> None:
    for name in NAMES:
        shutil.copy(small_clip, tmp_path / f"{name}.mp4")
    done = mst("video", *(f"{name}.mp4" for name in NAMES), *FAKE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{name}{end}.mp4" for name in NAMES for end in ("", "-udnie")]
    )
    for name in NAMES:
        assert len(probe(tmp_path / f"{name}-udnie.mp4").times) == 12


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif", "y4m"])
@pytest.mark.parametrize("name", ["out 50% off", "2024-01-01T10:30:00", "%", "a%20b%d"])
def test_a_name_to_be_written_is_that_name(
    small_clip: Path, tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_video(small_clip) as clip:
        write_video(f"{name}.{suffix}", clip, clip)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.{suffix}"]
    with open_video(f"{name}.{suffix}") as clip:
        assert len(list(clip)) == 12


def test_numbered_pictures_may_lie_in_a_folder_with_any_name(small_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "50% of 2024:01 %02d"
    folder.mkdir()
    with open_video(small_clip) as clip:
        write_video(folder / "in 7*%03d.png", clip, clip)
    assert len(list(folder.iterdir())) == 12
    with open_video(folder / "in 7*%03d.png") as numbered:
        for number, frame in enumerate(numbered, start=1):
            np.testing.assert_array_equal(frame.image, load_image(folder / f"in 7*{number:03d}.png"))


def test_which_names_are_patterns() -> None:
    assert [
        is_pattern(Path(name)) for name in ("a%d.png", "%06d.exr", "a%06d.mp4", "50% done.mp4", "%d%d.png")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert is_sequence(Path("a%04d.png"))
    assert not is_sequence(Path("a%04d.mp4"))
    assert not is_sequence(Path("50% done.png"))


def test_a_still_named_like_a_pattern_is_a_still(tmp_path: Path) -> None:
    save_image(tmp_path / "a%04d.png", picture(40, 30, 0))
    (moment,) = sample_frames(tmp_path / "a%04d.png")
    np.testing.assert_array_equal(moment.frame, picture(40, 30, 0))


def test_numbered_results_do_not_overwrite_unasked_nor_what_is_read(small_clip: Path, tmp_path: Path) -> None:
    with open_video(small_clip) as clip:
        write_video(tmp_path / "in%03d.png", clip, clip)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for source in ("in%03d.png", small_clip):
        done = mst("video", source, *FAKE, "-o", "in%03d.png", cwd=tmp_path)
        assert done.returncode == 1, source
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    done = mst("video", "in%03d.png", *FAKE, "-o", "in%03d.png", "--force", cwd=tmp_path)
    assert (done.returncode, "choose another name" in done.stderr) == (1, True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert mst("video", small_clip, *FAKE, "-o", "in%03d.png", "--force", cwd=tmp_path).returncode == 0


def test_a_clip_is_not_written_over_its_source(small_clip: Path, tmp_path: Path) -> None:
    shutil.copy(small_clip, tmp_path / "a.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    with open_video(tmp_path / "a.mp4") as clip, pytest.raises(OutputError, match="another name"):
        write_video(tmp_path / "link.mp4", clip, clip)
    save_image(tmp_path / "mask.png", picture(40, 30, 0))
    (tmp_path / "mask.mp4").symlink_to(tmp_path / "mask.png")
    for output in ("link.mp4", "mask.mp4"):
        done = mst("video", "a.mp4", *FAKE, "--mask", "mask.png", "--force", "-o", output, cwd=tmp_path)
        assert (done.returncode, "another name" in done.stderr) == (1, True)
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_link_as_the_result_of_a_video_is_followed(small_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real" / "out.mp4")
    assert mst("video", small_clip, *FAKE, "-o", "link.mp4", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.mp4").is_symlink()
    assert len(probe(tmp_path / "real" / "out.mp4").times) == 12
