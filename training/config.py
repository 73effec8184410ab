"""What a training run is made of, as values. The defaults are the recipe of the shipped model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mst_deploy.errors import InvalidArgument
from mst_deploy.networks import NetworkConfig


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own crop size; crops and style weight grow as the weights settle.

    A high style weight from the start dissolves shapes before the generator has learnt to draw them.
    """

    until: float
    """Ends at this fraction of the run, 0..1."""
    crop: int
    """Side of the content crop in pixels."""
    batch: int
    style_weight: float


DEFAULT_STAGES = (
    Stage(until=0.40, crop=128, batch=4, style_weight=10.0),
    Stage(until=0.52, crop=192, batch=3, style_weight=25.0),
    Stage(until=0.75, crop=192, batch=3, style_weight=40.0),
    Stage(until=1.0, crop=256, batch=2, style_weight=50.0),
)

# Movements whose pictures are recognised by strokes and colour. They are drawn more often, because
# that is what people come for; old masters are many and much alike.
EXPRESSIVE = (
    "abstraction-kandinsky", "art-nouveau", "bauhaus-klee", "belle-epoque-poster",
    "cubism-and-orphism", "engraving-and-woodcut", "expressionism-munch", "fauvism", "futurism",
    "geometric-abstraction", "german-austrian-expressionism", "icon-and-mosaic", "impressionism",
    "les-nabis", "pointillism", "post-impressionism-cezanne", "post-impressionism-van-gogh",
    "synthetism-gauguin", "ukiyo-e", "vienna-secession",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Its length is ``minutes`` of wall time if given, else ``steps``."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    stages: tuple[Stage, ...] = DEFAULT_STAGES
    steps: int = 20_000
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    clip_norm: float = 5.0
    """Largest gradient norm; longer gradients are scaled down to it."""
    ema_decay: float = 0.999
    tv_weight: float = 0.5
    identity_share: float = 0.125
    """Share of pairs whose style is the content itself; teaches strength 0 to keep the picture."""
    identity_weight: float = 20.0
    """Weight of the pixel difference on those pairs."""
    style_size: int = 256
    """Side of the style crop in pixels."""
    style_zoom: float = 1.8
    """Style images are resized to a short side of style_size times 1..style_zoom before the crop."""
    style_views: int = 10
    """Different crops of each style image; their targets are computed once and kept in memory."""
    expressive_weight: float = 3.0
    """How much more often a group named in EXPRESSIVE is drawn than another."""
    seed: int = 1
    precision: str = "bf16"
    """Autocast type of the forward and backward pass: bf16 or fp32."""

    def __post_init__(self) -> None:
        if not self.stages or self.stages[-1].until != 1.0:
            raise InvalidArgument("the last training stage must end at 1.0")
        if self.precision not in ("bf16", "fp32"):
            raise InvalidArgument(f"unknown training precision {self.precision!r}: bf16 or fp32")

    def stage_at(self, progress: float) -> Stage:
        """The stage of a run that is ``progress`` (0..1) done."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
