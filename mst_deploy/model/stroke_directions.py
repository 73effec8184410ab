"""Directions of the strokes: along the edges of a frame, and from there into its flat areas.

The direction is that of least change, from the structure tensor (Bigun and Granlund 1987, ICCV, pages 433 to
438), as in line drawing and painterly rendering (Kang et al. 2007, doi:10.1145/1274871.1274878). A direction
is the vector of its doubled angle, (cos 2a, sin 2a), because a and a + pi are one direction; such vectors can
be averaged. Everything is a fixed convolution, pooling or product inside the exported graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The B3 spline filter: a binomial of variance 1."""
BLUR = 2.0  # pixels: standard deviation of the Gaussian whose derivative is the gradient
REACH = 4  # pixels: half a side of the gradient's filter
SCALE = 16.0  # of gradients, so that their squares are in the range of float16
FAINT = 1e-4  # squared gradient, after SCALE, that is none
CELL = 4  # pixels of half resolution: side of the cells of the tensor
DILATIONS = (1, 2, 4, 8, 16)
"""Cells between the taps of the filters that average the tensor one after the other: each average is about
twice as wide as the one before, the last has a standard deviation of 18 cells."""
FADING = 0.5  # weight of an average relative to the narrower one before
COHERENCE = 0.15  # length of the mean vector from which on a direction counts as known


class StrokeDirections(nn.Module):
    """Structure tensor: images (N, 3, H, W) in 0..1 -> directions (N, 2, ceil(H/2), ceil(W/2)).

    (cos 2a, sin 2a) times a confidence in 0..1, with a from the x axis (right) towards the y axis (down).
    ``padding`` is a mode of ``torch.nn.functional.pad``.
    """

    slopes: Tensor
    spline: Tensor

    def __init__(self, padding: str) -> None:
        super().__init__()
        self.padding = padding
        side = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
        gauss = (-side.square() / (2 * BLUR**2)).exp()
        slope = side * gauss / (side.square() * gauss).sum()  # exact for ramps
        gauss = gauss / gauss.sum()
        slopes = torch.stack([torch.outer(gauss, slope), torch.outer(slope, gauss)])[:, None] * (SCALE / 3)
        self.register_buffer("slopes", slopes.expand(-1, 3, -1, -1).float().contiguous(), persistent=False)
        row = torch.tensor(SPLINE)
        spline = torch.outer(row, row).expand(3, 1, -1, -1).contiguous()
        self.register_buffer("spline", spline, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        gradient = F.conv2d(F.pad(images, (REACH,) * 4, mode=self.padding), self.slopes, stride=2)
        right, down = gradient[:, :1], gradient[:, 1:]
        across, along = right * right, down * down
        tensor = torch.cat([along - across, right * down * -2, across + along + FAINT], dim=1)
        height, width = tensor.shape[2:]
        mean = F.avg_pool2d(tensor, CELL, ceil_mode=True, count_include_pad=False)
        total = torch.zeros_like(mean)
        for scale, dilation in enumerate(DILATIONS):
            mean = F.conv2d(mean, self.spline, padding=2 * dilation, dilation=dilation, groups=3)
            if scale:  # grain would turn the direction from cell to cell where a frame is flat
                total = total + FADING**scale * mean
        direction = total[:, :2] / total[:, 2:]
        length = (direction * direction).sum(dim=1, keepdim=True)
        known = direction / (length + COHERENCE**2).sqrt()
        return F.interpolate(known, scale_factor=float(CELL), mode="bilinear")[:, :, :height, :width]
