"""A generator in 8 bits for a bundle: calibrated, sensitive layers left in float32, refused below a limit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mst_deploy import __version__
from mst_deploy.backends import StyleEncoder, open_style_encoder
from mst_deploy.backends.parity import sample_picture
from mst_deploy.errors import InvalidArgument, VerificationError
from mst_deploy.export.calibration import (
    Material,
    calibrate,
    graph_inputs,
    left_in_float,
    parity,
    psnr_of_error,
    quantized,
    sensitivity,
    session_of,
    varied_samples,
)
from mst_deploy.files import replacing, sha256_of
from mst_deploy.images import load_image
from mst_deploy.model.bundle import (
    GENERATOR,
    GENERATOR_INT8,
    MANIFEST,
    STYLE_ENCODER,
    Bundle,
    Manifest,
    open_bundle,
)
from mst_deploy.model.film import Style
from mst_deploy.model.zoo import shipped_photographs, styles_for
from mst_deploy.onnx_passes.cpu import in_float32
from mst_deploy.onnx_passes.int8 import convolutions, pixels_into_convolution
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.styles.resolve import encode_film, make_style, resolve_style

LEAST_MEAN, LEAST_WORST = 36.0, 32.0
"""PSNR to float32, dB, over all checked styles and photographs, and of the worst of them."""
GOAL = 40.0
"""dB that the errors of all layers together may reach; more sensitive ones stay in float32. Checked pictures
are others than those that this is measured with, so it is above the limits."""
EVERY_THIRD = 3
"""Photographs to calibrate with; the others are for the check."""


@dataclass(frozen=True)
class Effort:
    """How many pictures are run, and of what sizes."""

    calibrated: int = 48
    """Photographs in styles to calibrate with."""
    measured: int = 4
    """Of those, how many measure the sensitivity of layers."""
    photographs: int | None = None
    """Photographs to check with, each in all styles; None for all that were not calibrated with."""
    sizes: tuple[tuple[int, int], ...] = ((96, 64), (427, 240), (853, 479))
    """(width, height) in pixels at which each style is checked."""


FULL = Effort()


def export_int8(
    source: Path,
    target: Path,
    styles: Sequence[str] = (),
    *,
    name: str = "",
    effort: Effort = FULL,
    reporter: Reporter = SILENT,
) -> Bundle:
    """Write the bundle ``target``: a copy of the bundle ``source`` with its generator in 8 bits beside it.

    ``styles`` are names, style files or pictures; without any, all ready ones of the model. Raises
    VerificationError, and writes nothing, if the check finds less than LEAST_MEAN or LEAST_WORST;
    InvalidArgument for a model without styles or rounded to bfloat16; BundleError, OutputError.
    """
    bundle = open_bundle(source)
    if bundle.manifest.precision == "bf16":
        raise InvalidArgument(
            field="model",
            problem=f"the weights in {source} are rounded to bfloat16",
            hint="quantize a bundle in fp16 or fp32",
        )
    encoder = open_style_encoder(bundle, device="cpu")
    used = find_styles(styles, bundle, encoder)
    with replacing(target) as temporary:
        temporary.mkdir()
        for file in (GENERATOR, STYLE_ENCODER):
            shutil.copy(source / file, temporary)
        graph, facts = quantized_generator(bundle, used, encoder, effort, reporter)
        onnx.save(graph, temporary / GENERATOR_INT8)
        files = {**bundle.manifest.files, GENERATOR_INT8: sha256_of(temporary / GENERATOR_INT8)}
        manifest = replace(bundle.manifest, name=name or target.name, files=files, int8=facts)
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(target, manifest)


def find_styles(given: Sequence[str], bundle: Bundle, encoder: StyleEncoder) -> tuple[Style, ...]:
    """Return the styles to calibrate and check with. Raises InvalidArgument if there are none."""
    if not given:
        ready = tuple(styles_for(bundle.manifest.model_id).values())
        if not ready:
            raise InvalidArgument(
                field="style",
                problem=f"there are no ready styles of the model {bundle.manifest.name} to calibrate with",
                hint="give some: paintings or style files, a dozen of different kinds",
            )
        return ready
    found = [resolve_style(style, bundle.manifest) for style in given]
    return tuple(one if isinstance(one, Style) else make_style(encoder, one) for one in found)


def quantized_generator(
    bundle: Bundle,
    styles: tuple[Style, ...],
    encoder: StyleEncoder,
    effort: Effort = FULL,
    reporter: Reporter = SILENT,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the graph in 8 bits, and the facts for the manifest. Raises VerificationError."""
    manifest, photographs = bundle.manifest, shipped_photographs()
    calibrated = Material(tuple(photographs[::EVERY_THIRD]), styles)
    others = [path for path in photographs if path not in calibrated.photographs]
    own_films = {
        path: manifest.layout.without_canvas(encode_film(encoder, load_image(path)))
        for path in calibrated.photographs
    }
    reference = in_float32(bundle.generator)
    graph = onnx.ModelProto()
    graph.CopyFrom(reference)
    pixels_into_convolution(graph)
    samples = list(varied_samples(calibrated, manifest, own_films, effort.calibrated))
    with reporter.progress(f"calibrating with {len(samples)} pictures", None):
        ranges = calibrate(graph, samples)
    spread = np.linspace(0, len(samples) - 1, effort.measured).astype(int)
    with reporter.progress(f"measuring the sensitivity of {len(ranges)} layers", None):
        errors = sensitivity(graph, ranges, [samples[index] for index in spread])
    kept = left_in_float(errors, GOAL)
    graph = quantized(graph, {layer: affine for layer, affine in ranges.items() if layer not in kept})
    graph.producer_name, graph.producer_version = "mst-deploy", __version__
    onnx.checker.check_model(graph, full_check=True)
    checked = Material(tuple(others[: effort.photographs]), styles)
    with reporter.progress(f"checking {len(checked.photographs)} photographs in {len(styles)} styles", None):
        checks = check(reference, graph, manifest, checked, effort.sizes)
    layers = {
        layer: {
            "type": "float32" if layer in kept else "int8",
            "psnr_db_alone": round(psnr_of_error(errors[layer]), 1),
            "scale": float(f"{ranges[layer].scale:.6g}"),
            "zero_point": ranges[layer].zero_point,
        }
        for layer in convolutions(reference)
    }
    facts = {
        "calibration": {
            "photographs": [path.stem for path in calibrated.photographs],
            "styles": [style.name for style in styles],
            "pictures": len(samples),
        },
        "layers": layers,
        "checks": checks,
    }
    return graph, facts


def check(
    reference: onnx.ModelProto,
    graph: onnx.ModelProto,
    manifest: Manifest,
    material: Material,
    sizes: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Compare a graph in 8 bits with the float32 one, every photograph in every style, and every style at
    ``sizes``. Raises VerificationError below LEAST_MEAN or LEAST_WORST."""
    wanted, found = session_of(reference), session_of(graph)
    per_style: dict[str, dict[str, float]] = {}
    everything: list[tuple[float, str]] = []
    for style in material.styles:
        pictures = [(path.stem, load_image(path)) for path in material.photographs]
        values = parity(wanted, found, (graph_inputs(manifest, image, style.film) for _, image in pictures))
        everything += [
            (value, f"{style.name} on {stem}") for value, (stem, _) in zip(values, pictures, strict=True)
        ]
        own = per_style[style.name] = {}
        if values:
            own |= {"mean": round(float(np.mean(values)), 1), "worst": round(min(values), 1)}
        for width, height in sizes:
            inputs = graph_inputs(manifest, sample_picture(height, width, seed=2), style.film)
            (value,) = parity(wanted, found, [inputs])
            own[f"{width}x{height}"] = round(value, 1)
            everything.append((value, f"{style.name} at {width}x{height}"))
    mean, (worst, where) = float(np.mean([value for value, _ in everything])), min(everything)
    if mean < LEAST_MEAN or worst < LEAST_WORST:
        raise VerificationError(
            f"in 8 bits the pictures differ too much from those in float32; nothing was written: PSNR "
            f"{mean:.1f} dB in the mean (at least {LEAST_MEAN:g}), {worst:.1f} dB at the worst, {where} (at "
            f"least {LEAST_WORST:g}); use the model in fp16"
        )
    return {
        "pictures": len(everything),
        "mean_psnr_db": round(mean, 1),
        "worst_psnr_db": round(worst, 1),
        "worst": where,
        "styles": per_style,
    }


def report(facts: dict[str, Any]) -> list[str]:
    """Format the facts of a manifest as lines: the check by style, and the layers."""
    checks, layers = facts["checks"], facts["layers"]
    kept = [layer for layer, found in layers.items() if found["type"] == "float32"]
    lines = [
        f"  {checks['pictures']} pictures: PSNR to float32 {checks['mean_psnr_db']} dB in the mean, "
        f"{checks['worst_psnr_db']} dB at the worst ({checks['worst']})",
        *(
            f"  {name}: " + ", ".join(f"{what} {value}" for what, value in found.items())
            for name, found in checks["styles"].items()
        ),
        "  each layer alone in int8: "
        + ", ".join(f"{layer} {found['psnr_db_alone']}" for layer, found in layers.items()),
        f"  left in float32: {', '.join(kept) or 'none'}",
    ]
    return lines
