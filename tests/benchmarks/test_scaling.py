"""Tests of the model of how batches scale, against closed forms."""

from __future__ import annotations

import pytest

from mst_deploy.benchmarks.scaling import Assumptions, simulate

EXACT = Assumptions(frames=4800, scatter=0, deaths=0, stragglers=0, task=0, start=0, megabytes=0)


def test_one_worker_makes_whole_videos() -> None:
    found = simulate(Assumptions(videos=3, frames=4800, scatter=0, deaths=0, stragglers=0), 1)
    join_free = 7 + 3 * (4800 / 10.1 + 0.3)
    assert found.seconds == pytest.approx(join_free)


def test_a_split_video_takes_its_painting_and_its_scan() -> None:
    found = simulate(EXACT, 4)
    work = 4800 / EXACT.paint_fps + 4800 / EXACT.scan_fps
    longest = 10 + EXACT.part_frames / EXACT.paint_fps  # of a task
    assert work / 4 <= found.seconds <= work / 4 + longest


def test_the_scan_is_the_end_of_scaling() -> None:
    found = simulate(EXACT, 100)
    scan = 4800 / EXACT.scan_fps
    assert scan <= found.seconds <= scan + 2 * EXACT.part_frames / EXACT.paint_fps + EXACT.poll


def test_deaths_and_stragglers_cost_time_and_nothing_else() -> None:
    calm = simulate(EXACT, 8)
    rough = simulate(Assumptions(**{**vars(EXACT), "deaths": 0.3, "stragglers": 0.05}), 8)
    assert rough.retries > 3
    assert calm.retries == 0
    assert calm.seconds < rough.seconds < 10 * calm.seconds
