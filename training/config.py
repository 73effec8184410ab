"""Configuration of a training run. The defaults are the best values of docs/recipe.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.networks import NetworkConfig

STORED_NAMES = {"colour_shift_share": "color_shift_share", "foretell_steps": "gram_pretraining_steps"}
"""Names in recipes and run.json of earlier versions, and their present names."""


@dataclass(frozen=True)
class Stage:
    """Part of the run with its own crop size: most steps use small crops, which are cheap."""

    until: float
    """End as a fraction of the run, 0..1."""
    crop: int
    """Side of the content crop in pixels."""
    batch: int
    style_weight: float


DEFAULT_STAGES = (
    Stage(until=0.45, crop=128, batch=4, style_weight=28.0),
    Stage(until=0.85, crop=192, batch=3, style_weight=28.0),
    Stage(until=1.0, crop=256, batch=2, style_weight=28.0),
)

# Movements characterized by strokes and color. They are drawn more often, because they are the styles users
# ask for; old masters are numerous and similar to each other.
EXPRESSIVE = (
    "abstraction-kandinsky",
    "art-nouveau",
    "bauhaus-klee",
    "belle-epoque-poster",
    "cubism-and-orphism",
    "engraving-and-woodcut",
    "expressionism-munch",
    "fauvism",
    "futurism",
    "geometric-abstraction",
    "german-austrian-expressionism",
    "icon-and-mosaic",
    "impressionism",
    "les-nabis",
    "pointillism",
    "post-impressionism-cezanne",
    "post-impressionism-van-gogh",
    "synthetism-gauguin",
    "ukiyo-e",
    "vienna-secession",
)


CANVAS_BANDS = 5
"""Octaves of the canvas: strokes from 1 to 32 pixels wide."""

PRECISIONS = ("bf16", "fp16", "fp32")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a whole run. Its length is ``minutes`` of wall time if given, else ``epochs``, else
    ``steps``."""

    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(canvas_bands=CANVAS_BANDS, oriented_canvas=True)
    )
    stages: tuple[Stage, ...] = DEFAULT_STAGES
    steps: int = 20_000
    epochs: float | None = None
    """Passes over the photographs."""
    minutes: float | None = None
    learning_rate: float = 1e-3
    encoder_rate: float = 0.25
    """Learning rate of the style encoder as a fraction of the generator's. Its layers are wide and are
    trained on the same few hundred styles repeatedly; at the generator's rate they do not converge."""
    schedule: str = "cosine"
    """cosine: half a cosine down to 2 % of the peak; constant."""
    warmup_steps: int = 100
    clip_norm: float = 5.0
    """Largest gradient norm; longer gradients are scaled down to it."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights that is saved as the result; 0 saves the last
    weights."""
    content_weight: float = 1.0
    flat_content: float = 0.15
    """Smallest weight of the content distance, applied where the photograph is flat so that strokes can
    appear there; 1 weighs all pixels equally."""
    style_layers: tuple[str, ...] | None = None
    """Layers of VGG-19 whose Gram matrices are compared; None for all that the weights hold exactly."""
    film_layers: tuple[str, ...] | None = None
    """Prefixes of the names of the layers that depend on the style (``stem``, ``down``, ``blocks``,
    ``up``); None for all. The others have a learned scale and shift common to all styles."""
    style_scales: int = 2
    """Number of scales, each half of the one before, at which Gram matrices are compared. The coarser ones
    capture strokes that are long relative to the receptive fields of VGG-19."""
    palette_weight: float = 30.0
    """Weight of the distance between the colors of the result and those of the whole artwork
    (``palette_distance``)."""
    style_own_size: bool = True
    """Whether style distances are relative to each style's own Gram matrices; else to the mean size in the
    batch."""
    tv_weight: float = 0.0
    halo_cells: tuple[int, ...] = (32,)
    """Sides in pixels of the cells whose means ``halo_weight`` keeps even: larger than a stroke."""
    halo_weight: float = 2_000.0
    """Weight of the low-frequency bleed where the picture is flat: seams along edges, clouds in a clear
    sky (``low_frequency_bleed_loss``). The changes are faint, so their squares are small."""
    fringe_weight: float = 600.0
    """Weight of light and colored lines along edges (``edge_fringe_loss``)."""
    temporal_weight: float = 150.0
    """Weight of the flicker under small shifts and noise; above 0 each step stylizes a second window."""
    temporal_shift: int = 6
    """Largest shift in pixels in each direction."""
    temporal_noise: float = 4.0
    """Standard deviation of the noise in the second window, in gray levels of 255."""
    identity_share: float = 0.05
    """Share of pairs whose style is the content itself; trains strength 0 to reproduce the picture."""
    identity_weight: float = 20.0
    """Weight of the pixel difference on those pairs."""
    strength_share: float = 0.3
    """Share of the other pairs that are stylized at a strength between 0.5 and 1, as by
    ``film.at_strength``: with a FiLM vector between the content's own and the style's."""
    strength_power: float = 3.0
    """Exponent of the strength in the style weight of those pairs: less style leaves more content."""
    style_size: int = 256
    """Side of the style crops in pixels."""
    style_zoom: float = 1.3
    """Style images are resized to a short side of style_size times 1..style_zoom before the crop for the
    style encoder."""
    stroke_zoom: float = 1.5
    """The crop whose Gram matrices are the target is taken at style_size times this and the stroke size."""
    stroke_sizes: tuple[float, float] = (0.6, 2.0)
    """Range of stroke sizes, of which one is drawn for each view: 1 half of the time, else log-uniform in
    this range. The gains of the canvas bands follow (``film.canvas_gains``), which makes them a
    control."""
    strokes_share: float = 0.25
    """Share of samples with an amount of canvas other than 1, between 0 and 1.3."""
    flatness_ranks: int = 3
    """Number of photographs and of artwork crops that a sample is drawn from. Both are sorted by detail,
    and those of the same rank are paired: flat photographs learn from the calm parts of the artwork.
    Low ranks are drawn more often. 1 pairs them at random."""
    style_views: int = 6
    """Number of different crops of each style image, shared by the flatness ranks; their targets are
    computed once and kept in memory, if they fit."""
    color_shift_share: float = 0.5
    """Share of the style views with shifted colors."""
    content_zoom: float = 1.7
    """Largest zoom of a content crop."""
    expressive_weight: float = 2.0
    """Factor by which a group named in EXPRESSIVE is drawn more often than another."""
    gram_pretraining_steps: int = 3000
    """Steps in which the style embedding is pretrained to predict Gram matrices before the run; 0 for
    none."""
    train_trunk: bool = False
    """Whether Inception is trained too; then no target of a style view can be precomputed."""
    seed: int = 1
    precision: str = "bf16"
    """Type of the forward and backward pass: bf16 or fp16 (mixed with float32), or fp32."""

    def __post_init__(self) -> None:
        if not self.stages or self.stages[-1].until != 1.0:
            raise InvalidArgument("the last training stage must end at 1.0")
        if self.precision not in PRECISIONS:
            raise InvalidArgument(
                field="precision",
                problem=f"unknown training precision {self.precision!r}",
                hint=f"choose one of {', '.join(PRECISIONS)}",
            )
        if self.schedule not in SCHEDULES:
            raise InvalidArgument(
                field="schedule",
                problem=f"unknown schedule {self.schedule!r}",
                hint=f"choose one of {', '.join(SCHEDULES)}",
            )
        if self.steps < 1 or (self.minutes or 1) <= 0 or (self.epochs or 1) <= 0:
            raise InvalidArgument(
                field="steps",
                problem=(
                    f"a run must have a length: steps {self.steps}, epochs {self.epochs}, minutes "
                    f"{self.minutes}"
                ),
            )
        if min(stage.crop for stage in self.stages) < 32 or min(stage.batch for stage in self.stages) < 1:
            raise InvalidArgument("crops must have 32 pixels or more and batches 1 picture or more")

    def stage_at(self, progress: float) -> Stage:
        """Return the stage of a run whose fraction ``progress`` (0..1) is done."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)

    @property
    def kept_views(self) -> int:
        """Number of different crops of a style image: ``style_views``, in whole sets of ranks."""
        return max(1, self.style_views // self.flatness_ranks) * self.flatness_ranks

    @property
    def has_canvas(self) -> bool:
        """Whether the generator has a canvas."""
        return self.network.canvas_bands > 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Restore a configuration from the values of to_dict. Raises InvalidArgument for unknown names."""
        values = {STORED_NAMES.get(name, name): value for name, value in values.items()}
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise InvalidArgument(f"unknown training setting {unknown[0]!r}")
        if "network" in values:
            values["network"] = NetworkConfig.from_dict(values["network"])
        if "stages" in values:
            values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        for name in ("style_layers", "film_layers", "halo_cells", "stroke_sizes"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)


PAPER = TrainConfig(
    network=NetworkConfig(statistics="mean", hidden_size=0, hidden_layers=1),
    stages=(
        Stage(until=0.5, crop=128, batch=32, style_weight=10.0),
        Stage(until=1.0, crop=256, batch=32, style_weight=10.0),
    ),
    epochs=80,
    learning_rate=1e-4,
    encoder_rate=1.0,
    schedule="constant",
    warmup_steps=1,
    ema_decay=0.0,
    identity_share=0.0,
    strength_share=0.0,
    color_shift_share=0.0,
    expressive_weight=1.0,
    tv_weight=0.5,
    flat_content=1.0,
    style_scales=1,
    palette_weight=0.0,
    fringe_weight=0.0,
    style_zoom=1.0,
    stroke_zoom=1.0,
    stroke_sizes=(1.0, 1.0),
    flatness_ranks=1,
    gram_pretraining_steps=0,
    halo_weight=0.0,
    temporal_weight=0.0,
)
"""The published recipe: Adam at 1e-4, batches of 32, 80 epochs, crops of 128 then 256. It does not state
the weights of the losses; those are ours, as is the relative form of the style loss."""

ENCODER = TrainConfig(
    stages=(Stage(until=1.0, crop=256, batch=4, style_weight=50.0),),
    steps=2_000,
    learning_rate=1e-4,
    train_trunk=True,
    strength_share=0.0,
    style_views=1000,
    temporal_weight=0.0,
)
"""The second phase: the generator is frozen, the whole style encoder is fine-tuned at a low rate."""

LITE = TrainConfig(
    network=NetworkConfig(
        widths=(16, 32, 64), residual_blocks=4, canvas_bands=CANVAS_BANDS, oriented_canvas=True
    )
)
"""The default recipe for a generator with a quarter of the multiply-adds; best begun
with the widths cut out of a wider model (``prune_from``)."""

FINETUNE_ARTIFACTS = TrainConfig(
    stages=(Stage(until=1.0, crop=192, batch=8, style_weight=4.0),),
    steps=1_000,
    learning_rate=2e-4,
    warmup_steps=20,
    ema_decay=0.998,
    content_weight=0.15,
    flat_content=1.0,
    palette_weight=0.0,
    halo_weight=1_500.0,
    fringe_weight=2_500.0,
    temporal_weight=0.0,
    identity_weight=0.5,
    style_views=4,
)
"""Artifact fine-tuning, the last phase. Content, style and identity weigh the distance to the initial
output, which is small: style changes its Gram matrices by a thousandth of their square."""

RECIPES = {
    "default": TrainConfig(),
    "lite": LITE,
    "paper": PAPER,
    "encoder": ENCODER,
    "finetune-artifacts": FINETUNE_ARTIFACTS,
}
