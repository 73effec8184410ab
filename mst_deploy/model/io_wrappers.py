"""The two networks with uint8 pixels as input and output: exactly the exported graphs.

Casting, scaling, layout, clamping and rounding are part of the graph, so every runtime shares one contract
and only bytes cross the bus. In a float16 graph the normalization statistics, the pooled features, the
embedding and the FiLM vector stay float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst_deploy.model.canvas_bands import white
from mst_deploy.model.networks import Generator, StyleEncoder

KEPT_FP32 = ("InstanceNormalization", "FiLM scale and shift", "global pooling", "embedding", "film")


class Uint8Generator(nn.Module):
    """Generator: frames (N, H, W, 3) uint8 RGB, film (N, P) float32 -> stylized (N, H, W, 3) uint8 RGB.

    A generator with a canvas takes a third input: canvas (N, H, W, 1) uint8, white noise.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, frames: Tensor, film: Tensor, canvas: Tensor | None = None) -> Tensor:
        dtype = self.generator.head.weight.dtype
        pixels = frames.permute(0, 3, 1, 2).to(dtype) / 255
        noise = None if canvas is None else white(canvas, dtype)
        stylized: Tensor = self.generator(pixels, film, noise)  # (N, 3, H, W) in 0..1
        return (stylized * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class Uint8StyleEncoder(nn.Module):
    """Style encoder: style (N, H, W, 3) uint8 RGB -> embedding (N, d) float32, film (N, P) float32."""

    def __init__(self, encoder: StyleEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, style: Tensor) -> tuple[Tensor, Tensor]:
        first: Tensor = self.encoder.trunk.Conv2d_1a_3x3.conv.weight
        embedding, film = self.encoder(style.permute(0, 3, 1, 2).to(first.dtype) / 255)
        return embedding, film
