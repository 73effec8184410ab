"""Tests of the shipped models on extreme pictures, and at full HD."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mst_deploy.backends import open_generator
from mst_deploy.backends.parity import psnr
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.canvas_bands import white
from mst_deploy.model.checkpoints import Networks, load_bundle
from mst_deploy.model.zoo import MODELS, bundle_path, load_shipped_styles
from mst_deploy.perceptual.distances import as_tensor

Image = NDArray[np.uint8]
LARGEST_HALF = float(torch.finfo(torch.float16).max)
SIDE = 256
FULL_HD = "1920x1080"
FLAT_COLOR = 24  # gray levels between the mean colors that two runtimes give a flat picture


def flag() -> Image:
    """Three flat fields with hard edges, saturated to the ends of the scale."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for index, color in enumerate([(255, 0, 0), (255, 255, 255), (0, 0, 255)]):
        picture[:, index * SIDE // 3 : (index + 1) * SIDE // 3 + 1] = color
    return picture


EXTREMES: dict[str, Image] = {
    "black": np.zeros((SIDE, SIDE, 3), np.uint8),
    "white": np.full((SIDE, SIDE, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8),
    "flag": flag(),
}


def canvas() -> torch.Tensor:
    """That of a still, which a generator takes if it is given none."""
    return white(torch.from_numpy(still_canvas(SIDE, SIDE))[None], torch.float32)


@pytest.fixture(scope="module", params=MODELS)
def shipped(request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(bundle_path(request.param))


@pytest.fixture(scope="module")
def networks(shipped: Bundle) -> Networks:
    return load_bundle(shipped)


@pytest.fixture
def peaks(networks: Networks) -> Iterator[list[float]]:
    """Largest magnitude that each module of the generator gives; NaN stays NaN."""
    found: list[float] = []
    hooks = [
        module.register_forward_hook(lambda _module, _given, out: found.append(float(out.abs().max())))
        for module in networks.generator.modules()
        if isinstance(module, nn.Conv2d)
    ]
    yield found
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_pictures_stay_within_half_precision(
    shipped: Bundle, networks: Networks, peaks: list[float], name: str
) -> None:
    """What a convolution gives is the largest thing that is ever held in float16."""
    for style in load_shipped_styles(shipped.manifest.name):
        film = torch.from_numpy(style.film)[None]
        with torch.inference_mode():
            result = networks.generator(as_tensor(EXTREMES[name]), film, canvas())
        assert torch.isfinite(result).all(), style.name
    assert peaks
    assert max(peaks) < LARGEST_HALF / 8


def painted_twice(shipped: Bundle, networks: Networks, picture: Image) -> tuple[Image, Image]:
    """By the shipped FP16 bundle in ONNX Runtime, and by PyTorch in float32."""
    film = load_shipped_styles(shipped.manifest.name)[0].film[None]
    with open_generator(shipped, "onnxrt", "cpu") as generator, torch.inference_mode():
        found = generator(picture[None], film)[0]
        wanted = networks.generator(as_tensor(picture), torch.from_numpy(film), canvas()).clamp(0, 1)
    return found, (wanted[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("name", ["noise", "flag"])
def test_extreme_pictures_are_painted_as_pytorch_paints_them(
    shipped: Bundle, networks: Networks, name: str
) -> None:
    found, wanted = painted_twice(shipped, networks, EXTREMES[name])
    assert psnr(found, wanted) >= 40


@pytest.mark.parametrize("name", ["black", "white"])
def test_flat_pictures_get_the_same_color_everywhere(shipped: Bundle, networks: Networks, name: str) -> None:
    """In a flat map there is nothing to normalize but rounding, so its texture is each runtime's own."""
    found, wanted = painted_twice(shipped, networks, EXTREMES[name])
    difference = found.mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))
    assert np.abs(difference).max() <= FLAT_COLOR


def test_full_hd_was_checked_at_export(shipped: Bundle) -> None:
    """The FP16 graph against FP32 PyTorch with the unrounded weights, as measured when it was made."""
    (record,) = (check for check in shipped.manifest.checks if check.get("size") == FULL_HD)
    assert record["psnr_db"] >= 40
