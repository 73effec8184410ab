"""Latency of a generator, frame by frame: ``python -m mst_deploy.benchmarks.latency``.

Warm-up calls first, then timed calls of one frame each; sizes take turns, so a noisy machine disturbs
all alike. Percentiles and the machine go into the JSON on stdout.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mst_deploy import __version__
from mst_deploy.backends import Generator, open_generator
from mst_deploy.console import progress
from mst_deploy.doctor import gpu_name, version
from mst_deploy.options import BackendOption, DeviceOption, ModelOption
from mst_deploy.pipeline import Size
from mst_deploy.shipped import DEFAULT_BUNDLE


def measure(
    generator: Generator, sizes: list[tuple[int, int]], repeats: int, warmup: int = 2
) -> list[dict[str, Any]]:
    """Milliseconds per frame at each (width, height), end to end through the backend's call."""
    rng = np.random.default_rng(0)
    film = generator.manifest.layout.identity()[None]
    frames = [rng.integers(0, 256, (1, height, width, 3), np.uint8) for width, height in sizes]
    times: list[list[float]] = [[] for _ in sizes]
    with progress("measuring", warmup + repeats, unit="rounds/s") as tell:
        for turn in range(warmup + repeats):
            for frame, row in zip(frames, times, strict=True):
                started = time.perf_counter()
                generator(frame, film)
                if turn >= warmup:
                    row.append(1000 * (time.perf_counter() - started))
            tell(turn + 1)
    return [
        {
            "size": f"{width}x{height}",
            "count": len(row),
            **{f"p{rank}_ms": round(float(np.percentile(row, rank)), 2) for rank in (50, 95, 99)},
            "min_ms": round(min(row), 2),
        }
        for (width, height), row in zip(sizes, times, strict=True)
    ]


def main(
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    repeats: Annotated[int, typer.Option(help="Timed calls per size.", min=1)] = 20,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
) -> None:
    """Measure the latency of a generator at several sizes."""
    wanted = [Size.parse(size).applied(0, 0) for size in sizes]
    with open_generator(Path(model or DEFAULT_BUNDLE), backend, device) as generator:
        rows = measure(generator, wanted, repeats)
        where = {"backend": backend, "device": generator.device, "model": generator.manifest.name,
                 "precision": generator.manifest.precision}  # fmt: skip
    machine = {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": gpu_name(),
        "mst-deploy": __version__,
        "onnxruntime": version("onnxruntime-gpu") or version("onnxruntime"),
        "torch": version("torch"),
    }
    print(json.dumps({**where, "machine": machine, "latency": rows}, indent=2))


if __name__ == "__main__":
    typer.run(main)
