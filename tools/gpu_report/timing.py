"""Times in milliseconds: of the device by CUDA events, of a whole call by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

MOST = 300  # timed calls
WARM, WARM_CALLS = 0.3, 30  # share of the seconds, and calls, for warming up at most
LONG = 0.1  # seconds to measure, from which on a figure shall be one
QUEUED = 8  # calls that are put onto the stream before the CPU waits for them


@dataclass(frozen=True)
class Budget:
    """Time limit of one measurement."""

    seconds: float

    @property
    def least(self) -> int:
        """Return the minimum number of timed calls."""
        return 12 if self.seconds >= LONG else 2


def device_times(work: Callable[[], object], budget: Budget, device: str) -> dict[str, Any]:
    """Measure the device time of one call, with calls queued behind each other; on a CPU, the time of the
    call itself."""
    if device != "cuda":
        return wall_times(work, budget, lambda: None)
    import torch

    cuda: Any = torch.cuda
    warm = _warm_up(work, budget, cuda.synchronize)
    marks = [cuda.Event(enable_timing=True) for _ in range(QUEUED + 1)]
    found: list[float] = []
    ends = time.monotonic() + budget.seconds * (1 - WARM)
    began = time.perf_counter()
    while len(found) < budget.least or (len(found) < MOST and time.monotonic() < ends):
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        cuda.synchronize()
        found += [a.elapsed_time(b) for a, b in pairwise(marks)]
    wall = 1000 * (time.perf_counter() - began) / len(found)
    return {"device_ms": summary(found), "wall_ms": round(wall, 4), **warm}


def wall_times(work: Callable[[], object], budget: Budget, wait: Callable[[], object]) -> dict[str, Any]:
    """Measure the time of whole calls, waiting for each."""
    warm = _warm_up(work, budget, wait)
    found: list[float] = []
    ends = time.monotonic() + budget.seconds * (1 - WARM)
    while len(found) < budget.least or (len(found) < MOST and time.monotonic() < ends):
        began = time.perf_counter()
        work()
        wait()
        found.append(1000 * (time.perf_counter() - began))
    return {"call_ms": summary(found), **warm}


def summary(milliseconds: Sequence[float]) -> dict[str, float | int]:
    """Return percentiles, mean, minimum and count."""
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return {
        "p50": round(float(p50), 4),
        "p90": round(float(p90), 4),
        "p99": round(float(p99), 4),
        "mean": round(float(np.mean(milliseconds)), 4),
        "min": round(float(min(milliseconds)), 4),
        "calls": len(milliseconds),
    }


def _warm_up(work: Callable[[], object], budget: Budget, wait: Callable[[], object]) -> dict[str, Any]:
    """Call until it is warm: the first call alone, then for a share of the time."""
    began = time.perf_counter()
    work()
    wait()
    first = time.perf_counter() - began
    ends, calls = time.monotonic() + WARM * budget.seconds, 1
    while calls < min(3, budget.least) or (calls < WARM_CALLS and time.monotonic() < ends):
        work()
        wait()
        calls += 1
    return {"first_ms": round(1000 * first, 2), "warmups": calls}
