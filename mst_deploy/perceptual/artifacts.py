"""Losses for artifacts of stylization: low-frequency bleed in flat areas, fringes along edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BLEED_CELLS = (8, 16)  # pixels: strokes are finer than these cells, halos and blobs are not
BLEED_RANGE = 0.06  # of pixels in 0..1: a cell pair with this range has a flatness of 1/e

EDGE = 0.15  # of pixels in 0..1: a 3x3 neighborhood with a larger range contains an edge
FLAT = 0.10  # a neighborhood with a smaller range is flat
FRINGES = (3, 8)  # pixels from an edge: reach of a line, and of a glow
AWAY = (12, 28)  # pixels from an edge: range of the reference area
TONES = 8  # gray levels that separate the two sides of an edge
BLOCK, WINDOW = 8, 6  # averages are taken over windows of 6x6 blocks of 8x8 pixels
LEAST = 0.01  # smallest share of a window that counts as a side of an edge
ALIKE = 0.10  # contents that differ this much near an edge and away from it have a weight of 1/e
SEEN = 6 / 255  # a fringe with a smaller difference is invisible among strokes
LUMA = (0.299, 0.587, 0.114)  # weights of ITU-R BT.601


def low_frequency_bleed_loss(images: Tensor, contents: Tensor, cells: Sequence[int] = BLEED_CELLS) -> Tensor:
    """Return the mean squared low-frequency bleed into flat areas: (N, 3, H, W) twice, in 0..1 -> (N,).

    Light seams along the edge of a dark sky, and clouds in a blue one, are low-frequency changes that the
    content does not have. Both pictures are averaged over square cells, which removes strokes; neighboring
    cells should be equal where the content's pixels hardly differ over both. 0 for pictures smaller than two
    cells.
    """
    losses = []
    for cell in (cell for cell in cells if cell <= min(images.shape[2:])):
        means = F.avg_pool2d(images.float(), cell)
        highest = F.max_pool2d(contents.float(), cell)
        lowest = -F.max_pool2d(-contents.float(), cell)
        for axis in (2, 3):
            count = means.shape[axis] - 1
            if count < 1:
                continue
            one, two = (
                [part.narrow(axis, start, count) for part in (means, highest, lowest)] for start in (0, 1)
            )
            span = (torch.maximum(one[1], two[1]) - torch.minimum(one[2], two[2])).amax(dim=1, keepdim=True)
            flat = torch.exp(-(span / BLEED_RANGE).square())
            losses.append((flat * (one[0] - two[0]).square()).mean(dim=(1, 2, 3)))
    return torch.stack(losses).mean(dim=0) if losses else images.new_zeros(len(images))


def edge_fringe_loss(images: Tensor, contents: Tensor) -> Tensor:
    """Return the mean squared fringe of the picture's edges: (N, 3, H, W) twice, in 0..1 -> (N,).

    A fringe is a light or colored line along an edge, as around a dark head before a plain wall. A dark line
    is not counted: it is an outline, which is part of the style of prints and drawings. See ``fringes``;
    fringes that are invisible among strokes (``SEEN``) cost nothing. 0 for pictures smaller than a window.
    """
    sizes, weights = fringes(images, contents)
    return (weights * (sizes - SEEN).clamp(min=0).square()).sum(dim=1).mean(dim=(1, 2))


def fringes(images: Tensor, contents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sizes of the fringes in 0..1, and their weights: (N, 3, H, W) twice -> (N, K, h, w) twice.

    In each window, and for each of FRINGES and each gray level of the content (K in all), the mean of the
    pixels within that reach of an edge is compared with the mean of flat ones AWAY from it. Strokes average
    out. Where the content is equal in both places the picture should be, too; the size of a fringe is its
    excess in lightness or color near the edge (root mean square of the channels). The weight is the share of
    the window that the smaller of both covers.
    """
    side = BLOCK * WINDOW
    if min(images.shape[2:]) < side:
        none = images.new_zeros(len(images), len(FRINGES) * TONES, 1, 1)
        return none, none
    near, away, shares = _means(images.float(), contents.float())
    difference = near - away.repeat(1, len(FRINGES), 1, 1, 1)  # (N, K, 6, h, w)
    own, of_content = difference.chunk(2, dim=2)
    extra = own - of_content
    red, green, blue = extra.unbind(dim=2)
    luma = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])[:, :, None]
    light = extra - luma.clamp(max=0)
    sizes = (light.square().mean(dim=2) + 1e-12).sqrt()
    alike = torch.exp(-(of_content.abs().amax(dim=2) / ALIKE).square())
    near_share, away_share = shares[:, : -away.shape[1]], shares[:, -away.shape[1] :]
    share = torch.minimum(near_share, away_share.repeat(1, len(FRINGES), 1, 1))
    return sizes, share * alike * (share > LEAST)


def _means(images: Tensor, contents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean colors of the pixels near edges and away from them, and their shares of the windows.

    (N, 3, H, W) twice -> (N, K, 6, h, w), (N, TONES, 6, h, w) and (N, K + TONES, h, w); the six channels are
    those of the images and of the contents, K runs over reach and gray level. A pixel between two levels
    belongs to both, with weights that sum to 1.

    The sums over blocks are matrix products: products of every mark and every channel, pixel by pixel, would
    take a hundred values per pixel.
    """
    blocks = _blocks(_marks(contents))
    marks, luma = blocks[:, :, :, :-1], blocks[:, :, :, -1:]
    levels = torch.arange(TONES, device=contents.device, dtype=contents.dtype)[:, None]
    tones = (1 - (luma - levels).abs()).clamp(min=0)  # (N, h, w, TONES, BLOCK^2)
    weights = (marks[:, :, :, :, None] * tones[:, :, :, None]).flatten(3, 4)
    pixels = _blocks(torch.cat([images, contents, torch.ones_like(contents[:, :1])], dim=1))
    sums = weights @ pixels.transpose(3, 4)  # (N, h, w, K + TONES, 7)
    count = weights.shape[3]
    averages = _windows(sums.flatten(3).permute(0, 3, 1, 2) / BLOCK**2)
    averages = averages.view(len(images), count, pixels.shape[3], *averages.shape[2:])
    shares = averages[:, :, -1]
    means = averages[:, :, :-1] / shares[:, :, None].clamp(min=LEAST)
    return means[:, :-TONES], means[:, -TONES:], shares


def _marks(contents: Tensor) -> Tensor:
    """Return one mask per reach of pixels near edges, that of flat ones away from them, and gray levels.

    (N, 3, H, W) -> (N, len(FRINGES) + 2, H, W).
    """
    contents = contents.contiguous()  # pooling one channel of a channels-last map is slow on a GPU
    span = (F.max_pool2d(contents, 3, 1, 1) + F.max_pool2d(-contents, 3, 1, 1)).amax(dim=1)
    marked, reached, within = (span > EDGE).to(contents.dtype), 0, []
    for reach in (*FRINGES, *AWAY):  # in ascending order, each from the one before
        marked, reached = _within(marked, reach - reached), reach
        within.append(marked)
    away = (within[-1] - within[-2]) * (span < FLAT)
    red, green, blue = contents.unbind(dim=1)
    luma = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]) * (TONES - 1)
    return torch.stack([*within[: len(FRINGES)], away, luma], dim=1)


def _within(marks: Tensor, reach: int) -> Tensor:
    """Return 1 where a mark lies in the square of ``reach`` pixels each way, else 0; (N, H, W).

    The N planes are pooled as channels of one image, whatever the memory format.
    """
    rows = F.max_pool2d(marks, (2 * reach + 1, 1), 1, (reach, 0))
    return F.max_pool2d(rows, (1, 2 * reach + 1), 1, (0, reach))


def _blocks(maps: Tensor) -> Tensor:
    """Split maps into blocks, without an incomplete rest: (N, C, H, W) -> (N, h, w, C, BLOCK^2)."""
    height, width = (side // BLOCK for side in maps.shape[2:])
    whole = maps[:, :, : height * BLOCK, : width * BLOCK]
    split = whole.view(*maps.shape[:2], height, BLOCK, width, BLOCK)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(4)


def _windows(blocks: Tensor) -> Tensor:
    """Return averages over overlapping windows, one block apart: (N, C, H, W) of blocks -> (N, C, h, w)."""
    return F.avg_pool2d(blocks, WINDOW, 1)
