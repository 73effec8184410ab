"""Turned and mirrored clips: upright for the generator, and for viewers of every kind of file."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.orientation import coded, orientation, upright
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import open_writer
from tests.clips import probe

WAYS = [(degrees, mirrored) for degrees in (0, 90, 180, 270) for mirrored in (False, True)]
COLORS = np.array([[[220, 30, 30], [30, 200, 30]], [[30, 30, 220], [200, 200, 200]]], np.uint8)
"""Of the quarters of the coded picture."""


def write_turned(path: Path, degrees: int, mirrored: bool) -> Path:
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(degrees, hflip=mirrored)
        image = np.repeat(np.repeat(COLORS, 32, axis=0), 48, axis=1)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def shown(image: Any, matrix: tuple[int, ...] | None) -> Any:
    """Colors of the quarters after the matrix has moved each of them, by its definition."""
    a, b, c, d = (matrix[0], matrix[1], matrix[3], matrix[4]) if matrix else (1, 0, 0, 1)
    found = np.zeros((2, 2, 3), int)
    for y in (-1, 1):
        for x in (-1, 1):
            to_x, to_y = np.sign(a * x + c * y), np.sign(b * x + d * y)
            height, width = image.shape[:2]
            color = image[height // 2 + y * height // 4, width // 2 + x * width // 4]
            found[(to_y + 1) // 2, (to_x + 1) // 2] = color
    return found


@pytest.mark.parametrize(("degrees", "mirrored"), WAYS)
def test_frames_are_upright_and_stay_so(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    source = write_turned(tmp_path / "in.mp4", degrees, mirrored)
    with VideoReader(source) as reader:
        info = reader.info
        frames = list(reader)
    expected = shown(np.repeat(np.repeat(COLORS, 32, axis=0), 48, axis=1), info.display_matrix)
    assert np.abs(shown(frames[0].image, None) - expected).max() < 12
    for name in ("out.mp4", "out.mkv", "out.gif", "out.y4m", "out%d.png"):
        with (
            VideoReader(source) as reader,
            open_writer(tmp_path / name, reader.info, EncodeOptions()) as writer,
        ):
            for frame in reader:
                writer.write(frame)
    for name in ("out.mp4", "out.mkv"):  # stored as the source was
        assert probe(tmp_path / name).size == (96, 64)
    for name in ("out.gif", "out.y4m"):  # no matrix, so the pixels are turned
        found = probe(tmp_path / name)
        assert (found.size, found.rotation) == (frames[0].image.shape[1::-1], 0)
    still: Any = cv2.imread(str(tmp_path / "out1.png"))
    images = [still[:, :, ::-1]]
    for name in ("out.mp4", "out.mkv", "out.gif", "out.y4m"):
        with VideoReader(tmp_path / name) as reader:
            assert (reader.info.width, reader.info.height) == (info.width, info.height)
            images.append(next(iter(reader)).image)
    for image in images:
        assert np.abs(shown(image, None) - expected).max() < 25


def test_orientation_inverts() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for turns in range(4):
        for mirrored in (False, True):
            np.testing.assert_array_equal(coded(upright(image, turns, mirrored), turns, mirrored), image)
    assert orientation((65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)) == (0, False)


@pytest.mark.parametrize("suffix", [".gif", ".y4m", ".webp"])
def test_pixels_that_are_not_square_are_said(suffix: str, tmp_path: Path) -> None:
    """Those of a turned clip are as high as they were wide."""
    source = write_turned(tmp_path / "in.mp4", 90, False)
    with VideoReader(source) as reader:
        info = replace(reader.info, sample_aspect_ratio=Fraction(4, 3))
        with open_writer(tmp_path / f"out{suffix}", info, EncodeOptions()) as writer:
            for frame in reader:
                writer.write(frame)
    assert any("not square (3/4)" in loss for loss in writer.report.not_kept)
