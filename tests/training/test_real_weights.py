"""Tests with real pretrained weights, if they are available beside the checkout; skipped otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mst_deploy.images import load_image, resize_short_side
from mst_deploy.model.checkpoints import load_inception
from mst_deploy.model.networks import NetworkConfig, StyleEncoder
from mst_deploy.perceptual.vgg import IMAGENET_MEAN, IMAGENET_STD, load_vgg
from tests.conftest import ROOT

WEIGHTS = ROOT.parent / "shared" / "weights"
VGG = WEIGHTS / "vgg19_to_conv4_1_torchvision_input.safetensors"
SCALES = WEIGHTS / "vgg19_normalisation_scales.safetensors"
INCEPTION = WEIGHTS / "inception_v3_to_mixed_7a_bn_folded_fp16.safetensors"

pytestmark = pytest.mark.skipif(not VGG.exists(), reason="no pretrained weights beside the checkout")


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    picture = resize_short_side(load_image(ROOT / "examples" / "paintings" / "impression-sunrise.jpg"), 128)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def test_plain_vgg_equals_a_second_implementation(image: torch.Tensor) -> None:
    weights = load_file(VGG)
    x = (image - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    expected = []
    for index in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, 16, "pool", 19):
        if index == "pool":
            x = F.max_pool2d(x, 2)
            continue
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"]).relu()
        if index in (0, 5, 10, 19):
            expected.append(x)
    with torch.no_grad():
        found = load_vgg(VGG)(image)
    for tap, features in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(tap, features, rtol=1e-4, atol=1e-4)


def test_normalized_vgg_has_activations_of_about_one(image: torch.Tensor) -> None:
    """What the normalization is for (Gatys et al. 2016, section 2)."""
    with torch.no_grad():
        plain, normalized = load_vgg(VGG)(image), load_vgg(VGG, SCALES)(image)
    assert plain["relu4_1"].mean() > 10 or plain["relu3_1"].mean() > 10
    for features in normalized.values():
        assert 0.2 < features.mean() < 3


def test_torchvision_form_gives_the_same_network(image: torch.Tensor, tmp_path: Path) -> None:
    torch.save(load_file(VGG), tmp_path / "vgg19.pth")
    with torch.no_grad():
        first, second = load_vgg(VGG)(image), load_vgg(tmp_path / "vgg19.pth")(image)
    for name, features in first.items():
        torch.testing.assert_close(features, second[name], rtol=0, atol=0)


def test_inception_separates_pictures() -> None:
    """A painting is nearer to its own mirror image than to any other painting."""
    encoder = StyleEncoder(NetworkConfig()).eval()
    load_inception(encoder, INCEPTION)
    names = ("calavera", "starry-night", "great-wave")
    pictures = [load_image(ROOT / "examples" / "paintings" / f"{name}.jpg") for name in names]
    pictures = [resize_short_side(picture, 200)[:200, :200] for picture in pictures]
    batch = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pictures])
    with torch.no_grad():
        own, mirrored = encoder.pooled(batch), encoder.pooled(batch.flip(3))
    distances = torch.cdist(own, mirrored)
    assert distances.argmin(dim=1).tolist() == [0, 1, 2]
