"""Verification of an engine against ONNX Runtime: on every GPU that opens it, before its first frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mst_deploy.backends import FilmBatch, StylizeBackend
from mst_deploy.backends.parity import psnr, run_in_float32, sample_picture
from mst_deploy.backends.trt.engine_cache import Gpu, Shape, Verification
from mst_deploy.errors import VerificationError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import styles_for

LEAST_PSNR = 35.0  # dB; below this a difference is visible in flat areas
RUNS = 3  # eager, captured, replayed
STYLES = 2


def verify(
    open_engine: Callable[[bool], StylizeBackend], graph: Path, film_params: FilmBatch, shape: Shape
) -> dict[str, Any]:
    """Compare an engine with ONNX Runtime at its largest frames; return the figures.

    ``open_engine`` opens the generator with or without CUDA graphs. ``film_params`` (n, P) are FiLM vectors
    of real styles: each is run, and the captured graph's results must equal the eager ones, byte by byte.
    Raises VerificationError with the figures if the engine fails.
    """
    batch, height, width = shape
    frames = np.stack([sample_picture(height, width, seed=index) for index in range(batch)])
    worst, largest = np.inf, 0
    with open_engine(False) as eager, open_engine(True) as captured:
        for film in film_params:
            film_vectors = np.repeat(film[None], batch, axis=0)
            expected, actual = run_in_float32(graph, frames, film_vectors), eager(frames, film_vectors)
            for stylized in captured.stream([(frames, film_vectors)] * RUNS):
                if not np.array_equal(stylized, actual):
                    raise VerificationError(
                        f"the captured CUDA graph gives another picture than the engine run eagerly (PSNR "
                        f"{psnr(stylized, actual):.1f} dB at {width}x{height}); the engine was not kept"
                    )
            worst = min(worst, psnr(expected, actual))
            largest = max(largest, int(np.abs(expected.astype(int) - actual.astype(int)).max()))
            if actual.min() == actual.max() and expected.min() != expected.max():
                raise VerificationError(
                    f"the engine gives one flat color ({int(actual.min())}) at {width}x{height}: its "
                    "activations overflow; it was not kept. Build it with a graph of higher precision"
                )
    figures = {
        "size": f"{width}x{height}",
        "batch": batch,
        "styles": len(film_params),
        "psnr_db": round(float(worst), 1),
        "max_pixel_difference": largest,
    }
    if worst < LEAST_PSNR:
        raise VerificationError(
            f"the engine differs from ONNX Runtime in float32 by more than it may at {width}x{height}: PSNR "
            f"{worst:.1f} dB (at least {LEAST_PSNR:.0f}), largest pixel difference {largest}; it was not kept"
        )
    return figures


def verification_now(gpu: Gpu, figures: dict[str, Any]) -> Verification:
    """Return the figures with GPU and time."""
    return Verification(gpu, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), figures)


def film_params_for(bundle: Bundle) -> FilmBatch:
    """Return FiLM vectors (n, P) of shipped styles that belong to the model, else the identity vector."""
    fitting = [style.film for style in styles_for(bundle.manifest.model_id).values()]
    rows = fitting[:: max(1, len(fitting) // STYLES)][:STYLES]
    return np.stack(rows or [bundle.manifest.layout.identity()])


@contextmanager
def trial(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside the cache for an engine that is not verified yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".trial-", dir=folder) as place:
        yield Path(place)
