"""The benchmark's bookkeeping; what it measures is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.benchmarks.latency import measure
from mst_deploy.manifest import Bundle


def test_percentiles_come_from_the_timed_calls_only(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock under which the two warm-up calls take no time and the timed ones 3, 4 and 5 ms."""
    ticks = iter(np.cumsum([0, 0, 0, 3, 0, 4, 0, 5]) / 1000)
    monkeypatch.setattr("mst_deploy.benchmarks.latency.time.perf_counter", lambda: float(next(ticks)))
    (row,) = measure(FakeGenerator(bundle), [(16, 8)], repeats=3, warmup=2)
    assert row["size"] == "16x8"
    assert row["count"] == 3
    assert (row["min_ms"], row["p50_ms"]) == (3.0, 4.0)


def test_command_writes_json_with_the_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mst_deploy.benchmarks.latency", "--size", "32x16", "--repeats", "2"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["latency"][0]["size"] == "32x16"
    assert found["machine"]["cpus"] >= 1
    assert found["precision"] == "fp16"
