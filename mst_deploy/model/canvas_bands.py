"""White noise split into bands of one octave: the source of the generator's strokes where a frame is flat.

The bands are the undecimated B3-spline wavelet ("starlet", Starck & Murtagh 2006, Astronomical Image and Data
Analysis, section 2.2) of the noise at half resolution. They are fixed convolutions inside the exported graph,
so every runtime filters identically, and the only input is white noise, which can be moved by whole pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The B3 spline filter: a binomial of variance 1."""
WHITE_MEAN, WHITE_DEVIATION = 127.5, ((256**2 - 1) / 12) ** 0.5
"""Mean and standard deviation of uniform integers 0..255."""


class CanvasBands(nn.Module):
    """Filter bank: white noise of unit variance (N, 1, H, W) -> bands of unit variance (N, K, ceil(H/2),
    ceil(W/2)).

    Band k holds the frequencies between Gaussians of about 2^k and 2^(k+1) pixels. Borders are padded with
    zeros, the mean of the noise, so small frames need no special case.
    """

    spline: Tensor
    gains: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands
        row = torch.tensor(SPLINE, dtype=torch.float64)
        spline = torch.outer(row, row)[None, None]
        self.register_buffer("spline", spline, persistent=False)
        self.register_buffer("gains", torch.ones(1, bands, 1, 1, dtype=torch.float64), persistent=False)
        side = 32 * 2**bands  # the bands of an impulse are the filters, their norms the standard deviations
        impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
        phases = []
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            impulse.zero_()[0, 0, side // 2 + down, side // 2 + right] = 1
            phases.append(self(impulse).square().sum(dim=(2, 3)))
        self.gains /= torch.stack(phases).sum(dim=0).sqrt()[:, :, None, None]
        self.float()

    def forward(self, noise: Tensor) -> Tensor:
        smooth = F.conv2d(noise, self.spline, stride=2, padding=2)  # (N, 1, ceil(H/2), ceil(W/2))
        bands = []
        for band in range(self.bands):
            step = 2**band
            smoother = F.conv2d(smooth, self.spline, padding=2 * step, dilation=step)
            bands.append(smooth - smoother)
            smooth = smoother
        return torch.cat(bands, dim=1) * self.gains


def white(canvas: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalize uniform noise: (N, H, W, 1) uint8 -> (N, 1, H, W) of mean 0 and variance 1."""
    noise: Tensor = (canvas.permute(0, 3, 1, 2).to(dtype) - WHITE_MEAN) / WHITE_DEVIATION
    return noise
