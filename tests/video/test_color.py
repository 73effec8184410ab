"""Colors against the equations of the standards, and through every codec."""

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
from mst_deploy.video.reader import VideoReader
from tests.clips import probe


@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
@pytest.mark.parametrize("full", [False, True])
def test_colors_follow_the_standard(matrix: int, red: float, blue: float, full: bool, tmp_path: Path) -> None:
    """Decoded RGB against the equations of BT.709-6 section 3 and BT.601-7 section 2.5."""
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [20, 120, 200]], float)
    luma = colors @ [red, 1 - red - blue, blue] / 255
    cb = (colors[:, 2] / 255 - luma) / (2 * (1 - blue))
    cr = (colors[:, 0] / 255 - luma) / (2 * (1 - red))
    planes = np.stack([luma * 255, cb * 255 + 128, cr * 255 + 128])
    if not full:
        planes = np.stack([luma * 219 + 16, cb * 224 + 128, cr * 224 + 128])
    codes = np.clip(np.round(planes), 0, 255).astype(np.uint8)
    path = tmp_path / "bars.mkv"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16 * len(colors), 16, "yuv444p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = matrix
        stream.codec_context.color_range = 2 if full else 1
        image = np.repeat(np.repeat(codes[:, None, :], 16, axis=1), 16, axis=2)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="yuv444p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        found = next(iter(reader)).image[8, 8::16].astype(float)
    assert np.abs(found - colors).max() <= 2


BARS = np.array(
    [
        [235, 235, 235],
        [191, 191, 0],
        [0, 191, 191],
        [0, 191, 0],
        [191, 0, 191],
        [191, 0, 0],
        [0, 0, 191],
        [9, 9, 9],
    ]
)
"""White, the six colors at 75 % (EBU), and nearly black."""
LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue, by H.273's number of the matrix."""


def write_bars(path: Path, matrix: int, full: bool) -> Path:
    """Bars 32 pixels wide in lossless 4:2:0, computed from the equations of the standards."""
    red, blue = LUMA[matrix]
    luma = BARS @ [red, 1 - red - blue, blue] / 255
    chroma = [(BARS[:, at] / 255 - luma) / (2 * (1 - weight)) for at, weight in ((2, blue), (0, red))]
    scale, base, swing = (255, 0, 255) if full else (219, 16, 224)
    codes = [luma * scale + base, *(part * swing + 128 for part in chroma)]
    rows = [np.clip(np.round(values), 0, 255).astype(np.uint8) for values in codes]
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32 * len(BARS), 64, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = matrix
        context.color_trc, context.color_range = {9: 14}.get(matrix, matrix), 2 if full else 1
        planes = [np.repeat(np.repeat(rows[0], 32)[None], 64, axis=0).ravel()]
        planes += [np.repeat(np.repeat(row, 16)[None], 32, axis=0).ravel() for row in rows[1:]]
        frame = av.VideoFrame.from_ndarray(np.concatenate(planes).reshape(96, -1), format="yuv420p")
        for index in range(3):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "prores", "ffv1", "raw"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", LUMA)
def test_color_bars_survive_the_whole_path(
    matrix: int, full: bool, codec: str, tmp_path: Path, identity: Any, film: Any
) -> None:
    """Within 2/255 of the source, at the qualities that are used by default."""
    source = write_bars(tmp_path / "in.mkv", matrix, full)
    output = tmp_path / {"prores": "out.mov", "raw": "out.y4m"}.get(codec, "out.mkv")
    render_file(source, output, identity, constant_plan(film), RenderOptions(encode=EncodeOptions(codec)))
    found = probe(output)
    stored_full = full and codec != "prores"  # which is always read as limited
    assert found.range == (2 if stored_full else 1)
    # y4m has no tags: it is written in what readers take a small picture to be in
    assert (found.matrix, found.primaries) == ((2, 2) if codec == "raw" else (matrix, matrix))
    with VideoReader(source) as first, VideoReader(output) as second:
        for before, after in zip(first, second, strict=True):
            middle = (slice(16, 48), slice(16, None, 32))
            assert np.abs(before.image[middle].astype(int) - BARS).max() <= 2
            assert np.abs(before.image[middle].astype(int) - after.image[middle]).max() <= 2
