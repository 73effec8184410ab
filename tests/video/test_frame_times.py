"""Clocks that do not begin at 0, and files that store only when frames are decoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange
from mst_deploy.video.writer import open_writer
from tests.clips import NTSC, Clip, probe, write_clip


def copy(source: Path, output: Path, span: TimeRange | None = None) -> tuple[str, ...]:
    """Through reader and writer; what was damaged."""
    with (
        VideoReader(source, ReadOptions(span=span or TimeRange())) as reader,
        open_writer(output, reader.info, EncodeOptions()) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return reader.damage.describe()


@pytest.mark.parametrize("audio", [0, 1])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_a_clock_that_starts_at_ten_hours_starts_at_zero(suffix: str, audio: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{suffix}", Clip(frames=20, audio=audio, offset=36000))
    assert copy(source, tmp_path / "out.mp4") == ()
    before, after = probe(source), probe(tmp_path / "out.mp4")
    begin = before.times[0]
    if suffix != ".mkv":  # which says how much of the sound its decoder leaves out
        begin = min([begin, *(time for _, time, _ in before.audio)])
    assert begin > 35999
    assert [time - after.times[0] for time in after.times] == [
        time - before.times[0] for time in before.times
    ]
    unit = Fraction(1, 48000) + Fraction(1, 1000 if suffix == ".mkv" else 90000)
    assert abs(after.times[0] - (before.times[0] - begin)) <= unit
    assert len(after.audio) == len(before.audio)
    for (_, found, _), (_, time, _) in zip(after.audio, before.audio, strict=True):
        assert abs(found - (time - begin)) <= unit


def test_a_part_of_a_clip_that_starts_late_is_counted_from_its_start(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", Clip(frames=50, audio=1, offset=36000))
    copy(source, tmp_path / "out.mp4", TimeRange(Fraction(1)))
    before, after = probe(source), probe(tmp_path / "out.mp4")
    begin = min(before.times[0], before.audio[0][1])
    kept = [time for time in before.times if time >= begin + 1]
    assert len(after.times) == len(kept) < 30
    assert abs(after.times[0] - (kept[0] - begin - 1)) <= Fraction(1, 90000)


def write_avi(path: Path, codec: str, frames: int = 30) -> Path:
    """With B-frames; the n-th frame is of gray level 8 n."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.options = {"bf": "2", **({"crf": "12"} if codec == "libx264" else {})}
        for number in range(frames):
            image = np.full((120, 160, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_b_frames_is_healthy_and_even(codec: str, tmp_path: Path) -> None:
    source = write_avi(tmp_path / "in.avi", codec)
    with av.open(source) as container:
        container.streams.video[0].thread_type = "NONE"
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert kinds.count(3) > 8  # there are B-frames
    assert copy(source, tmp_path / "out.mp4") == ()
    found = probe(tmp_path / "out.mp4")
    assert found.times == [n / NTSC for n in range(30)]
    with VideoReader(source) as reader:
        levels = [frame.image.mean() for frame in reader]
    assert np.abs(np.array(levels) - 8 * np.arange(30)).max() < 8
    assert copy(source, tmp_path / "part.mp4", TimeRange(Fraction(1, 2))) == ()
    assert len(probe(tmp_path / "part.mp4").times) == 15


def test_a_frame_that_avi_lost_leaves_a_gap(tmp_path: Path) -> None:
    """One packet is dropped: what follows stays where it was."""
    source = write_avi(tmp_path / "whole.avi", "mpeg4")
    with av.open(source) as first, av.open(tmp_path / "in.avi", "w") as second:
        made = second.add_stream_from_template(first.streams.video[0], opaque=True)
        for number, packet in enumerate(first.demux(video=0)):
            if not packet.size or number == 14:
                continue
            packet.pts = packet.dts
            packet.stream = made
            second.mux(packet)
    with VideoReader(tmp_path / "in.avi") as reader:
        times = [frame.pts * reader.info.time_base * NTSC for frame in reader]
    assert len(times) == 29
    assert times[-1] == 29


def write_slides(path: Path) -> Path:
    """Three pictures: two of 5 s and one of 0.8 s."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"bf": "0"}
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pts, level in ((0, 50), (5000, 100), (10000, 150)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            packet.duration = 800 if packet.pts == 10000 else 5000
            container.mux(packet)
    return path


def end(path: Path) -> Fraction:
    """When the picture ends, by the packets or by what the container says of the track."""
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        if container.duration is not None and "matroska" in container.format.name:
            return Fraction(container.duration, 1_000_000)
        return Fraction(stream.duration * stream.time_base)


@pytest.mark.parametrize("parts", [1, 120])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("vp9", ".mp4"),
        ("vp9", ".webm"),
        ("vp9", ".mkv"),
        ("av1", ".mp4"),
        ("av1", ".mkv"),
        ("h264", ".mp4"),
        ("hevc", ".mp4"),
        ("ffv1", ".mkv"),
        ("prores", ".mov"),
    ],
)
def test_the_last_slide_is_shown_as_long_as_it_was(
    codec: str, suffix: str, parts: int, tmp_path: Path, identity: Any, film: Any
) -> None:
    source = write_slides(tmp_path / "in.mp4")
    assert end(source) == Fraction(108, 10)
    options = RenderOptions(encode=EncodeOptions(codec), part_frames=parts)
    render_file(source, tmp_path / f"out{suffix}", identity, constant_plan(film), options)
    assert abs(end(tmp_path / f"out{suffix}") - Fraction(108, 10)) <= Fraction(5, 100)
    assert [round(time) for time in probe(tmp_path / f"out{suffix}").times] == [0, 5, 10]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
@pytest.mark.parametrize("frames", [1, 2, 11, 12])
def test_parts_of_one_or_two_frames(
    codec: str, frames: int, tmp_path: Path, identity: Any, film: Any
) -> None:
    """x265 makes up a decoding time for them."""
    source = write_clip(tmp_path / "in.mp4", Clip(frames=frames, audio=0))
    options = RenderOptions(encode=EncodeOptions(codec), part_frames=10)
    render_file(source, tmp_path / "out.mp4", identity, constant_plan(film), options)
    assert probe(tmp_path / "out.mp4").times == probe(source).times
