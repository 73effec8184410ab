"""Tests of flicker over clips: the floor for a system that changes nothing, more for one that flickers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.benchmarks.quality.clips import first_frames, main, measure, model_frames, other_frames
from mst_deploy.benchmarks.quality.video import measure_flicker
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import save_image
from mst_deploy.model.zoo import resolve_model
from mst_deploy.perceptual.distances import Distances
from mst_deploy.perceptual.vgg import load_vgg
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.reader import VideoReader
from tests.benchmarks.quality.test_measure import random_vgg
from tests.clips import Clip, write_clip
from tests.pictures import picture

__all__ = ["random_vgg"]

PROGRAM = """
calls = []

def same(content, style, alpha):
    return content

def flickering(content, style, alpha):
    calls.append(1)
    return content * (1 - 0.3 * alpha * (len(calls) % 2))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_nothing_changed_is_the_floor_and_flicker_is_above_it(
    random_vgg: Path, program: Path, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=5))
    frames = first_frames(clip, 64, 4)
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 4
    artwork: Any = picture(64, 64, 30)
    distances = Distances(load_vgg(random_vgg))

    def found(function: str, strength: float) -> dict[str, float]:
        results = other_frames(program, function)(clip, frames, artwork, strength)
        return measure(frames, results, artwork, distances)

    same = found("same", 1.0)
    assert same["warping"] == pytest.approx(same["floor"], rel=1e-6)
    assert same["content"] == 0
    weak, strong = found("flickering", 0.3), found("flickering", 1.0)
    assert same["floor"] == weak["floor"] == strong["floor"]
    assert same["warping"] < weak["warping"] < strong["warping"]


def test_steadied_is_calmer(program: Path, tmp_path: Path) -> None:
    """Frames of 65 lines, results of 64, as of systems that need multiples of 8."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=66, frames=5))
    frames = [frame[:65] for frame in first_frames(clip, 66, 5)]
    (plain,), (deflicker,) = (
        measure_flicker(zip([frame[:64] for frame in frames], results, strict=True), [1])
        for results in (
            other_frames(program, "flickering", deflicker=deflicker)(clip, frames, frames[0], 0.2)
            for deflicker in (False, True)
        )
    )
    assert deflicker.means()["result"] < plain.means()["result"]


def test_rows_are_added_to_the_file(random_vgg: Path, program: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=3))
    save_image(tmp_path / "art.png", np.ascontiguousarray(picture(80, 80, 30)))
    output = tmp_path / "rows.json"
    for strength in ("1", "0.5,1"):
        main([clip], [tmp_path / "art.png"], output, None, program, "same", strength, 64, 3, random_vgg, None)
    rows = json.loads(output.read_text())
    assert [(row["system"], row["strength"]) for row in rows] == [("same", 1.0), ("same", 0.5), ("same", 1.0)]
    assert rows[0] == rows[2]
    assert rows[0]["tuning"] is None
    with pytest.raises(InvalidArgument, match="either model or program"):
        main([clip], [tmp_path / "art.png"], output)


@pytest.mark.slow
def test_a_model_is_run_as_the_video_pipeline_runs_it(tmp_path: Path) -> None:
    """The canvas moves along with the picture, so the results are those of Stylizer.frames."""
    path = write_clip(tmp_path / "clip.mp4", Clip(width=128, height=96, frames=3))
    artwork: Any = picture(96, 96, 30)
    frames = first_frames(path, 96, 3)
    results = model_frames(resolve_model("lite"), None, 96)(path, frames, artwork, 1.0)
    with Stylizer(resolve_model("lite")) as stylizer, VideoReader(path) as reader:
        expected = [frame.image for frame in stylizer.frames(reader, artwork)]
        still = stylizer.image(frames[2], artwork)
    for result, frame in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, frame.astype(float), atol=1)
    assert np.abs(expected[2].astype(int) - still).max() > 8  # a canvas that stays gives another picture
