"""Tests of the painted share on pictures with known answers, and of Inception's covariances against a
second way."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mst_deploy.benchmarks.quality.metrics import covariance
from mst_deploy.benchmarks.quality.nets import fid_trunk, stage_covariances
from mst_deploy.benchmarks.quality.painted import (
    DETAIL_SIGMA,
    detail,
    flat_pixels,
    is_flat,
    own_painted_share,
    painted_from,
    painted_share,
    shown,
)
from mst_deploy.images import Image, center_crop, load_image
from mst_deploy.perceptual.distances import as_tensor, style_distance
from tests.conftest import ROOT
from tests.pictures import picture
from tests.training.test_real_weights import INCEPTION

GRAY = np.full((96, 128, 3), 120, np.uint8)


def waves(amplitude: float, height: int = 512, width: int = 512, period: float = 8) -> Image:
    """Gray with a sinusoid across, in levels of 255."""
    across = 128 + amplitude * np.sin(2 * math.pi * np.arange(width) / period)
    row = np.repeat(across.round().astype(np.uint8)[None, :, None], 3, axis=2)
    return np.repeat(row, height, axis=0)


def definition(photo: Image, result: Image, artwork: Image) -> float:
    """The figure as its definition has it, written down a second time with other functions."""

    def light(image: Image, size: tuple[int, int] | None = None) -> Any:
        if size is not None:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 0].astype(np.float64)

    def energy(x: Any) -> Any:
        def smooth(values: Any) -> Any:
            taps = cv2.getGaussianKernel(49, 6.0)  # 4 sigma each way, as OpenCV has it for floats
            return cv2.sepFilter2D(values, cv2.CV_64F, taps, taps)

        return np.sqrt(smooth((x - smooth(x)) ** 2))

    x = light(photo)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, 7, mode="reflect"), (15, 15))
    flat = windows.std(axis=(2, 3)) < 0.02 * 255
    scale = 512 / max(artwork.shape[:2])
    size = (round(artwork.shape[1] * scale), round(artwork.shape[0] * scale))
    limit = 0.5 * np.percentile(energy(light(artwork, size)), 30)
    return float((energy(light(result))[flat] >= limit).mean())


def test_nothing_is_painted_on_a_flat_result_and_everything_on_the_artwork_itself() -> None:
    artwork = waves(40)
    assert painted_share(GRAY, GRAY, artwork) == 0
    assert painted_share(np.full((512, 512, 3), 90, np.uint8), artwork, artwork) == 1


def test_half_a_sky_painted_is_half_a_share() -> None:
    photo = np.full((256, 512, 3), 120, np.uint8)
    result = photo.copy()
    result[:, 256:] = waves(40, 256, 256)
    assert painted_share(photo, result, waves(40)) == pytest.approx(0.5, abs=0.02)


def test_photographs_without_flat_areas_have_no_share() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 1)).astype(np.uint8).repeat(3, axis=2)
    assert math.isnan(painted_share(noise, GRAY, waves(40)))


def test_textured_areas_do_not_count() -> None:
    """Half of the photograph is noise, where the result is flat: only the other half is measured."""
    photo = np.full((128, 256, 3), 120, np.uint8)
    photo[:, 128:] = np.random.default_rng(0).integers(0, 255, (128, 128, 1))
    result = np.full((128, 256, 3), 120, np.uint8)
    result[:, :140] = waves(60, 128, 140)
    assert painted_share(photo, result, waves(60)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("period", [8, 24, 48])
def test_detail_of_a_sinusoid_is_what_the_gaussian_leaves_of_it(period: float) -> None:
    """Amplitude / sqrt 2, times 1 - exp(-2 pi^2 sigma^2 / period^2): the Fourier transform of a Gaussian."""
    x = 20 * np.sin(2 * np.pi * np.arange(768) / period).astype(np.float32)
    left = 1 - math.exp(-2 * math.pi**2 * DETAIL_SIGMA**2 / period**2)
    found = detail(np.repeat(x[None], 128, axis=0))[:, 128:-128]
    assert math.sqrt(float(np.square(found).mean())) == pytest.approx(20 * left / math.sqrt(2), rel=0.01)


def test_more_than_half_of_the_artworks_strength_is_painted_and_less_is_not() -> None:
    photo = np.full((512, 512, 3), 128, np.uint8)
    assert painted_share(photo, waves(20), waves(60)) == 0
    assert painted_share(photo, waves(36), waves(60)) == 1


def test_share_agrees_with_its_definition() -> None:
    photo = picture(160, 120, 3)
    photo[:60] = (photo[:60] // 64) + 100
    artwork = load_image(ROOT / "examples" / "paintings" / "starry-night.jpg")
    result = photo.copy()
    result[:, 80:] = center_crop(artwork, 160)[:120, :80]
    found = painted_share(photo, result, artwork)
    assert 0.1 < found < 0.9
    assert found == pytest.approx(definition(photo, result, artwork), abs=2e-3)


def test_photograph_of_another_size_is_resampled_to_the_result() -> None:
    photo, artwork = np.full((256, 320, 3), 120, np.uint8), waves(40)
    assert painted_share(photo, waves(40, 128, 160), artwork) == 1
    assert painted_share(photo, photo[:128, :160], artwork) == 0


def test_a_poster_is_a_flat_artwork_and_a_painting_is_not() -> None:
    poster = np.full((300, 400, 3), 230, np.uint8)
    cv2.rectangle(poster, (40, 40), (160, 260), (20, 20, 160), -1)
    painting = load_image(ROOT / "examples" / "paintings" / "starry-night.jpg")
    assert is_flat(poster)
    assert not is_flat(painting)
    assert max(shown(painting).shape[:2]) == 512
    assert flat_pixels(shown(painting)).mean() < 0.15
    assert own_painted_share(waves(60)) == 1  # nothing flat in it
    assert painted_from(waves(60)) == pytest.approx(0.5 * 60 / math.sqrt(2), rel=0.05)


def test_covariance_is_that_of_numpy_and_blind_to_means() -> None:
    features = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    found = covariance(features)
    for image, own in zip(features, found, strict=True):
        np.testing.assert_allclose(own, np.cov(image.flatten(1).numpy(), bias=True), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(covariance(features + 3), found, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not INCEPTION.exists(), reason="the real Inception is not here")
@torch.inference_mode()
def test_inception_separates_a_painting_from_photographs_and_other_paintings() -> None:
    """0 for itself; another part of the painting is nearer than another painter's and than a flat picture."""
    trunk = fid_trunk(INCEPTION)
    paintings = ROOT / "examples" / "paintings"
    artwork = load_image(paintings / "starry-night.jpg")
    parts = {
        "left": artwork[:200, :200],
        "right": artwork[:200, -200:],
        "other": center_crop(load_image(paintings / "impression-sunrise.jpg"), 200),
        "flat": np.full((200, 200, 3), 120, np.uint8),
    }
    seen = {name: stage_covariances(trunk, as_tensor(image)) for name, image in parts.items()}
    assert [matrix.shape[1] for matrix in seen["left"].values()] == [64, 192, 288]
    distance = {name: float(style_distance(found, seen["left"])) for name, found in seen.items()}
    assert distance["left"] == 0
    assert distance["right"] < distance["other"] < 1.5
    assert distance["right"] < distance["flat"]
    stages = fid_trunk(INCEPTION).stages(as_tensor(parts["right"]) * 2 - 1)
    by_hand = []
    for wanted, features in zip(seen["left"].values(), stages, strict=False):
        own = np.cov(features[0].flatten(1).numpy(), bias=True)
        target = wanted[0].numpy()
        by_hand.append(((own - target) ** 2).sum() / (target**2).sum())
    assert distance["right"] == pytest.approx(np.mean(by_hand), rel=1e-3)
