"""Tests of segments from the middle of a video: the result has the bytes of one that is made in one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from mst_deploy.jobs.batch.scan import SegmentScan, scan_segments
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.model.bundle import Bundle
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.info import Frame
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange, parse_time
from tests.clips import Clip, write_clip
from tests.jobs.batch.plans import STARRY, TEN, in_process, planned, whole


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
    expected = whole(plan, source, tmp_path / "expected.mp4", options)
    (made,) = (tmp_path / "out").iterdir()
    assert made.read_bytes() == expected
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
    expected = whole(plan, clip, tmp_path / "expected.mp4")
    (made,) = (tmp_path / "out").iterdir()
    assert made.read_bytes() == expected
