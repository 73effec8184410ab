"""Half precision against float32 in PyTorch: pictures that make statistics hard, both models, other norms."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mst_deploy.checking import psnr
from mst_deploy.images import load_image
from mst_deploy.shipped import shipped_photographs
from tools.gpu_report.inputs import Inputs, films_of, make_inputs, opened, photo_like
from tools.gpu_report.networks import (
    NORMS,
    caller,
    generator,
    names_of,
    norms,
    on_device,
    reference,
    switches,
)
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record

Picture = NDArray[np.uint8]
LARGE = 1920 * 1080  # pixels of the frames, at most, unless only larger ones were asked for


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """For each picture and model the differences of all variants to float32 without TF32."""
    sizes = [size for size in settings.sizes if size[0] * size[1] <= LARGE] or list(settings.sizes)
    made = pictures(sizes[0])
    for name in made:
        for model in settings.models:
            what = {"model": model, "size": sizes[0], "picture": name}
            record.row(
                what, partial(compared, settings, model, sizes[0], made[name]), needs=settings.seconds(2.0)
            )


def pictures(size: tuple[int, int]) -> dict[str, Picture]:
    """(H, W, 3) each."""
    width, height = size
    rng = np.random.default_rng(0)
    photograph = load_image(shipped_photographs()[0])
    half = np.zeros((height, width, 3), np.uint8)
    half[:, width // 2 :] = 255
    return {
        "photo-like": photo_like(size),
        "photograph": np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC), np.uint8),
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (height, width, 3), np.uint8),
        "gray": np.full((height, width, 3), 128, np.uint8),
        "black and white": half,
        "faint noise": rng.integers(127, 130, (height, width, 3)).astype(np.uint8),
    }


def compared(settings: Settings, model: str, size: tuple[int, int], picture: Picture) -> dict[str, Any]:
    """Variant -> PSNR and largest difference to float32."""
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0], picture)
    wanted = reference(model, settings.device, inputs)
    found: dict[str, Any] = {}
    cases = [("fp16", torch.float16, ""), ("fp32 with TF32", torch.float32, "")]
    cases += [(f"fp16, {name}", torch.float16, name) for name in NORMS]
    cases += [("fp32, two_moments", torch.float32, "two_moments"), ("bf16", torch.bfloat16, "")]
    for name, dtype, norm in cases:
        found[name] = difference(wanted, painted(settings, model, inputs, dtype, norm))
    return found


def painted(settings: Settings, model: str, inputs: Inputs, dtype: torch.dtype, norm: str) -> Picture:
    """(1, H, W, 3) in another type, with another formula of the norm."""
    exact = norm != "" and dtype is torch.float32  # what the formula alone does
    with switches(tf32=not exact, benchmark=False), norms(NORMS[norm]) if norm else nullcontext():
        graph = generator(model, settings.device, dtype, channels_last=dtype is not torch.float32)
        stylized = caller(graph, on_device(inputs, settings.device))()
    return np.asarray(stylized.cpu().numpy(), np.uint8)


def difference(wanted: Picture, found: Picture) -> dict[str, Any]:
    """PSNR in dB, the largest difference in levels, and the range of what was found."""
    apart = np.abs(wanted.astype(np.int16) - found.astype(np.int16))
    return {"psnr_db": round(psnr(wanted, found), 2), "largest": int(apart.max()),
            "range": [int(found.min()), int(found.max())]}  # fmt: skip
