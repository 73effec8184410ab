"""Tests of the warping error on pans with known motion, and of its order under flicker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mst_deploy.benchmarks.quality.video import (
    measure_flicker,
    read_both,
    read_flows,
    warping_error,
)
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.video.motion import visible
from tests.clips import Clip, write_clip

SIZE, STEP, COUNT = 96, 3, 8


def texture() -> Any:
    """A wide soft picture to pan over."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE + STEP * COUNT, 3), np.uint8)
    return cv2.GaussianBlur(cv2.GaussianBlur(noise, (0, 0), 3), (0, 0), 1) * 3


def pan(flicker: float = 0.0) -> Iterator[tuple[Any, Any]]:
    """(source, result): the picture moves STEP pixels to the left each frame; results also change light."""
    whole, rng = texture(), np.random.default_rng(1)
    for index in range(COUNT):
        frame = np.ascontiguousarray(whole[:, STEP * index : STEP * index + SIZE])
        light = 255 * flicker * rng.normal()
        yield frame, np.clip(frame + light, 0, 255).astype(np.uint8)


def known_flow() -> Any:
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[..., 0] = -STEP
    return flow


def test_pan_with_known_flow_has_no_error() -> None:
    (found,) = measure_flicker(pan(), [1], flows=[known_flow()] * COUNT)
    assert max(found.result) == max(found.source) == 0
    assert found.visible == pytest.approx([(SIZE - STEP) / SIZE] * (COUNT - 1))


def test_error_is_the_distance_of_colors() -> None:
    """One channel off by 51 of 255: 0.2."""
    first = np.full((8, 8, 3), 100, np.uint8)
    second = first + np.array([51, 0, 0], np.uint8)
    flow = np.zeros((8, 8, 2), np.float32)
    assert warping_error(first, second, flow, visible(flow, None)) == pytest.approx(0.2)


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_error_grows_with_flicker_in_order(method: str) -> None:
    """By estimated flow, at both gaps; the source's own stays where it is."""
    amounts = (0.0, 0.01, 0.03, 0.1)
    runs = [measure_flicker(pan(amount), [1, 3], method) for amount in amounts]
    for index in range(2):
        means = [run[index].means() for run in runs]
        assert [mean["result"] for mean in means] == sorted(mean["result"] for mean in means)
        assert means[3]["result"] > 5 * means[0]["result"]
        assert len({mean["source"] for mean in means}) == 1
        assert means[0]["result"] == means[0]["source"]


def test_covered_parts_are_left_out() -> None:
    """A bright square moves over gray: with flow there and back, its trail does not count."""

    def frame(left: int) -> Any:
        image = np.full((64, 64, 3), 90, np.uint8)
        image[20:44, left : left + 24] = 200
        return image

    first, second = frame(8), frame(16)
    there, back = np.zeros((64, 64, 2), np.float32), np.zeros((64, 64, 2), np.float32)
    there[20:44, 8:32, 0], back[20:44, 16:40, 0] = 8, -8
    assert warping_error(first, second, there, visible(there, None)) > 0.01
    assert warping_error(first, second, there, visible(there, back)) == 0


def test_flow_files_and_video_files(tmp_path: Path) -> None:
    """Two encodings of one clip against each other: as good as the source; frames must be as many."""
    source = write_clip(tmp_path / "a.mp4", Clip(frames=6, audio=0))
    result = write_clip(tmp_path / "b.mp4", Clip(frames=6, audio=0, options={"crf": "16"}))
    short = write_clip(tmp_path / "c.mp4", Clip(frames=5, audio=0))
    (found,) = measure_flicker(read_both(source, result), [1])
    assert found.means()["result"] == pytest.approx(found.means()["source"], abs=0.01)
    with pytest.raises(InputError, match=r"c\.mp4 ends after 5 frames"):
        list(read_both(source, short))
    with pytest.raises(InputError, match=r"holds no \.flo files"):
        read_flows(tmp_path)
    cv2.writeOpticalFlow(str(tmp_path / "0.flo"), known_flow())
    np.testing.assert_array_equal(read_flows(tmp_path)[0], known_flow())


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(InputError, match="a gap of 9 needs more"):
        measure_flicker(pan(), [9])
    with pytest.raises(InvalidArgument, match="the only gap is 1"):
        measure_flicker(pan(), [2], flows=[known_flow()])
    with pytest.raises(InvalidArgument, match="unknown flow 'raft'"):
        measure_flicker(pan(), [1], "raft")
    with pytest.raises(InputError, match="too few"):
        measure_flicker(pan(), [1], flows=[known_flow()])
