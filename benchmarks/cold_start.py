"""Measure the first frame and the memory of a fresh process: ``python -m mst_deploy.benchmarks.cold_start``.

A process loads each library only once and its peak memory never decreases, so each model is opened in a
process of its own, which prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from mst_deploy.errors import BackendError

# calls with the first FiLM vector; the fastest is compared with the first call with another vector
REPEATS = 3


def cold_start(model: Path, backend: str, device: str, size: tuple[int, int], batch: int) -> dict[str, float]:
    """Run one cold start in a fresh process; return its times in seconds (``*_s``) and its memory in MiB
    (``*_mib``).

    ``size`` is (width, height) in pixels. Raises BackendError with the last line of stderr if the process
    fails.
    """
    arguments = [str(model.resolve()), backend, device, *map(str, (*size, batch))]
    done = subprocess.run(
        [sys.executable, "-m", "mst_deploy.benchmarks.cold_start", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BackendError(f"opening {backend} in a process of its own failed: {last}")
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over several cold starts."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Open the model, run it, change the style; print the time of each step and the peak memory as JSON."""
    started = time.perf_counter()
    import numpy as np

    from mst_deploy.backends import open_generator
    from mst_deploy.benchmarks.environment import device_memory, peak_memory

    model, backend, device, *numbers = sys.argv[1:]
    width, height, batch = map(int, numbers)
    frames = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    before = peak_memory()
    opening = time.perf_counter()
    with open_generator(Path(model), backend, device) as generator:
        opened = time.perf_counter()
        film = np.repeat(generator.manifest.layout.identity()[None], batch, axis=0)
        calls = [_seconds(generator, frames, film) for _ in range(1 + REPEATS)]
        change = _seconds(generator, frames, film * np.float32(0.9))
        figures: dict[str, Any] = {
            "imports_s": opening - started,
            "open_s": opened - opening,
            "first_call_s": calls[0],
            "first_frame_s": opened - started + calls[0],
            "same_style_s": min(calls[1:]),
            "new_style_s": change,
            "memory_mib": peak_memory(),
            "memory_before_mib": before,
        }
        device_mib = device_memory()
        if device_mib is not None:
            figures["device_memory_mib"] = device_mib
    print(json.dumps(figures))


def _seconds(generator: Any, frames: Any, film: Any) -> float:
    started = time.perf_counter()
    generator(frames, film)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
