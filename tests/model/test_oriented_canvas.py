"""Tests of the directions of strokes and of the canvas that is smoothed along them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.model.canvas_bands import DILATIONS, SHORT_REACH, STEPS, CanvasBands, OrientedNoise
from mst_deploy.model.networks import Generator, NetworkConfig
from mst_deploy.model.stroke_directions import CELL, StrokeDirections
from tests.flops import multiply_adds_per_pixel

ANGLES = [math.pi * step / 12 for step in range(12)]
TOY = NetworkConfig(widths=(4, 6, 8), residual_blocks=1, canvas_bands=2, oriented_canvas=True)


def stripes(angle: float, side: int = 192, period: float = 16.0) -> Tensor:
    """Return a grating (1, 3, side, side) whose lines run along the angle."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    across = y * math.cos(angle) - x * math.sin(angle)
    return (0.5 + 0.3 * torch.sin(2 * math.pi * across / period)).float().expand(1, 3, -1, -1)


def doubled(angle: float) -> NDArray[np.float64]:
    return np.array([math.cos(2 * angle), math.sin(2 * angle)])


def white_noise(side: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("angle", ANGLES)
def test_directions_of_a_grating(angle: float) -> None:
    found = StrokeDirections("reflect")(stripes(angle))[0]
    assert found.shape == (2, 96, 96)
    middle = found[:, 40:56, 40:56].mean(dim=(1, 2)).numpy()
    assert middle == pytest.approx(doubled(angle), abs=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_a_flat_area_takes_the_direction_of_the_edges_around(angle: float) -> None:
    """Lines that begin 60 pixels beside the place, with grain of half a level in between."""
    image = stripes(angle).clone()
    image[..., :132] = 0.5
    image += 0.5 / 255 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    found = StrokeDirections("reflect")(image)[0, :, 30:66, 30:40].mean(dim=(1, 2)).numpy()
    found /= np.linalg.norm(found)
    assert found @ doubled(angle) > 0.9


def test_a_picture_of_one_color_has_no_direction() -> None:
    found = StrokeDirections("reflect")(torch.full((1, 3, 64, 64), 0.7))
    assert found.abs().max() < 1e-3


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (17, 8)])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "constant"])
def test_directions_of_small_frames(size: tuple[int, int], padding: str) -> None:
    found = StrokeDirections(padding)(torch.rand(2, 3, *size))
    assert found.shape == (2, 2, -(-size[0] // 2), -(-size[1] // 2))
    assert found.square().sum(dim=1).max() <= 1


def test_interpolated_directions_lie_at_the_centers_of_their_cells() -> None:
    """The direction turns where the picture's does, neither a cell earlier nor later."""
    image = torch.cat([stripes(0.0)[..., :96], stripes(math.pi / 2)[..., 96:]], dim=3)
    turned = StrokeDirections("reflect")(image)[0, 0].mean(dim=0)
    crossing = (turned > 0).sum().item()
    assert abs(crossing - 48) <= CELL


@pytest.mark.parametrize("line", range(len(STEPS)))
def test_lines_by_hand(line: int) -> None:
    """The last line filter as a sum over its taps, in float64 with NumPy."""
    oriented = OrientedNoise().double()
    right, down = STEPS[line]
    outer = 3.0 / (2 * (right**2 + down**2))
    offsets = {(0, 0): 1.0}
    for dilation in DILATIONS:
        wider: dict[tuple[int, int], float] = {}
        for (x, y), weight in offsets.items():
            for sign, share in ((-1, outer), (0, 1 - 2 * outer), (1, outer)):
                place = (x + sign * dilation * right, y + sign * dilation * down)
                wider[place] = wider.get(place, 0.0) + share * weight
        offsets = wider
    noise = white_noise(96).double()
    short = torch.nn.functional.conv2d(noise, oriented.short, padding=SHORT_REACH)[0, line].numpy()
    rolled = [weight * np.roll(short, (y, x), (0, 1)) for (x, y), weight in offsets.items()]
    wanted = np.sum(rolled, axis=0)
    found = oriented.lines(noise)[0, line].numpy()
    np.testing.assert_allclose(found[30:-30, 30:-30], wanted[30:-30, 30:-30], atol=1e-9)


@pytest.mark.parametrize("angle", [*ANGLES[::2], None])
def test_oriented_noise_keeps_its_variance_and_is_long_along_the_direction(angle: float | None) -> None:
    directions = torch.zeros(1, 2, 384, 384)
    if angle is not None:
        directions += torch.tensor(doubled(angle), dtype=torch.float32)[None, :, None, None]
    found = OrientedNoise().float()(white_noise(384), directions)[0, 0].numpy()
    assert found.var() == pytest.approx(1.0, abs=0.12)
    spectrum = np.abs(np.fft.fft2(found)) ** 2
    frequency = np.fft.fftfreq(384)
    y, x = np.meshgrid(frequency, frequency, indexing="ij")
    power = np.array([[(spectrum * a * b).sum() for a in (x, y)] for b in (x, y)]) / spectrum.sum()
    values, vectors = np.linalg.eigh(power)  # the direction of least frequency is that of the strokes
    if angle is None:
        assert values[1] < 1.2 * values[0]
    else:
        assert values[1] > 4 * values[0]
        along = math.atan2(vectors[1, 0], vectors[0, 0])
        assert doubled(along) @ doubled(angle) > 0.97


def test_oriented_bands_have_unit_variance_over_all_directions() -> None:
    bands, noise, variances = CanvasBands(3, oriented=True), white_noise(512), []
    for right, down in STEPS:
        vector = torch.tensor(doubled(math.atan2(down, right)), dtype=torch.float32)
        variances.append(bands(noise, vector[None, :, None, None].expand(1, 2, 256, 256)).var(dim=(0, 2, 3)))
    assert torch.stack(variances).mean(dim=0).numpy() == pytest.approx(np.ones(3), abs=0.06)


def test_strokes_of_a_generator_follow_the_frame() -> None:
    """The same noise makes other strokes on other lines."""
    torch.manual_seed(0)
    generator = Generator(TOY).eval()
    film = torch.from_numpy(TOY.film_layout.identity())[None]
    film[:, -2:] = 1
    with torch.no_grad():
        across, along = (
            generator._strokes(stripes(angle, 64), white_noise(64), film) for angle in (0.0, math.pi / 2)
        )
        plain = Generator(replace(TOY, oriented_canvas=False)).eval()
        plain.load_state_dict(generator.state_dict())
        same = [plain._strokes(stripes(angle, 64), white_noise(64), film) for angle in (0.0, math.pi / 2)]
    assert across is not None
    assert along is not None
    assert (across - along).abs().mean() > 0.2 * across.abs().mean()
    torch.testing.assert_close(same[0], same[1])


def test_config_keeps_the_identity_of_models_without_directions() -> None:
    plain = replace(TOY, oriented_canvas=False)
    assert "oriented_canvas" not in plain.to_dict()
    assert NetworkConfig.from_dict(plain.to_dict()) == plain
    assert NetworkConfig.from_dict(TOY.to_dict()) == TOY


@pytest.mark.parametrize(("widths", "blocks"), [((32, 64, 128), 5), ((16, 32, 64), 4)])
def test_the_canvas_costs_at_most_three_percent(widths: tuple[int, int, int], blocks: int) -> None:
    plain = NetworkConfig(widths=widths, residual_blocks=blocks)
    ratio = multiply_adds_per_pixel(
        replace(plain, canvas_bands=5, oriented_canvas=True)
    ) / multiply_adds_per_pixel(plain)
    assert 1 < ratio < 1.03
