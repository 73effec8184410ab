"""The benchmarks of the whole path: their bookkeeping; what they measure is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from mst_deploy.backends import FilmBatch, Images
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.benchmarks.memory import make_clip as make_long_clip
from mst_deploy.benchmarks.throughput import frames_per_second, make_clip
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from tests.clips import probe


def test_the_generator_alone_is_timed_after_its_warm_up(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 pictures in batches of 2 are 3 calls and 6 pictures; the clock says 2 s for them."""
    calls: list[int] = []

    class Counting(FakeGenerator):
        def __call__(self, frames: Images, films: FilmBatch, canvas: Canvas | None = None) -> Images:
            calls.append(len(frames))
            return super().__call__(frames, films)

    ticks = iter((10.0, 12.0))
    monkeypatch.setattr("mst_deploy.benchmarks.throughput.time.perf_counter", lambda: next(ticks))
    assert frames_per_second(Counting(bundle), (16, 8), count=5, batch=2) == 3.0
    assert calls == [2] * 5


def test_clips_are_what_they_should_be(tmp_path: Path) -> None:
    found = probe(make_clip(tmp_path / "a.mp4", 32, 16, frames=7))
    assert (len(found.times), found.size, found.rate) == (7, (32, 16), Fraction(25))
    long = probe(make_long_clip(tmp_path / "b.mp4", 3, (16, 16), rate=5))
    assert (len(long.times), long.rate) == (15, Fraction(5))
    assert len(long.audio) > 0


@pytest.mark.parametrize("deflicker", [False, True])
def test_throughput_writes_json_with_shares(deflicker: bool) -> None:
    command = ["-m", "mst_deploy.benchmarks.throughput", "--size", "32x16", "--frames", "4"]
    command += ["--deflicker"] * deflicker
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)["throughput"]
    assert (row["size"], row["frames"]) == ("32x16", 4)
    stages = {"decode", "prepare", "canvas", "infer", "compose", "encode", "join"}
    stages |= {"deflicker"} if deflicker else set()
    assert (set(row["shares"]), row["steady"]) == (stages, deflicker)
    assert row["limit"] in row["shares"]
    assert set(row["conversion_ms"]) == {"yuv_to_rgb", "rgb_to_yuv"}


def test_memory_runs_each_length_in_a_process_of_its_own() -> None:
    command = ["-m", "mst_deploy.benchmarks.memory", "--minutes", "0.02", "--minutes", "0.1"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["memory"]
    assert [row["frames"] for row in rows] == [30, 150]
    assert all(row["peak_mib"] > 20 for row in rows)
