"""Half precision against float32 in PyTorch: pictures with difficult statistics, both models, other norms."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mst_deploy.images import load_image
from mst_deploy.model.zoo import shipped_photographs
from tools.gpu_report.inputs import films_of, make_inputs, opened, photo_like
from tools.gpu_report.networks import (
    NORMS,
    caller,
    difference,
    exact,
    generator,
    names_of,
    norms,
    on_device,
    switches,
)
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record

Picture = NDArray[np.uint8]
LARGE = 1920 * 1080  # pixels of the frames, at most, unless only larger ones were asked for


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Record for each picture and model the differences of all variants to float32 without TF32."""
    sizes = [size for size in settings.sizes if size[0] * size[1] <= LARGE] or list(settings.sizes)
    made = pictures(sizes[0])
    for name in made:
        for model in settings.models:
            what = {"model": model, "size": sizes[0], "picture": name}
            record.row(
                what, partial(compared, settings, model, sizes[0], made[name]), needs=settings.seconds(2.0)
            )


def pictures(size: tuple[int, int]) -> dict[str, Picture]:
    """Return the test pictures by name, (H, W, 3) uint8 each."""
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
    """Return PSNR and largest difference to float32 by variant."""
    inputs = make_inputs(names_of(model), size, films_of(opened(model))[0], picture)
    wanted = exact(model, settings.device, inputs)
    tensors = on_device(inputs, settings.device)
    found: dict[str, Any] = {}
    cases = [("fp16", torch.float16, ""), ("fp32 with TF32", torch.float32, "")]
    cases += [(f"fp16, {name}", torch.float16, name) for name in NORMS]
    cases += [("fp32, two_moments", torch.float32, "two_moments"), ("bf16", torch.bfloat16, "")]
    for name, dtype, norm in cases:
        found[name] = difference(wanted, painted(settings, model, tensors, dtype, norm))
    return found


def painted(
    settings: Settings, model: str, tensors: dict[str, torch.Tensor], dtype: torch.dtype, norm: str
) -> torch.Tensor:
    """Return the result (1, H, W, 3) in another type, with another formula of the norm."""
    alone = norm != "" and dtype is torch.float32  # what the formula does, and nothing else
    with switches(tf32=not alone, benchmark=False), norms(NORMS[norm]) if norm else nullcontext():
        return caller(_kept(model, settings.device, dtype), tensors)()


@lru_cache(maxsize=8)
def _kept(model: str, device: str, dtype: torch.dtype) -> torch.nn.Module:
    return generator(model, device, dtype, channels_last=dtype is not torch.float32)
