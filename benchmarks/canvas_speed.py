"""How long the canvas of a frame takes: ``python -m mst_deploy.benchmarks.canvas_speed --size 1280x720``.

The picture pans by a fraction of a pixel, so that flow, offsets and lookups all have work. One thread, as the
stage has in ``mst video``; it works beside the network, so it limits a job only where it is the slowest.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from mst_deploy.benchmarks.environment import environment_info
from mst_deploy.cli.options import run_alone
from mst_deploy.size import Size
from mst_deploy.video.canvas import MovingCanvas

WARM_UP = 3


def measure(width: int, height: int, frames: int) -> dict[str, Any]:
    """Milliseconds of a frame: median and 90th percentile."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(height + 64, width + 256, 3)).astype(np.float32), (0, 0), 3)
    texture = np.clip(noise / noise.std() * 50 + 128, 0, 255).astype(np.uint8)
    moving, seconds = MovingCanvas(height, width), []
    for index in range(frames + WARM_UP):
        way = np.array([[1, 0, 1.3 * (index % 150)], [0, 1, 0.2 * (index % 150)]], np.float32)
        frame = cv2.warpAffine(texture, way, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        started = time.perf_counter()
        moving(np.asarray(frame, np.uint8))
        seconds.append(time.perf_counter() - started)
    median, slow = 1000 * np.percentile(seconds[WARM_UP:], [50, 90])
    return {
        "size": f"{width}x{height}",
        "frames": frames,
        "median_ms": round(float(median), 2),
        "p90_ms": round(float(slow), 2),
    }


def main(
    sizes: Annotated[list[str] | None, typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each size.")] = 60,
) -> None:
    """Print a report as JSON."""
    cv2.setNumThreads(1)
    wanted = [Size.parse(size).applied(0, 0) for size in sizes or ["1280x720", "1920x1080"]]
    rows = [measure(width, height, frames) for width, height in wanted]
    print(json.dumps({**environment_info(), "canvas": rows}, indent=2))


if __name__ == "__main__":
    run_alone(main)
