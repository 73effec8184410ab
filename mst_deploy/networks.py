"""The two networks: a FiLM-conditioned generator and an Inception-v3 style encoder.

    style image ── StyleEncoder ──> embedding z ──> film row ──┐
    frame ──────────────────────────── Generator <─────────────┘──> stylised frame

Sources: the generator follows Johnson et al. 2016 (arXiv 1603.08155, supplementary table 1) with
nearest-neighbour upsampling in place of transposed convolutions (Odena et al. 2016, Distill); the
conditioning is FiLM (Perez et al. 2018, arXiv 1709.07871) in the place of the affine parameters of
instance normalisation (Dumoulin et al. 2017, arXiv 1610.07629); the style encoder is the one of
Ghiasi et al. 2017 (arXiv 1705.06830): Inception-v3 to Mixed_6e, global average pooling, one
linear layer.

Tensors are (N, C, H, W). Pixels are float RGB in 0..1 at the doors of both networks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.errors import InvalidArgument
from mst_deploy.film import FilmLayout
from mst_deploy.inception import InceptionTrunk

PADDINGS = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to rebuild both networks before loading their weights."""

    widths: tuple[int, int, int] = (32, 64, 128)
    """Channels at full, half and quarter resolution."""
    residual_blocks: int = 5
    embedding_size: int = 256
    """d, the length of the style embedding z."""
    embedding_norm: float = 16.0
    """alpha: z is scaled to this Euclidean length. The default is sqrt(d)."""
    padding: str = "reflect"
    """How every convolution of the generator sees past the border: reflect, edge or zero."""
    injection: str = "film"

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise InvalidArgument(f"widths must be three positive numbers, got {self.widths}")
        if self.residual_blocks < 0 or self.embedding_size < 1 or self.embedding_norm <= 0:
            raise InvalidArgument(f"impossible network configuration: {self}")
        if self.padding not in PADDINGS:
            raise InvalidArgument(f"unknown padding {self.padding!r}; choose one of {', '.join(PADDINGS)}")
        if self.injection != "film":
            raise InvalidArgument(f"unknown injection {self.injection!r}; known: film")

    @property
    def film_layout(self) -> FilmLayout:
        """The conditioned layers in the order in which a frame meets them."""
        full, half, quarter = self.widths
        trunk = [
            (f"blocks.{index}.norm{which}", quarter)
            for index in range(self.residual_blocks)
            for which in (1, 2)
        ]
        return FilmLayout(
            (
                ("stem.norm", full),
                ("down1.norm", half),
                ("down2.norm", quarter),
                *trunk,
                ("up1.norm", half),
                ("up2.norm", full),
            )
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        return cls(**{**values, "widths": tuple(values["widths"])})


class PaddedConv(nn.Conv2d):
    """k x k convolution that keeps the size (or halves it, rounding up, with stride 2)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: str, bias: bool
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, bias=bias)
        self.border = kernel // 2
        self.border_mode = PADDINGS[padding]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.border,) * 4, mode=self.border_mode))


class FilmNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta over H and W; gamma, beta come per image.

    The statistics are always float32: a float16 sum over a large map overflows at 65,504.
    """

    eps = 1e-5

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        normalised = F.instance_norm(x.float(), eps=self.eps)  # (N, C, H, W)
        y = normalised * gamma[:, :, None, None] + beta[:, :, None, None]
        return y.to(x.dtype)


class ConvNorm(nn.Module):
    """Convolution, instance normalisation, FiLM. No bias: the normalisation would remove it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: str) -> None:
        super().__init__()
        self.conv = PaddedConv(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.norm = FilmNorm()

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x), gamma, beta)
        return y


class ResidualBlock(nn.Module):
    """x + conv-norm(relu(conv-norm(x))) at a constant width."""

    def __init__(self, width: int, padding: str) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3, padding=padding)
        self.second = ConvNorm(width, width, 3, padding=padding)

    def forward(self, x: Tensor, film1: tuple[Tensor, Tensor], film2: tuple[Tensor, Tensor]) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(x, *film1)), *film2)
        return x + y


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Generator(nn.Module):
    """Stylises images under a film row. Any H, W >= MIN_SIZE; the output has the input's size."""

    MIN_SIZE = 8
    """Below this a reflected border at quarter resolution is wider than the map itself."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = config.film_layout
        full, half, quarter = config.widths
        padding = config.padding
        self.stem = ConvNorm(3, full, 9, padding=padding)
        self.down1 = ConvNorm(full, half, 3, stride=2, padding=padding)
        self.down2 = ConvNorm(half, quarter, 3, stride=2, padding=padding)
        self.blocks = nn.ModuleList(ResidualBlock(quarter, padding) for _ in range(config.residual_blocks))
        self.up1 = ConvNorm(quarter, half, 3, padding=padding)
        self.up2 = ConvNorm(half, full, 3, padding=padding)
        self.head = PaddedConv(full, 3, 9, padding=padding, bias=True)

    def forward(self, images: Tensor, film: Tensor) -> Tensor:
        """images (N, 3, H, W) in 0..1, film (N, P) float32 -> (N, 3, H, W) in 0..1."""
        height, width = images.shape[2:]
        layers = iter(self.split_film(film))
        x = images * 2 - 1  # (N, 3, H, W), -1..1 keeps activations at O(1)
        x = F.relu(self.stem(x, *next(layers)))  # (N, 32, H, W)
        x = F.relu(self.down1(x, *next(layers)))  # (N, 64, ceil(H/2), ceil(W/2))
        x = F.relu(self.down2(x, *next(layers)))  # (N, 128, ceil(H/4), ceil(W/4))
        for block in self.blocks:
            x = block(x, next(layers), next(layers))
        x = F.relu(self.up1(double(x), *next(layers)))  # (N, 64, ~H/2, ~W/2)
        x = F.relu(self.up2(double(x), *next(layers)))  # (N, 32, H rounded up to 4, W likewise)
        x = x[:, :, :height, :width]
        return torch.sigmoid(self.head(x))  # (N, 3, H, W)

    def split_film(self, film: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(N, P) -> one (gamma, beta) of shape (N, C) for each conditioned layer."""
        pairs, start = [], 0
        for _, channels in self.layout.layers:
            gamma = film[:, start : start + channels]
            beta = film[:, start + channels : start + 2 * channels]
            pairs.append((gamma, beta))
            start += 2 * channels
        return pairs


class StyleEncoder(nn.Module):
    """Style image -> embedding z of length alpha -> film row."""

    MIN_SIZE = 75
    """The smallest side Inception-v3 takes (its valid convolutions and three stride-2 stages)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = config.film_layout
        self.trunk = InceptionTrunk()
        self.project = nn.Linear(InceptionTrunk.CHANNELS, config.embedding_size)
        self.film = nn.Linear(config.embedding_size, self.layout.size)
        nn.init.normal_(self.film.weight, std=0.02)
        with torch.no_grad():
            self.film.bias.copy_(torch.from_numpy(self.layout.identity()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, H, W) in 0..1 -> embedding (N, d), film (N, P), both float32."""
        embedding = self.embed(self.pooled(images))
        return embedding, self.film_of(embedding)

    def pooled(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in 0..1 -> globally averaged Mixed_6e features (N, 768) float32."""
        features = self.trunk(images * 2 - 1)  # (N, 768, H/17.., W/17..)
        pooled: Tensor = features.float().mean(dim=(2, 3))
        return pooled

    def embed(self, pooled: Tensor) -> Tensor:
        """(N, 768) -> z (N, d) with ||z|| = alpha."""
        h = F.linear(pooled, self.project.weight.float(), self.project.bias.float())
        length = h.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
        return self.config.embedding_norm * h / length

    def film_of(self, embedding: Tensor) -> Tensor:
        """(N, d) -> (N, P): gamma and beta of every layer; gamma is 1 + a linear map of z."""
        return F.linear(embedding, self.film.weight.float(), self.film.bias.float())


def count_multiply_adds(config: NetworkConfig) -> float:
    """Multiply-adds of the generator per output pixel (convolutions only)."""
    full, half, quarter = config.widths
    ends = 81 * 3 * full * 2
    downs = 9 * full * half / 4 + 9 * half * quarter / 16
    trunk = config.residual_blocks * 2 * 9 * quarter * quarter / 16
    ups = 9 * quarter * half / 4 + 9 * half * full
    return ends + downs + trunk + ups
