"""Inputs for calibrating and checking an 8-bit graph, and what is measured with them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mst_deploy.backends.onnxrt import open_session
from mst_deploy.backends.parity import psnr
from mst_deploy.export.histograms import Histogram, best_affine
from mst_deploy.images import Image, load_image
from mst_deploy.model.bundle import Manifest
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.film import FilmParams, Style, canvas_gains, with_strength
from mst_deploy.onnx_passes.int8 import PIXELS, Affine, convolutions, quantize, reads_pixels

Inputs = dict[str, NDArray[Any]]
"""Inputs of the generator's graph by name."""
STRENGTHS = (1.0, 0.5, 1.0, 0.75)
STROKES = (1.0, 1.0, 2.0, 0.0)
"""Amounts of canvas; a style has 1 of its own."""
EVERY = 5  # values counted, of those of a map; coprime to usual widths


@dataclass(frozen=True)
class Material:
    """Pictures and styles of one kind of sample."""

    photographs: tuple[Path, ...]
    styles: tuple[Style, ...]


def varied_samples(
    material: Material, manifest: Manifest, own_films: Mapping[Path, FilmParams], most: int | None = None
) -> Iterator[Inputs]:
    """Yield photographs in styles, each pair with another strength, amount of strokes and canvas.

    ``own_films`` are the FiLM vectors of the photographs themselves, for strengths below 1. Of more than
    ``most`` pairs those at equal distances are taken.
    """
    pairs = list(product(material.photographs, material.styles))
    for number, index in enumerate(np.unique(np.linspace(0, len(pairs) - 1, most or len(pairs)).astype(int))):
        photograph, style = pairs[index]
        film = with_strength(own_films[photograph], style.film, STRENGTHS[number % len(STRENGTHS)])
        if manifest.canvas_bands:
            amount = STROKES[number // len(STRENGTHS) % len(STROKES)]
            film = manifest.layout.with_gains(film, canvas_gains(manifest.canvas_bands, amount))
        yield graph_inputs(manifest, load_image(photograph), film, seed=number)


def graph_inputs(manifest: Manifest, image: Image, film: FilmParams, seed: int = 0) -> Inputs:
    """Return the inputs for one picture (H, W, 3) uint8 with the canvas of a still."""
    inputs: Inputs = {"frames": image[None], "film": film[None]}
    if manifest.canvas_bands:
        height, width = image.shape[:2]
        inputs["canvas"] = still_canvas(height, width, seed)[None]
    return inputs


def calibrate(model: onnx.ModelProto, samples: Iterable[Inputs]) -> dict[str, Affine]:
    """Run a float32 graph; return the best range of what each of its trained convolutions reads."""
    layers = {layer: node.input[0] for layer, node in convolutions(model).items()}
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    for name in dict.fromkeys(layers.values()):
        observed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session, histograms = session_of(observed), {layer: Histogram() for layer in layers}
    for inputs in samples:
        for layer, values in zip(layers, session.run(list(layers.values()), inputs), strict=True):
            histograms[layer].add(values, EVERY)
    return {
        layer: PIXELS if reads_pixels(model, layer) else best_affine(histogram)
        for layer, histogram in histograms.items()
    }


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session on the CPU."""
    session, _ = open_session(bytes(model.SerializeToString()), "cpu", "the graph in 8 bits")
    return session


def stylized(session: onnxruntime.InferenceSession, inputs: Inputs) -> NDArray[np.uint8]:
    """Return what a generator's graph gives, (1, H, W, 3) uint8."""
    (found,) = session.run(["stylized"], inputs)
    return np.asarray(found, np.uint8)


def quantized(model: onnx.ModelProto, inputs: Mapping[str, Affine]) -> onnx.ModelProto:
    """Return a copy of a float32 graph with the named convolutions on integers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantize(copy, inputs)
    return copy


def sensitivity(
    model: onnx.ModelProto, ranges: Mapping[str, Affine], samples: Sequence[Inputs]
) -> dict[str, float]:
    """Return the mean squared error of the picture, in gray levels, with each layer alone on integers."""
    session = session_of(model)
    wanted = [stylized(session, inputs).astype(np.float64) for inputs in samples]
    found = {}
    for layer, affine in ranges.items():
        one = session_of(quantized(model, {layer: affine}))
        errors = [np.mean((stylized(one, i) - w) ** 2) for i, w in zip(samples, wanted, strict=True)]
        found[layer] = float(np.mean(errors))
    return found


def psnr_of_error(error: float) -> float:
    """Return the PSNR, dB, of a mean squared error in gray levels squared; 100 for 0."""
    return 100.0 if error == 0 else 10 * float(np.log10(255.0**2 / error))


def left_in_float(errors: Mapping[str, float], least: float) -> tuple[str, ...]:
    """Return the most sensitive layers, as few as are needed for the rest to reach ``least`` dB together.

    Errors of layers are independent, so their squares add up.
    """
    by_error = sorted(errors, key=lambda layer: -errors[layer])
    for count in range(len(by_error) + 1):
        if psnr_of_error(sum(errors[layer] for layer in by_error[count:])) >= least:
            return tuple(by_error[:count])
    return tuple(by_error)


def parity(
    reference: onnxruntime.InferenceSession,
    candidate: onnxruntime.InferenceSession,
    samples: Iterable[Inputs],
) -> list[float]:
    """Return the PSNR in dB of each sample."""
    return [psnr(stylized(reference, inputs), stylized(candidate, inputs)) for inputs in samples]
