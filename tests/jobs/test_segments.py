"""Tests of segments: written separately, joined without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.video.codecs import EncodeOptions, segment_suffix
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import join_segments, open_segment, open_writer
from tests.clips import Clip, probe, write_clip

CLIPS = {
    "plain": Clip(frames=30, audio=2),
    "vfr": Clip(times=tuple(range(0, 5005, 1001)) + tuple(5100 + 100 * n for n in range(20))),
    "portrait": Clip(frames=30, rotation=90),
    "late": Clip(times=tuple(range(2500, 2500 + 30 * 1001, 1001))),
}


def write_segments(source: Path, folder: Path, options: EncodeOptions, cuts: tuple[int, ...]) -> list[Path]:
    """Parts that begin at the given frame numbers."""
    with VideoReader(source) as reader:
        frames, info = list(reader), reader.info
    parts = []
    for number, (first, last) in enumerate(zip(cuts, (*cuts[1:], len(frames)), strict=True)):
        part = folder / f"{number}{segment_suffix(options)}"
        with open_segment(part, info, options) as writer:
            for frame in frames[first:last]:
                writer.write(frame)
        parts.append(part)
    return parts


def pictures(path: Path) -> list[Any]:
    """Planes as they are stored."""
    with av.open(path) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", CLIPS)
def test_joined_segments_are_the_whole(name: str, clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / f"joined-{name}.mp4", CLIPS[name])
    options = EncodeOptions()
    parts = write_segments(source, tmp_path, options, (0, 7, 16))
    with VideoReader(source) as reader:
        join_segments(tmp_path / "joined.mp4", reader.info, options, parts)
        with open_writer(tmp_path / "whole.mp4", reader.info, options) as writer:
            for frame in reader:
                writer.write(frame)
    joined, whole, before = (probe(tmp_path / "joined.mp4"), probe(tmp_path / "whole.mp4"), probe(source))
    assert joined.times == before.times
    assert joined.audio == before.audio
    for field in ("size", "rotation", "matrix", "range", "primaries", "transfer", "pix_fmt"):
        assert getattr(joined, field) == getattr(whole, field)
    expected = [picture for part in parts for picture in pictures(part)]
    for found, part in zip(pictures(tmp_path / "joined.mp4"), expected, strict=True):
        np.testing.assert_array_equal(found, part)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", ".mp4"), ("av1", ".mp4"), ("vp9", ".mkv"), ("ffv1", ".mkv")]
)
def test_every_codec_can_be_joined(codec: str, suffix: str, small_clip: Path, tmp_path: Path) -> None:
    options = EncodeOptions(codec)
    parts = write_segments(small_clip, tmp_path, options, (0, 5, 9))
    output = tmp_path / f"joined{suffix}"
    with VideoReader(small_clip) as reader:
        join_segments(output, reader.info, options, parts)
    expected = [picture for part in parts for picture in pictures(part)]
    for found, part in zip(pictures(output), expected, strict=True):
        np.testing.assert_array_equal(found, part)
    with av.open(output) as container:
        tag = container.streams.video[0].codec_context.codec_tag
        assert codec != "hevc" or tag == "hvc1"
