"""Parity checks of exports and engines: a test image, a float32 reference run, and PSNR."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mst_deploy.backends import FilmBatch, Images
from mst_deploy.backends.onnxrt import open_session
from mst_deploy.images import Image
from mst_deploy.model.canvas import Canvas, still_canvas
from mst_deploy.onnx_passes.passes import to_float32


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two uint8 arrays in dB; 100 for equal ones."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else 10 * float(np.log10(255.0**2 / error))


def sample_picture(height: int, width: int, seed: int) -> Image:
    """Return an image with smooth areas, edges and some noise, (H, W, 3) uint8, determined by the seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.zeros((height, width, 3), np.float32)
    for channel in range(3):
        waves = rng.uniform(0.005, 0.08, (4, 2))
        picture[..., channel] = sum(np.sin(x * a + y * b) for a, b in waves) / 4
    for _ in range(12):  # discs of one color
        center, radius = rng.uniform((0, 0), (height, width)), rng.uniform(0.03, 0.2) * height
        inside = (y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2
        picture[inside] = rng.uniform(-1, 1, 3)
    picture += rng.normal(0, 0.03, picture.shape)
    return np.clip(127.5 + 127.5 * picture, 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


def canvas_like(frames: Images) -> Canvas:
    """Return the canvas of a still for each of (N, H, W, 3) frames: (N, H, W, 1) uint8."""
    return np.repeat(still_canvas(frames.shape[1], frames.shape[2])[None], len(frames), axis=0)


def graph_inputs(names: Iterable[str], frames: Images, film_params: FilmBatch) -> dict[str, NDArray[Any]]:
    """Return the inputs of a generator's graph that has these ``names``; the canvas is that of a still."""
    inputs: dict[str, NDArray[Any]] = {"frames": frames, "film": film_params}
    if "canvas" in names:
        inputs["canvas"] = canvas_like(frames)
    return inputs


def run_as_written(graph: Path, frames: Images, film_params: FilmBatch) -> Images:
    """Run a generator's unmodified graph with ONNX Runtime on the CPU: (N, H, W, 3) uint8.

    A graph with a canvas gets that of a still.
    """
    session, _ = open_session(graph, "cpu")
    inputs = [value.name for value in session.get_inputs()]
    (stylized,) = session.run(["stylized"], graph_inputs(inputs, frames, film_params))
    return np.asarray(stylized, np.uint8)


def run_in_float32(graph: Path, frames: Images, film_params: FilmBatch) -> Images:
    """Run a generator's graph in float32 with ONNX Runtime on the CPU: (N, H, W, 3) uint8."""
    with TemporaryDirectory() as folder:
        path, model = Path(folder) / "float32.onnx", onnx.load(graph)
        to_float32(model)
        onnx.save(model, path)
        return run_as_written(path, frames, film_params)
