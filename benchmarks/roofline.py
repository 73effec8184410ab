"""Ceilings of this machine: multiply-adds per second of a matrix product, bytes per second of a copy.

They are measured, not taken from data sheets: a shared core or a lowered clock changes them as it changes
everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from mst_deploy.benchmarks.environment import usable_cores
from mst_deploy.benchmarks.harness import Times, Work, measure
from mst_deploy.benchmarks.options import Plan

SIDE = 2048
"""Side of the square matrices: large enough that memory traffic is negligible."""
COPIED = 2**28
"""Bytes of the copy, far more than any cache."""
PLAN = Plan(min_runs=8, most=16, seconds=10.0, precision=0.05)


@dataclass(frozen=True)
class Roofline:
    """Best rates measured."""

    multiply_adds: dict[str, float]
    """Multiply-adds per second by the type of the factors: fp32, bf16, fp16."""
    copied: float
    """Bytes per second, read and written ones added."""

    def least_seconds(self, multiply_adds: int, least_bytes: int, precision: str) -> float | None:
        """Return the roofline's lower bound of the time, in seconds (Williams et al. 2009, Commun. ACM 52
        (4), 65-76).

        None if the ceiling of this machine for that precision is unknown.
        """
        if precision not in self.multiply_adds:
            return None
        return max(multiply_adds / self.multiply_adds[precision], least_bytes / self.copied)


def measure_roofline(device: str = "cpu") -> Roofline:
    """Measure matrix products in every available type, and a copy, interleaved.

    NumPy covers float32 on the CPU; the other types and GPUs need PyTorch, and are omitted without it.
    """
    side = SIDE if device == "cpu" else 4 * SIDE
    try:
        library = import_module("mst_deploy.benchmarks.roofline_torch")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch" or device != "cpu":
            raise
        items: dict[str, Work] = {}
    else:
        items = library.matrix_products(side, device)
    if device == "cpu":
        items = {**items, **numpy_product(), "copy": parallel_copy(COPIED)}
    else:
        items["copy"] = library.copy(COPIED, device)
    return roofline_of(measure(items, PLAN), COPIED, side)


def roofline_of(times: Mapping[str, Times], copied: int, sides: int) -> Roofline:
    """Return the best rate of each type: products of square matrices are named TYPE:LIBRARY."""
    best: dict[str, float] = {}
    for name, one in times.items():
        kind = name.partition(":")[0]
        if kind != "copy":
            best[kind] = max(best.get(kind, 0.0), sides**3 / min(one.seconds))
    return Roofline(best, 2 * copied / min(times["copy"].seconds))


def numpy_product() -> dict[str, Work]:
    """Return a float32 product by NumPy's BLAS."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    return {"fp32:numpy": lambda: np.matmul(a, b, out=out)}


def parallel_copy(count: int) -> Work:
    """Return a copy of ``count`` bytes by as many threads as there are cores: one does not saturate the
    bus."""
    threads = usable_cores()
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def work() -> None:
        for done in [pool.submit(np.copyto, *part) for part in parts]:
            done.result()

    return work
