"""VGG-19 against goldens that NumPy made (see tools/goldens), and its normalization."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mst_deploy.errors import InputError
from mst_deploy.perceptual.vgg import STYLE_TAPS, Vgg19, calibrate, load_vgg, normalize
from tests.conftest import ROOT
from tools.goldens.make_vgg_golden import picture, random_weights

GOLDENS = ROOT / "tests" / "goldens"
REAL = ROOT.parent / "shared" / "weights" / "vgg19_to_conv4_1_torchvision_input.safetensors"
SCALES = REAL.with_name("vgg19_normalisation_scales.safetensors")
DISTILLED = REAL.with_name("vgg19_distilled16x_to_relu5_1.safetensors")


def check_features(found: dict[str, torch.Tensor], golden: dict[str, Any]) -> None:
    """float32 sums against float64 ones: relative 1e-4 of the size of the map."""
    assert set(found) == set(golden)
    for name, wanted in golden.items():
        values = found[name][0].numpy()
        flat = values.ravel()
        assert list(values.shape) == wanted["shape"]
        assert np.linalg.norm(flat) == pytest.approx(wanted["norm"], rel=1e-4)
        scale = wanted["norm"] / flat.size**0.5
        some = flat[:: max(1, flat.size // 12)]
        np.testing.assert_allclose(some, wanted["some"], rtol=1e-4, atol=1e-4 * scale)


@torch.no_grad()
def test_whole_network_equals_the_golden(tmp_path: Path) -> None:
    weights = {name: torch.from_numpy(value) for name, value in random_weights().items()}
    save_file(weights, tmp_path / "vgg.safetensors")
    vgg = load_vgg(tmp_path / "vgg.safetensors")
    assert vgg.describe() == "content relu4_2, style relu1_1, relu2_1, relu3_1, relu4_1, relu5_1"
    image = torch.from_numpy(picture(64)).float()[None]
    check_features(vgg(image), json.loads((GOLDENS / "vgg_random.json").read_text()))


@pytest.mark.skipif(not REAL.exists(), reason="no pretrained weights beside the checkout")
@torch.no_grad()
def test_real_weights_equal_the_golden() -> None:
    vgg = load_vgg(REAL)
    assert vgg.describe() == "content relu4_1, style relu1_1, relu2_1, relu3_1, relu4_1"
    image = torch.from_numpy(picture(64)).float()[None]
    check_features(vgg(image), json.loads((GOLDENS / "vgg_real.json").read_text()))


@pytest.mark.skipif(not DISTILLED.exists(), reason="no pretrained weights beside the checkout")
@torch.no_grad()
def test_distilled_network_adds_relu5_1_and_says_so() -> None:
    vgg = load_vgg(REAL, REAL.with_name("vgg19_normalisation_scales.safetensors"), DISTILLED)
    assert "relu5_1 approximated" in vgg.describe()
    assert vgg.style_layers == STYLE_TAPS
    taps = vgg(torch.rand(1, 3, 64, 64))
    assert taps["relu5_1"].shape == (1, 512, 4, 4)
    assert 0.1 < taps["relu5_1"].mean() < 3  # the normalized network's scale


@torch.no_grad()
def test_normalized_vgg_scales_each_channel() -> None:
    torch.manual_seed(0)
    plain, scaled = Vgg19(whole=True), Vgg19(whole=True)
    scaled.load_state_dict(plain.state_dict())
    scales = {name: torch.rand(plain.conv(name).out_channels) + 0.5 for name in plain.convs}
    normalize(scaled, scales)
    image = torch.rand(1, 3, 48, 48)
    before, after = plain(image), scaled(image)
    for tap, features in before.items():
        factor = scales[tap.replace("relu", "conv")][None, :, None, None]
        torch.testing.assert_close(after[tap], features * factor, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_calibrated_vgg_has_activations_of_one() -> None:
    vgg = Vgg19(whole=True)
    vgg.load_state_dict({name: torch.from_numpy(value) for name, value in random_weights().items()})
    images = [torch.rand(1, 3, 48, 48) for _ in range(3)]
    calibrate(vgg, images)
    means = torch.stack([torch.cat([t.mean(dim=(0, 2, 3)) for t in vgg(i).values()]) for i in images])
    means = means.mean(dim=0)
    assert ((means - 1).abs() < 1e-3).float().mean() > 0.5  # random weights leave many silent
    assert means.max() < 1.001


def test_file_without_vgg_is_refused(tmp_path: Path) -> None:
    save_file({"something": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"lacks features\.0\.bias"):
        load_vgg(tmp_path / "other.safetensors")
