"""Check of an exported bundle against PyTorch, made at the end of every export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mst_deploy.backends import FilmBatch, Images, model_inputs
from mst_deploy.backends.onnxrt import open_session
from mst_deploy.backends.parity import psnr, run_as_written, run_in_float32, sample_picture
from mst_deploy.errors import VerificationError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.checkpoints import Networks
from mst_deploy.model.io_wrappers import Uint8Generator, Uint8StyleEncoder

SIZES = ((96, 64), (853, 479), (1920, 1080))
"""(width, height) in pixels of the checked frames: one small, one odd, one full HD."""


@dataclass(frozen=True)
class Tolerance:
    """Largest deviation of an exported graph from float32 PyTorch."""

    pixel: int
    """Largest difference of one pixel value, 0..255."""
    psnr: float
    """Smallest peak signal-to-noise ratio, dB."""
    film: float
    """Largest difference of a FiLM value, relative to the largest FiLM value."""


# fp32: the same arithmetic in another order may change a rounding by one, no more. fp16: weights and
# activations carry 11 bits through 16 convolutions. At 40 dB nothing is visible; single pixels at strong
# edges may differ by more, because normalized activations are large there.
TOLERANCES = {
    "fp32": Tolerance(pixel=1, psnr=55.0, film=1e-4),
    "fp16": Tolerance(pixel=16, psnr=40.0, film=2e-2),
    # bf16: weights have 8 bits. ONNX Runtime's CPU cannot compute in bfloat16, so only they are rounded here;
    # the effect of rounding activations is measured when an engine is verified on the GPU that runs it.
    "bf16": Tolerance(pixel=64, psnr=30.0, film=2e-2),
}


def check_bundle(networks: Networks, bundle: Bundle) -> list[dict[str, Any]]:
    """Compare ONNX Runtime on the CPU with float32 PyTorch at SIZES.

    Returns one record per size: largest pixel difference and PSNR in dB. Raises VerificationError naming
    every figure that is out of tolerance.
    """
    tolerance = TOLERANCES[bundle.manifest.precision]
    style = sample_picture(bundle.manifest.style_size, bundle.manifest.style_size, seed=1)[None]
    film, film_error = check_encoder(networks, bundle, style)
    failures = []
    if not film_error <= tolerance.film:
        failures.append(f"FiLM vectors differ by {film_error:.2g} (allowed {tolerance.film:.2g})")
    records = [
        compare(networks, bundle, sample_picture(height, width, seed=2)[None], film)
        for width, height in SIZES
    ]
    for record in records:
        if record["max_pixel_difference"] > tolerance.pixel or record["psnr_db"] < tolerance.psnr:
            failures.append(
                f"at {record['size']}: largest pixel difference {record['max_pixel_difference']} "
                f"(allowed {tolerance.pixel}), PSNR {record['psnr_db']} dB (at least {tolerance.psnr})"
            )
    if failures:
        raise VerificationError(
            f"the exported {bundle.manifest.precision} graphs differ from PyTorch; nothing was "
            f"written: {'; '.join(failures)}"
        )
    return [*records, {"film_relative_difference": float(f"{film_error:.2g}")}]


@torch.inference_mode()
def check_encoder(networks: Networks, bundle: Bundle, style: Images) -> tuple[FilmBatch, float]:
    """Return PyTorch's FiLM vector (1, P) of a style, and the relative error of the exported encoder's."""
    wanted = Uint8StyleEncoder(networks.film_encoder)(torch.from_numpy(style))[1].numpy()
    session, _ = open_session(bundle.style_encoder, "cpu")
    (found,) = session.run(["film"], {"style": style})
    return wanted, float(np.abs(found - wanted).max() / np.abs(wanted).max())


@torch.inference_mode()
def compare(networks: Networks, bundle: Bundle, frames: Images, film_params: FilmBatch) -> dict[str, Any]:
    """Return one record: exported graph against PyTorch on the same frames."""
    graph = Uint8Generator(networks.generator)
    inputs = model_inputs(bundle.manifest, frames, film_params)
    wanted = graph(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()
    found = run_on_cpu(bundle, frames, film_params)
    return {
        "size": f"{frames.shape[2]}x{frames.shape[1]}",
        "max_pixel_difference": int(np.abs(wanted.astype(int) - found.astype(int)).max()),
        "psnr_db": round(psnr(wanted, found), 1),
    }


def run_on_cpu(bundle: Bundle, frames: Images, film_params: FilmBatch) -> Images:
    """Run the bundle's generator as written; a bfloat16 graph as its float32 copy."""
    if bundle.manifest.precision != "bf16":
        return run_as_written(bundle.generator, frames, film_params)
    return run_in_float32(bundle.generator, frames, film_params)
