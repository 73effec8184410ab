"""What this machine could do at best: multiply-adds a second of a matrix product, bytes a second of a copy.

Measured, not looked up: a shared core or a lowered clock changes them as it changes everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from mst_deploy.benchmarks.environment import usable_cores
from mst_deploy.benchmarks.harness import Plan, Times, Work, measure

SIDE = 2048
"""Of the square matrices: large enough that their bytes do not count."""
COPIED = 2**28
"""Bytes, far more than any cache."""
PLAN = Plan(min_runs=8, most=16, seconds=10.0, precision=0.05)


@dataclass(frozen=True)
class Roofline:
    """The best that was seen."""

    multiply_adds: dict[str, float]
    """A second, by the type of the factors: fp32, bf16, fp16."""
    copied: float
    """Bytes a second, read and written ones added up."""

    def least_seconds(self, multiply_adds: int, least_bytes: int, precision: str) -> float | None:
        """The roofline: no program can be faster than its arithmetic or its bytes allow (Williams 2009).

        None where this machine's ceiling for that precision is not known.
        """
        if precision not in self.multiply_adds:
            return None
        return max(multiply_adds / self.multiply_adds[precision], least_bytes / self.copied)


def measure_roofline(device: str = "cpu") -> Roofline:
    """Matrix products in every type that can be measured here, and a copy, in turns.

    NumPy gives float32 on the CPU; the other types and GPUs need PyTorch, and are left out without it.
    """
    side = SIDE if device == "cpu" else 4 * SIDE
    try:
        library = import_module("mst_deploy.benchmarks.roofline_torch")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch" or device != "cpu":
            raise
        things: dict[str, Work] = {}
    else:
        things = library.matrix_products(side, device)
    if device == "cpu":
        things = {**things, **numpy_product(), "copy": parallel_copy(COPIED)}
    else:
        things["copy"] = library.copy(COPIED, device)
    return roofline_of(measure(things, PLAN), COPIED, side)


def roofline_of(times: Mapping[str, Times], copied: int, sides: int) -> Roofline:
    """The best of each: products are named TYPE:LIBRARY, of square matrices."""
    best: dict[str, float] = {}
    for name, one in times.items():
        kind = name.partition(":")[0]
        if kind != "copy":
            best[kind] = max(best.get(kind, 0.0), sides**3 / min(one.seconds))
    return Roofline(best, 2 * copied / min(times["copy"].seconds))


def numpy_product() -> dict[str, Work]:
    """float32, by the BLAS that NumPy brings."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    return {"fp32:numpy": lambda: np.matmul(a, b, out=out)}


def parallel_copy(count: int) -> Work:
    """A copy of ``count`` bytes by as many threads as there are cores: one alone does not fill the bus."""
    threads = usable_cores()
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def work() -> None:
        for done in [pool.submit(np.copyto, *part) for part in parts]:
            done.result()

    return work
