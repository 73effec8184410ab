"""The two networks: a conditioned generator and an Inception-v3 style encoder.

    style image ── StyleEncoder ──> embedding z ──> FiLM vector
                                                         │
    frame ────────────────────────────────────────> Generator ──> stylized frame

Sources: the generator follows Johnson et al. 2016 (arXiv 1603.08155, supplementary table 1) with
nearest-neighbor upsampling in place of transposed convolutions (Odena et al. 2016, Distill). The deployed one
is conditioned by FiLM in place of the affine parameters of instance normalization (Dumoulin et al. 2017,
arXiv 1610.07629); the other ways are in ``injections``. The style encoder follows Ghiasi et al. 2017 (arXiv
1705.06830): Inception-v3, pooled over positions, and a linear layer; see ``StyleEncoder`` for the pooled
statistics.

Tensors are (N, C, H, W). Input and output pixels of both networks are float RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.canvas_bands import CanvasBands
from mst_deploy.model.film import FilmLayout, canvas_gains
from mst_deploy.model.inception import STAGES, InceptionTrunk
from mst_deploy.model.injections import INJECTIONS, Injection, Places
from mst_deploy.model.stroke_directions import StrokeDirections

STATISTICS = {"mean": "Mixed_6e", "moments": "Mixed_5d"}
"""Pooled statistics of the encoder, each with the last stage of Inception that it needs; see StyleEncoder."""
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
    statistics: str = "moments"
    """Pooled statistics of the style encoder: a name of ``STATISTICS``."""
    hidden_size: int = 512
    """Width of the hidden layers parallel to the encoder's linear layer; 0 for none."""
    hidden_layers: int = 2
    """Number of hidden layers."""
    padding: str = "reflect"
    """Padding of every convolution of the generator: reflect, edge or zero."""
    injection: str = "film"
    """Conditioning of the generator: a name of ``injections.INJECTIONS``."""
    canvas_bands: int = 0
    """Octaves of the noise canvas that the generator makes strokes from; 0 for a generator without one."""
    oriented_canvas: bool = False
    """Whether the canvas is smoothed along the edges of the frame, so that strokes are long and follow
    form."""

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise InvalidArgument(
                field="widths", problem=f"widths must be three positive numbers, got {self.widths}"
            )
        if (
            self.residual_blocks < 0
            or min(self.embedding_size, self.hidden_size + 1, self.hidden_layers) < 1
            or (self.embedding_norm <= 0)
        ):
            raise InvalidArgument(f"impossible network configuration: {self}")
        if self.statistics not in STATISTICS:
            raise InvalidArgument(
                field="statistics",
                problem=f"unknown statistics {self.statistics!r}",
                hint=f"choose one of {', '.join(STATISTICS)}",
            )
        if self.padding not in PADDINGS:
            raise InvalidArgument(
                field="padding",
                problem=f"unknown padding {self.padding!r}",
                hint=f"choose one of {', '.join(PADDINGS)}",
            )
        if self.injection not in INJECTIONS:
            raise InvalidArgument(
                field="injection",
                problem=f"unknown injection {self.injection!r}",
                hint=f"choose one of {', '.join(INJECTIONS)}",
            )
        if self.canvas_bands < 0 or (self.canvas_bands and self.injection != "film"):
            raise InvalidArgument(
                field="canvas",
                problem=(
                    f"{self.canvas_bands} canvas bands with the injection {self.injection!r}: only film "
                    "models take a canvas"
                ),
                hint="set canvas_bands to 0",
            )
        if self.oriented_canvas and not self.canvas_bands:
            raise InvalidArgument(
                field="canvas",
                problem="an oriented canvas without canvas bands",
                hint="set canvas_bands, or oriented_canvas to false",
            )

    @property
    def film_layout(self) -> FilmLayout:
        """The conditioned layers in the order of the forward pass."""
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
            ),
            self.canvas_bands,
        )

    @property
    def places(self) -> Places:
        """Properties of the generator that an injection depends on."""
        return Places(self.film_layout, self.residual_blocks, self.widths[2], self.embedding_size)

    @property
    def has_encoder(self) -> bool:
        """Whether the generator is conditioned by an embedding of the style encoder."""
        return INJECTIONS[self.injection].NEEDS in ("film", "embedding")

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        values = asdict(self)
        if not self.canvas_bands:  # keeps the identity of models from before the canvas
            del values["canvas_bands"]
        if not self.oriented_canvas:
            del values["oriented_canvas"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Restore a configuration from the values of to_dict, also of earlier versions."""
        # values of models from before these settings
        older = {"statistics": "mean", "hidden_size": 0, "hidden_layers": 1}
        return cls(**{**older, **values, "widths": tuple(values["widths"])})


Pair = tuple[Tensor, Tensor]
"""gamma and beta of one layer, each (N, C) or (1, C)."""
Enter = Callable[[Tensor, int], Tensor]
"""Computes the input of convolution 0 or 1 of a residual block from a map."""


class PaddedConv(nn.Conv2d):
    """A k x k convolution that keeps the size (or halves it, rounding up, with stride 2)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: str, bias: bool
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, bias=bias)
        self.border = kernel // 2
        self.border_mode = PADDINGS[padding]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.border,) * 4, mode=self.border_mode))


class FilmNorm(nn.Module):
    """Instance normalization with FiLM: y = gamma * (x - mean) / sqrt(var + eps) + beta over H and W, per
    image.

    The statistics are always float32: a float16 sum over a large map overflows at 65,504.
    """

    eps = 1e-5

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        if self.training:
            return self._in_one_pass(x, gamma, beta)
        normalized = F.instance_norm(x.float(), eps=self.eps)  # (N, C, H, W)
        y = normalized * gamma[:, :, None, None] + beta[:, :, None, None]
        return y.to(x.dtype)

    def _in_one_pass(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Return the same as one batch normalization of N * C channels, whose kernels compute in float32 too.

        No float32 map is stored, and the backward pass is one operation. Exported graphs keep the form above,
        which their passes expect.
        """
        maps = x.reshape(1, -1, *x.shape[2:])
        scale, shift = (part.float().expand(len(x), -1).reshape(-1) for part in (gamma, beta))
        y = F.batch_norm(maps, None, None, scale, shift, training=True, eps=self.eps)
        return y.view(x.shape)


class ConvNorm(nn.Module):
    """Convolution, instance normalization, FiLM. No bias: the normalization would remove it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: str) -> None:
        super().__init__()
        self.conv = PaddedConv(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.norm = FilmNorm()

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor, added: Tensor | None = None) -> Tensor:
        """Apply the block; ``added`` is a map of the result's shape that is added before the
        normalization."""
        y: Tensor = self.conv(x)
        y = self.norm(y if added is None else y + added, gamma, beta)
        return y


class ResidualBlock(nn.Module):
    """x + conv-norm(enter(conv-norm(enter(x)))) at a constant width; ``enter`` is the injection's."""

    def __init__(self, width: int, padding: str) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3, padding=padding)
        self.second = ConvNorm(width, width, 3, padding=padding)

    def forward(self, x: Tensor, enter: Enter, film1: Pair, film2: Pair) -> Tensor:
        y: Tensor = self.first(enter(x, 0), *film1)
        y = self.second(enter(y, 1), *film2)
        return x + y


def upsample_by_two(x: Tensor) -> Tensor:
    """Upsample by two, nearest neighbor: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Generator(nn.Module):
    """Conditioned generator. Any H, W >= MIN_SIZE; the output has the input's size."""

    MIN_SIZE = 8
    """Smallest side: below it a reflected border at quarter resolution is wider than the map itself."""

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
        self.injection: Injection = INJECTIONS[config.injection](config.places)
        if config.canvas_bands:
            self.bands = CanvasBands(config.canvas_bands, oriented=config.oriented_canvas)
            self.directions = StrokeDirections(PADDINGS[padding]) if config.oriented_canvas else None
            self.canvas = PaddedConv(config.canvas_bands, half, 3, padding=padding, bias=False)
            nn.init.normal_(self.canvas.weight, std=float(self.down1.conv.weight.detach().std()))

    def forward(self, images: Tensor, condition: Any, canvas: Tensor | None = None) -> Tensor:
        """Stylize images (N, 3, H, W) in 0..1 under a condition -> (N, 3, H, W) in 0..1.

        The condition is a FiLM vector (N, P) float32 for ``film``; for others see ``injections``. ``canvas``
        (N, 1, H, W) is white noise of mean 0 and variance 1, for a generator with ``canvas_bands``.
        """
        height, width = images.shape[2:]
        condition = self.injection.prepare(condition)
        film = self.injection.film_params(condition)
        layers = iter(self.split_film(film))
        x = images * 2 - 1  # (N, 3, H, W), -1..1 keeps activations at O(1)
        x = F.relu(self.stem(x, *next(layers)))  # (N, 32, H, W)
        strokes = self._strokes(images, canvas, film)
        x = F.relu(self.down1(x, *next(layers), strokes))  # (N, 64, ceil(H/2), ceil(W/2))
        x = F.relu(self.down2(x, *next(layers)))  # (N, 128, ceil(H/4), ceil(W/4))
        for index, block in enumerate(self.blocks):
            enter = partial(self._enter, index, condition)
            x = block(x, enter, next(layers), next(layers))
        x = F.relu(self.up1(upsample_by_two(x), *next(layers)))  # (N, 64, ~H/2, ~W/2)
        x = F.relu(self.up2(upsample_by_two(x), *next(layers)))  # (N, 32, H rounded up to 4, W likewise)
        x = x[:, :, :height, :width]
        return torch.sigmoid(self.head(x))  # (N, 3, H, W)

    def _strokes(self, images: Tensor, canvas: Tensor | None, film: Tensor) -> Tensor | None:
        """Return the canvas's addend to the first map of half resolution, (N, 64, ceil(H/2), ceil(W/2)); None
        without one.

        The last values of a FiLM vector are the gains of the bands. Raises InvalidArgument if the canvas is
        missing.
        """
        if not self.config.canvas_bands:
            return None
        if canvas is None:
            raise InvalidArgument(
                field="canvas", problem="this generator paints from a canvas", hint="give one (N, 1, H, W)"
            )
        bands: Tensor = self.bands(canvas, None if self.directions is None else self.directions(images))
        gains = film[:, self.layout.norm_size :, None, None].to(bands.dtype)
        joined: Tensor = self.canvas(bands * gains)
        return joined

    def _enter(self, block: int, condition: Any, x: Tensor, conv: int) -> Tensor:
        return self.injection.enter(x, block, conv, condition)

    def split_film(self, film: Tensor) -> list[Pair]:
        """Split FiLM parameters (N, P) into one (gamma, beta) of shape (N, C) for each conditioned layer."""
        if self.training:  # one operation in the backward pass, instead of two maps of zeros for each pair
            sizes = [channels for _, channels in self.layout.layers for _ in range(2)]
            parts = torch.split(film[:, : self.layout.norm_size], sizes, dim=1)
            return list(zip(parts[::2], parts[1::2], strict=True))
        pairs, start = [], 0
        for _, channels in self.layout.layers:
            gamma = film[:, start : start + channels]
            beta = film[:, start + channels : start + 2 * channels]
            pairs.append((gamma, beta))
            start += 2 * channels
        return pairs


class StyleEncoder(nn.Module):
    """Style image -> embedding z of length alpha, and for FiLM -> FiLM vector.

    The image is pooled to ``mean``, the averaged Mixed_6e features of Ghiasi et al. (768 values), or to
    ``moments``, the mean and standard deviation of every channel of the picture and of three earlier stages,
    and the covariances of its colors (1,097 values). Palette and strokes are statistics of such early
    features; late features, trained to classify objects, retain little of them (docs/recipe.md has the
    figures).
    """

    centre: Tensor  # spelled as in stored weights
    spread: Tensor
    gains: Tensor
    MIN_SIZE = 75
    """Smallest side that Inception-v3 accepts (its valid convolutions and three stride-2 stages)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = config.film_layout
        last = STATISTICS[config.statistics]
        self.trunk = InceptionTrunk(last=last)
        moments = 9 + 2 * sum(list(STAGES.values())[: list(STAGES).index(last) + 1])
        self.summary_size = moments if config.statistics == "moments" else STAGES[last]
        if config.statistics == "moments":  # the values have different units, so they are standardized
            self.register_buffer("centre", torch.zeros(self.summary_size))
            self.register_buffer("spread", torch.ones(self.summary_size))
        self.project = nn.Linear(self.summary_size, config.embedding_size)
        if config.hidden_size:
            self.hidden = nn.Linear(self.summary_size, config.hidden_size)
            self.deeper = nn.ModuleList(
                nn.Linear(config.hidden_size, config.hidden_size) for _ in range(config.hidden_layers - 1)
            )
            self.correct = nn.Linear(config.hidden_size, config.embedding_size, bias=False)
            nn.init.zeros_(self.correct.weight)
        if config.injection != "film":
            return
        self.film = nn.Linear(config.embedding_size, self.layout.norm_size)
        nn.init.normal_(self.film.weight, std=0.02)
        with torch.no_grad():
            self.film.bias.copy_(torch.from_numpy(self.layout.identity()[: self.layout.norm_size]))
        if config.canvas_bands:
            gains = torch.from_numpy(canvas_gains(config.canvas_bands))
            self.register_buffer("gains", gains, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (N, 3, H, W) in 0..1 -> embedding (N, d), film (N, P), both float32."""
        embedding = self.embed(self.pooled(images))
        return embedding, self.film_of(embedding)

    def pooled(self, images: Tensor) -> Tensor:
        """Pool images (N, 3, H, W) in 0..1 to (N, summary_size) float32 statistics."""
        if self.config.statistics == "mean":
            features = self.trunk(images * 2 - 1)  # (N, 768, H/17.., W/17..)
            mean: Tensor = features.float().mean(dim=(2, 3))
            return mean
        parts = [moments(images), color_covariances(images)]
        parts += [moments(features) for features in self.trunk.stages(images * 2 - 1)]
        return torch.cat(parts, dim=1)

    def embed(self, pooled: Tensor) -> Tensor:
        """Return embeddings of pooled features: (N, summary_size) -> z (N, d) with ||z|| = alpha."""
        h = self.unscaled(pooled)
        length = h.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
        return self.config.embedding_norm * h / length

    def unscaled(self, pooled: Tensor) -> Tensor:
        """Return embeddings before normalization: (N, summary_size) -> (N, d)."""
        if self.config.statistics == "moments":
            pooled = (pooled - self.centre) / self.spread
        h = linear32(self.project, pooled)
        if self.config.hidden_size:
            hidden = F.relu(linear32(self.hidden, pooled))
            for layer in self.deeper:
                hidden = F.relu(linear32(cast(nn.Linear, layer), hidden))
            h = h + linear32(self.correct, hidden)
        return h

    def condition_of(self, embedding: Tensor) -> Tensor:
        """Return the generator's condition: the FiLM vector, or z itself if the generator has its own
        maps."""
        return self.film_of(embedding) if self.config.injection == "film" else embedding

    def film_of(self, embedding: Tensor) -> Tensor:
        """Return FiLM vectors of embeddings: (N, d) -> (N, P), gamma and beta of every layer, and default
        canvas gains.

        gamma is 1 + a linear map of z; the gains do not depend on it.
        """
        film = linear32(self.film, embedding)
        if not self.config.canvas_bands:
            return film
        return torch.cat([film, self.gains.float().expand(len(film), -1)], dim=1)


def linear32(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in float32, whatever the type of its weights."""
    return F.linear(x, layer.weight.float(), None if layer.bias is None else layer.bias.float())


def moments(features: Tensor) -> Tensor:
    """Return mean and standard deviation of every channel: (N, C, H, W) -> (N, 2C) float32."""
    features = features.float()
    mean = features.mean(dim=(2, 3), keepdim=True)
    deviation = ((features - mean).square().mean(dim=(2, 3)) + 1e-6).sqrt()
    return torch.cat([mean[:, :, 0, 0], deviation], dim=1)


def color_covariances(images: Tensor) -> Tensor:
    """Return the covariances of red and green, red and blue, green and blue: (N, 3, H, W) -> (N, 3)
    float32."""
    images = images.float()
    centered = images - images.mean(dim=(2, 3), keepdim=True)
    with_red, green_blue = centered[:, :1] * centered[:, 1:], centered[:, 1:2] * centered[:, 2:]
    return torch.cat([with_red, green_blue], dim=1).mean(dim=(2, 3))
