"""White noise split into bands of one octave: the source of the generator's strokes where a frame is flat.

The bands are the undecimated B3-spline wavelet ("starlet", Starck & Murtagh 2006, Astronomical Image and Data
Analysis, section 2.2) of the noise at half resolution. Before, the noise may be smoothed along given
directions, so that strokes become long: line integral convolution (Cabral and Leedom 1993,
doi:10.1145/166117.166151), here as a mixture of straight lines. All are fixed convolutions inside the
exported graph, so every runtime filters identically, and the only input is white noise, which can be moved by
whole pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.stroke_directions import SPLINE

WHITE_MEAN, WHITE_DEVIATION = 127.5, ((256**2 - 1) / 12) ** 0.5
"""Mean and standard deviation of uniform integers 0..255."""
STEPS = ((2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (-1, 2), (-2, 2), (-2, 1))
"""Directions of the line filters as steps (right, down) in whole pixels of half resolution."""
DILATIONS = (1, 2, 4)
"""Multiples of a step that are added to a line one after the other."""
SPREAD = 3.0  # pixels squared: variance of a line at dilation 1
SHORT, THIN = 1.6, 0.6  # pixels: standard deviations, along and across, of what is drawn without gaps first
SHORT_REACH = 3  # pixels: half a side of its filter
SHARPNESS = 6.0  # of the softmax that chooses among the lines


class OrientedNoise(nn.Module):
    """Smooth noise along directions: (N, 1, h, w), directions (N, 2, h, w) -> (N, 1, h, w).

    A mixture of lines in eight directions, weighted by a softmax of how well they agree with the given
    direction (``stroke_directions``); where its confidence is 0 they weigh alike. The variance of white noise
    is kept.
    """

    short: Tensor
    taps: Tensor
    vectors: Tensor
    correlations: Tensor

    def __init__(self) -> None:
        super().__init__()
        side = torch.arange(-SHORT_REACH, SHORT_REACH + 1, dtype=torch.float64)
        y, x = torch.meshgrid(side, side, indexing="ij")
        short, vectors = [], []
        taps = torch.zeros(len(STEPS), 1, 5, 5, dtype=torch.float64)
        for line, (right, down) in enumerate(STEPS):
            length = math.hypot(right, down)
            cos, sin = right / length, down / length
            along, across = x * cos + y * sin, y * cos - x * sin
            short.append((-(along / SHORT).square() / 2 - (across / THIN).square() / 2).exp())
            vectors.append([cos * cos - sin * sin, 2 * sin * cos])
            outer = SPREAD / (2 * length**2)
            taps[line, 0, 2, 2] = 1 - 2 * outer
            taps[line, 0, 2 + down, 2 + right] = taps[line, 0, 2 - down, 2 - right] = outer
        angles = torch.tensor(vectors, dtype=torch.float64)
        self.register_buffer("short", torch.stack(short)[:, None], persistent=False)
        self.register_buffer("taps", taps, persistent=False)
        self.register_buffer("vectors", angles[:, :, None, None] * SHARPNESS, persistent=False)
        reach = SHORT_REACH + 2 * sum(DILATIONS)
        impulse = torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
        impulse[0, 0, reach, reach] = 1
        lines = self.lines(impulse)[0].flatten(1)
        norms = lines.norm(dim=1, keepdim=True)
        self.short /= norms[:, :, None, None]
        lines = lines / norms
        self.register_buffer("correlations", (lines @ lines.T)[:, :, None, None], persistent=False)

    def lines(self, noise: Tensor) -> Tensor:
        """Smooth noise in each of the eight directions: (N, 1, h, w) -> (N, 8, h, w)."""
        lines = F.conv2d(noise, self.short, padding=SHORT_REACH)
        for dilation in DILATIONS:
            lines = F.conv2d(lines, self.taps, padding=2 * dilation, dilation=dilation, groups=len(STEPS))
        return lines

    def weights(self, directions: Tensor) -> Tensor:
        """Return what each line weighs in a mixture of the variance of one: (N, 2, h, w) -> (N, 8, h, w)."""
        weights = F.conv2d(directions, self.vectors).softmax(dim=1)
        variance = (weights * F.conv2d(weights, self.correlations)).sum(dim=1, keepdim=True)
        return weights / variance.sqrt()

    def forward(self, noise: Tensor, directions: Tensor) -> Tensor:
        return (self.lines(noise) * self.weights(directions)).sum(dim=1, keepdim=True)


class CanvasBands(nn.Module):
    """Filter bank: white noise of unit variance (N, 1, H, W) -> bands of unit variance (N, K, ceil(H/2),
    ceil(W/2)).

    Band k holds the frequencies between Gaussians of about 2^k and 2^(k+1) pixels. Borders are padded with
    zeros, the mean of the noise, so small frames need no special case. With ``oriented`` the noise is
    smoothed along directions (N, 2, ceil(H/2), ceil(W/2)) first, and variances are means over all directions.
    """

    spline: Tensor
    gains: Tensor

    def __init__(self, bands: int, *, oriented: bool = False) -> None:
        super().__init__()
        self.bands = bands
        self.oriented = OrientedNoise() if oriented else None
        row = torch.tensor(SPLINE, dtype=torch.float64)
        spline = torch.outer(row, row)[None, None]
        self.register_buffer("spline", spline, persistent=False)
        gains = 1 / self._variances().sqrt()
        self.register_buffer("gains", gains[None, :, None, None], persistent=False)
        self.float()

    def _variances(self) -> Tensor:
        """Return the variance of each band of white noise before ``gains``: (K,).

        The bands of an impulse are the filters, their squared norms the variances.
        """
        side = 32 * 2**self.bands if self.oriented is None else 12 * 2**self.bands
        impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
        mixtures = torch.ones(1, 1, dtype=torch.float64)
        if self.oriented is not None:
            mixtures = self.oriented.weights(self.oriented.vectors / SHARPNESS)[:, :, 0, 0]  # (8, lines)
        variances = torch.zeros(self.bands, dtype=torch.float64)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            impulse.zero_()[0, 0, side // 2 + down, side // 2 + right] = 1
            smooth = self._halved(impulse)
            filters = smooth if self.oriented is None else self.oriented.lines(smooth).transpose(0, 1)
            for band, filtered in enumerate(self._split(filters)):
                flat = filtered.flatten(1)  # (lines, pixels)
                variances[band] += ((mixtures @ (flat @ flat.T)) * mixtures).sum(dim=1).mean()
        return variances

    def _halved(self, noise: Tensor) -> Tensor:
        return F.conv2d(noise, self.spline, stride=2, padding=2)  # (N, 1, ceil(H/2), ceil(W/2))

    def _split(self, smooth: Tensor) -> list[Tensor]:
        bands = []
        for band in range(self.bands):
            step = 2**band
            smoother = F.conv2d(smooth, self.spline, padding=2 * step, dilation=step)
            bands.append(smooth - smoother)
            smooth = smoother
        return bands

    def forward(self, noise: Tensor, directions: Tensor | None = None) -> Tensor:
        smooth = self._halved(noise)
        if self.oriented is not None and directions is not None:
            smooth = self.oriented(smooth, directions)
        return torch.cat(self._split(smooth), dim=1) * self.gains


def white(canvas: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalize uniform noise: (N, H, W, 1) uint8 -> (N, 1, H, W) of mean 0 and variance 1."""
    noise: Tensor = (canvas.permute(0, 3, 1, 2).to(dtype) - WHITE_MEAN) / WHITE_DEVIATION
    return noise
