"""Tests of losses against values by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mst_deploy.perceptual.artifacts import (
    ALIKE,
    AWAY,
    BLEED_RANGE,
    BLOCK,
    EDGE,
    FLAT,
    FRINGES,
    LEAST,
    LUMA,
    SEEN,
    TONES,
    WINDOW,
    edge_fringe_loss,
    fringes,
    low_frequency_bleed_loss,
)
from mst_deploy.training.losses import (
    DIRECTIONS,
    QUANTILES,
    content_loss,
    contrast_weights,
    palette,
    palette_distance,
    pixel_loss,
    temporal_loss,
    total_variation,
)


def test_total_variation_of_a_checkerboard_is_two() -> None:
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((x + y) % 2).float().expand(1, 3, 8, 8)
    assert total_variation(board).tolist() == [2.0]
    assert total_variation(torch.full((1, 3, 8, 8), 0.7)).tolist() == [0.0]


def test_losses_are_per_image() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] = 0.5
    assert content_loss(a, b).tolist() == [0.0, 0.25]
    assert pixel_loss(a, b).tolist() == [0.0, 0.25]


def test_equal_images_are_at_distance_zero() -> None:
    image = torch.rand(2, 3, 9, 9)
    for loss in (content_loss, pixel_loss):
        assert loss(image, image).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shift", [(0, 0), (2, 3), (-2, 1), (1, -3), (-1, -2)])
def test_temporal_loss_is_zero_for_windows_into_one_picture(shift: tuple[int, int]) -> None:
    wide = torch.rand(1, 3, 20, 20)
    down, right = shift
    first = wide[:, :, 4:16, 4:16]
    second = wide[:, :, 4 + down : 16 + down, 4 + right : 16 + right]
    assert temporal_loss(first, second, torch.tensor([shift])).tolist() == [0.0]


def test_temporal_loss_is_the_mean_square_where_the_windows_overlap() -> None:
    first = torch.zeros(2, 3, 4, 4)
    second = torch.zeros(2, 3, 4, 4)
    second[0] += 0.5
    second[1, :, 3] = 1.0  # window two lies one row lower, so window one never saw this row
    assert temporal_loss(first, second, torch.tensor([[0, 0], [1, 0]])).tolist() == [0.25, 0.0]


def test_temporal_loss_and_its_gradient_are_those_of_windows_cut_out_one_by_one() -> None:
    torch.manual_seed(0)
    first, second = (torch.rand(4, 3, 20, 26, requires_grad=True) for _ in range(2))
    shifts = torch.tensor([[0, 0], [3, -6], [-2, 5], [-6, -1]])
    expected = []
    for one, two, (down, right) in zip(first, second, shifts.tolist(), strict=True):
        here = one[:, max(down, 0) : 20 + min(down, 0), max(right, 0) : 26 + min(right, 0)]
        there = two[:, max(-down, 0) : 20 - max(down, 0), max(-right, 0) : 26 - max(right, 0)]
        expected.append((here - there).square().mean())
    found = temporal_loss(first, second, shifts)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=0)
    for one, other in zip(
        torch.autograd.grad(found.sum(), (first, second)),
        torch.autograd.grad(torch.stack(expected).sum(), (first, second)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def test_low_frequency_bleed_of_one_step_by_hand() -> None:
    """Two cells of 8 that differ by 0.5: one pair across, none down, and none of 16."""
    result = torch.zeros(1, 3, 8, 16)
    result[..., 8:] = 0.5
    plain = torch.full((1, 3, 8, 16), 0.4)
    assert low_frequency_bleed_loss(result, plain).tolist() == pytest.approx([0.25])
    spanning = plain.clone()
    spanning[0, 1, 3, 12] += BLEED_RANGE  # one channel of one pixel is enough to be less flat
    assert low_frequency_bleed_loss(result, spanning).tolist() == pytest.approx([0.25 / math.e], rel=1e-4)


def test_a_seam_along_an_edge_is_seen_and_strokes_and_edges_are_not() -> None:
    """A sky of 64 rows over ground of 32: what counts is a slow change within the sky."""
    content = torch.zeros(1, 3, 96, 96)
    content[:, :, :64] = 0.8
    seam = content.clone()
    seam[:, :, 32:64] += 0.1 * torch.linspace(0, 1, 32)[None, None, :, None]
    fine = content + 0.1 * (torch.arange(96) % 4 - 1.5).sign()[None, None, None]  # strokes 4 pixels wide
    other = 1 - 2 * content  # another palette: the edge stays where it was
    seen = low_frequency_bleed_loss(seam, content).item()
    assert seen > 1e-4
    for harmless in (content, fine, other):
        assert low_frequency_bleed_loss(harmless, content).item() < 1e-3 * seen
    assert low_frequency_bleed_loss(torch.zeros(2, 3, 7, 7), torch.zeros(2, 3, 7, 7)).tolist() == [0.0, 0.0]


FIGURE, WALL = 0.15, 0.6


def before_a_wall() -> torch.Tensor:
    """(1, 3, 96, 96): a dark figure in the left half."""
    content = torch.full((1, 3, 96, 96), WALL)
    content[..., :48] = FIGURE
    return content


def with_fringe(content: torch.Tensor, *color: float) -> torch.Tensor:
    """``color`` added on the wall as far as a fringe reaches: an edge pixel and all that a glow reaches."""
    fringed = content.clone()
    fringed[..., 48 : 48 + FRINGES[1] + 1] += torch.tensor(color)[:, None, None]
    return fringed


@pytest.mark.parametrize(
    ("color", "size"),
    [
        ((0.1, 0.1, 0.1), 0.1),
        ((0.0, 0.0, 0.1), 0.1 / 3**0.5),
        # A red that is taken away darkens; what is left of it, with the same luma everywhere, is a tint.
        ((-0.1, 0.0, 0.0), (((LUMA[0] - 1) ** 2 + 2 * LUMA[0] ** 2) / 300) ** 0.5),
        ((-0.1, -0.1, -0.1), 0.0),
        ((0.0, 0.0, 0.0), 0.0),
    ],
)
def test_a_fringe_has_the_size_of_what_is_lighter_or_of_another_color(
    color: tuple[float, float, float], size: float
) -> None:
    content = before_a_wall()
    for painted in (content, 1 - content):  # the edge's own colors do not matter
        sizes, weights = fringes(with_fringe(painted, *color), content)
        assert sizes[weights > 0].max().item() == pytest.approx(size, abs=2e-3)
    found = edge_fringe_loss(with_fringe(content, *color), content).item()
    assert (found > 0) == (size > SEEN)


def fringes_pixel_by_pixel(images: torch.Tensor, contents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``fringes`` with one map for every product of a mark and a channel."""
    span = (F.max_pool2d(contents, 3, 1, 1) + F.max_pool2d(-contents, 3, 1, 1)).amax(dim=1, keepdim=True)
    edge = (span > EDGE).float()
    near, middle, clear, far = (F.max_pool2d(edge, 2 * reach + 1, 1, reach) for reach in (*FRINGES, *AWAY))
    luma = (contents * torch.tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True) * (TONES - 1)
    tones = (1 - (luma - torch.arange(TONES)[:, None, None]).abs()).clamp(min=0)
    flat = (far - clear) * (span < FLAT) * tones
    marks = torch.cat([near * tones, middle * tones, flat, flat], dim=1)

    def windows(maps: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.avg_pool2d(maps, BLOCK), WINDOW, 1)

    shares = windows(marks)
    channels = torch.cat([images, contents], dim=1)
    sums = torch.stack([windows(marks * channels[:, c : c + 1]) for c in range(6)], dim=2)
    one, two = (sums / shares[:, :, None].clamp(min=LEAST)).chunk(2, dim=1)
    extra = (one - two)[:, :, :3] - (one - two)[:, :, 3:]
    darker = (extra * torch.tensor(LUMA)[:, None, None]).sum(dim=2, keepdim=True).clamp(max=0)
    sizes = ((extra - darker).square().mean(dim=2) + 1e-12).sqrt()
    share = torch.minimum(*shares.chunk(2, dim=1))
    alike = torch.exp(-((one - two)[:, :, 3:].abs().amax(dim=2) / ALIKE).square())
    return sizes, share * alike * (share > LEAST)


def test_fringes_of_blocks_are_those_of_every_pixel() -> None:
    torch.manual_seed(0)
    contents = F.interpolate(torch.rand(2, 3, 2, 3), (101, 157), mode="nearest")  # no multiple of a block
    images = (contents + 0.1 * torch.randn(2, 3, 101, 157)).requires_grad_()
    found, expected = fringes(images, contents), fringes_pixel_by_pixel(images, contents)
    assert found[1].count_nonzero() > 100
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-6)
    one, other = (
        torch.autograd.grad((weights * sizes.square()).sum(), images)[0]
        for sizes, weights in (found, expected)
    )
    assert (one - other).norm() < 1e-5 * other.norm()


def test_fringe_loss_is_the_mean_square_of_what_is_seen() -> None:
    content = before_a_wall()
    sizes, weights = fringes(with_fringe(content, 0.1, 0.1, 0.1), content)
    wall = weights * (sizes > 0.05)
    expected = wall.sum(dim=1).mean().item() * (0.1 - SEEN) ** 2
    found = edge_fringe_loss(with_fringe(content, 0.1, 0.1, 0.1), content).item()
    assert found == pytest.approx(expected, rel=0.01)
    # All columns with an edge pixel or near one, on both sides, once as a line and once as a glow, of 48.
    assert weights.sum(dim=1).max().item() <= sum(2 * (1 + reach) for reach in FRINGES) / 48


def test_strokes_shades_and_small_pictures_have_no_fringe() -> None:
    content = before_a_wall()
    strokes = content + 0.1 * (torch.arange(96) % 4 - 1.5).sign()[None, None, :, None]
    shade = content + 0.02 * torch.linspace(0, 1, 96)[None, None, None]
    for harmless in (strokes, shade):
        assert edge_fringe_loss(harmless, content).tolist() == [0.0]
    assert edge_fringe_loss(with_fringe(content, 0.1, 0.1, 0.1)[..., :31], content[..., :31]).tolist() == [
        0.0
    ]
    with_one = torch.cat([content, with_fringe(content, 0.1, 0.1, 0.1)])
    assert edge_fringe_loss(with_one, torch.cat([content, content])).gt(0).tolist() == [False, True]


def test_content_counts_less_where_the_photograph_is_flat() -> None:
    contents = torch.full((1, 3, 32, 64), 0.5)
    contents[..., 32:] += 0.2 * (torch.arange(32) % 2 * 2 - 1)  # deviation 0.2, far above CONTRAST
    weights = contrast_weights(contents, torch.tensor([0.15]), (4, 8))
    assert weights.shape == (1, 1, 4, 8)
    torch.testing.assert_close(weights[0, 0, 1, :2], torch.full((2,), 0.15))
    torch.testing.assert_close(weights[0, 0, 1, 6:], torch.ones(2))
    everywhere = contrast_weights(contents, torch.ones(1), (4, 8))
    torch.testing.assert_close(everywhere, torch.ones(1, 1, 4, 8))


def test_palette_distance_of_a_shift_by_hand() -> None:
    """Moving all colors by a vector moves the quantiles along a direction by their scalar product."""
    pictures = torch.rand(1, 3, 32, 32) * 0.5
    shift = torch.tensor([0.1, 0.2, -0.05])
    moved = pictures + shift[:, None, None]
    one, other = palette(pictures), palette(moved)
    assert one.shape == (1, DIRECTIONS, QUANTILES)
    steps = torch.arange(DIRECTIONS) + 0.5
    height, angle = steps / DIRECTIONS, steps * (math.pi * (3 - 5**0.5))
    radius = (1 - height.square()).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)
    torch.testing.assert_close((other - one).mean(dim=2)[0], directions @ shift)
    wanted = (directions @ shift).square().mean()
    torch.testing.assert_close(palette_distance(one, other)[0], wanted, rtol=1e-4, atol=1e-7)


def test_palette_does_not_ask_where_colors_are() -> None:
    pictures = torch.rand(1, 3, 32, 32)
    turned = pictures.flip(2).transpose(2, 3)
    assert palette_distance(palette(pictures), palette(turned)).item() < 1e-10
