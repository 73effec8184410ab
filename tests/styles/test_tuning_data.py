"""Tests of the data of the style optimization: its frames, windows and parts of a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mst_deploy.errors import InputError
from mst_deploy.images import save_image
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.styles.tuning_data import SHIFT, builtin_photos, sample_frames
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange
from tests.clips import NTSC, Clip, write_clip
from tests.pictures import picture


def test_moments_are_spread_over_the_clip(tmp_path: Path) -> None:
    """The middles of equal parts, each with the frame that follows; the last frame has none."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=12))
    with VideoReader(clip) as reader:
        frames = [frame.image for frame in reader]
    found = sample_frames(clip, 4, 48)
    assert len(found) == 4
    for index, moment in zip((2, 5, 8, 11), found, strict=True):  # 1.5, 4.5, ..: the first frame not before
        np.testing.assert_array_equal(moment.frame, frames[index])
        if index == 11:
            assert moment.following is None
        else:
            assert moment.following is not None
            np.testing.assert_array_equal(moment.following, frames[index + 1])
    assert [moment.frame.shape for moment in sample_frames(clip, 2, 24)] == [(24, 32, 3)] * 2


def test_a_picture_is_no_clip_and_is_never_enlarged(tmp_path: Path) -> None:
    save_image(tmp_path / "small.png", np.ascontiguousarray(picture(40, 30, 1)))
    (moment,) = sample_frames(tmp_path / "small.png", 4, 320)
    assert moment.frame.shape == (30, 40, 3)
    assert moment.following is None
    (tmp_path / "words.txt").write_text("no pictures")
    with pytest.raises(InputError, match=r"words\.txt"):
        sample_frames(tmp_path / "words.txt", 4, 320)


def test_moments_lie_in_the_part_that_is_painted(tmp_path: Path) -> None:
    """Frames 4 to 9 are wanted; the middles of their halves are 5.5 and 8.5."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=12))
    with VideoReader(clip) as reader:
        frames = [frame.image for frame in reader]
    read = ReadOptions(TimeRange(4 / NTSC, 10 / NTSC))
    found = sample_frames(clip, 2, 48, read)
    for index, moment in zip((6, 9), found, strict=True):  # the first frames not before
        np.testing.assert_array_equal(moment.frame, frames[index])
    assert found[0].following is not None
    assert found[1].following is None  # the part ends there


def test_photographs_are_windows_that_moved_a_little() -> None:
    """Sixteen files of the package; what both windows show is the same."""
    found = builtin_photos()
    assert len(found) == len(shipped_photographs()) == 16
    down, right = SHIFT
    for moment in found:
        assert moment.following is not None
        assert moment.frame.shape == moment.following.shape == (256 - down, 256 - right, 3)
        np.testing.assert_array_equal(moment.frame[:-down, :-right], moment.following[down:, right:])
    assert len(builtin_photos(2)) == 2
