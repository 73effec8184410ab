"""Single frames of a stylized video are those of the whole one, and the right ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.images import save_image
from mst_deploy.stylizer import Stylizer, open_video
from tests.clips import Clip, write_clip
from tests.pictures import picture

TIMES = (0, 1000, 4000, 15000, 16000, 30000)
"""Of frames, in 1/30000 s."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("preview") / "uneven.mkv", Clip(times=TIMES, audio=0))


def decoded(path: Path) -> list[Any]:
    """All frames with their times in seconds, by PyAV alone."""
    with av.open(path) as container:
        return [
            (Fraction(frame.pts or 0) * Fraction(frame.time_base or 0), frame)
            for frame in container.decode(video=0)
        ]


def test_the_frame_that_a_player_shows_at_a_time_comes_inverted(uneven: Path) -> None:
    stored = [time for time, _ in decoded(uneven)]  # Matroska rounds to milliseconds
    assert len(stored) == len(TIMES)
    wanted = [stored[2], stored[3] - Fraction(1, 10**6), stored[3], Fraction(0), stored[1], stored[5]]
    with open_video(uneven) as clip:
        images = [frame.image for frame in clip]
    with Stylizer(backend="fake") as stylizer, open_video(uneven) as clip:
        found = list(stylizer.preview(clip, "zodiac", wanted))
        base = clip.info.time_base
    shown = [0, 1, 2, 2, 3, 5]  # of the times in ascending order
    assert [frame.pts * base for frame in found] == [stored[index] for index in shown]
    for frame, index in zip(found, shown, strict=True):
        np.testing.assert_array_equal(frame.image, 255 - images[index])


def test_the_last_frame_is_shown_for_its_duration_and_no_longer(small_clip: Path) -> None:
    """12 frames at 29.97 fps are 0.4004 s long."""
    with Stylizer(backend="fake") as stylizer:
        with open_video(small_clip) as clip:
            (frame,) = stylizer.preview(clip, "zodiac", [Fraction(12 * 1001 - 1, 30000)])
            assert frame.pts * clip.info.time_base == Fraction(11 * 1001, 30000)
        with open_video(small_clip) as clip, pytest.raises(mst.InvalidArgument) as error:
            list(stylizer.preview(clip, "zodiac", [0, Fraction(12 * 1001, 30000)]))
    assert "small.mp4 is 0.4 s long; there is no frame at 0.4 s" in str(error.value)


def test_only_frames_that_were_asked_for_go_through_the_model(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mst_deploy.backends.fake import FakeGenerator

    calls = []
    invert = FakeGenerator.__call__

    def counted(self: Any, frames: Any, *rest: Any) -> Any:
        calls.append(len(frames))
        return invert(self, frames, *rest)

    monkeypatch.setattr(FakeGenerator, "__call__", counted)
    for deflicker, frames in ((False, 2), (True, 2 + 5)):  # the second frame has one before it, others four
        calls.clear()
        with Stylizer(backend="fake") as stylizer, open_video(small_clip) as clip:
            list(stylizer.preview(clip, "zodiac", [Fraction(1, 29), Fraction(3, 10)], deflicker=deflicker))
        assert sum(calls) == frames


@pytest.mark.parametrize("deflicker", [False, True])
def test_frames_are_bit_by_bit_those_of_the_whole_video(
    small_clip: Path, tmp_path: Path, deflicker: bool
) -> None:
    """With all that depends on the frames before: canvas, the content's own style, fades, average."""
    mask = picture(64, 48, 3)
    save_image(tmp_path / "mask.png", mask)
    timeline = mst.Timeline(
        (mst.StyleKey("zodiac"), mst.StyleKey("udnie", Fraction(1, 3))),
        strength=(mst.StrengthKey(0.4), mst.StrengthKey(1.0, Fraction(2, 5))),
        mask=tmp_path / "mask.png",
    )
    with Stylizer() as stylizer:
        with open_video(small_clip) as clip:
            whole = list(stylizer.frames(clip, timeline, size="56", deflicker=deflicker))
            base = clip.info.time_base
        with open_video(small_clip) as clip:
            times = [whole[index].pts * base for index in (3, 10)]
            found = list(stylizer.preview(clip, timeline, times, size="56", deflicker=deflicker))
        assert stylizer.manifest.canvas_bands
    for frame, index in zip(found, (3, 10), strict=True):
        assert (frame.pts, frame.duration) == (whole[index].pts, whole[index].duration)
        np.testing.assert_array_equal(frame.image, whole[index].image)


@pytest.mark.parametrize("times", [[], [-1], [float("nan")], [float("inf")], ["soon"]])
def test_wrong_times_are_reported_before_the_first_frame(times: Any, small_clip: Path) -> None:
    with (
        Stylizer(backend="fake") as stylizer,
        open_video(small_clip) as clip,
        pytest.raises(mst.InvalidArgument, match="time"),
    ):
        stylizer.preview(clip, "zodiac", times)
