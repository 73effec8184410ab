"""What a training run is made of, as values. The defaults are what docs/recipe.md found best."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.networks import NetworkConfig

STORED_NAMES = {"colour_shift_share": "color_shift_share", "foretell_steps": "gram_pretraining_steps"}
"""Names in recipes and run.json of earlier versions, and what they are called now."""


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own crop size: most is learned on small crops, which cost little."""

    until: float
    """Ends at this fraction of the run, 0..1."""
    crop: int
    """Side of the content crop in pixels."""
    batch: int
    style_weight: float


DEFAULT_STAGES = (
    Stage(until=0.45, crop=128, batch=4, style_weight=28.0),
    Stage(until=0.85, crop=192, batch=3, style_weight=28.0),
    Stage(until=1.0, crop=256, batch=2, style_weight=28.0),
)

# Movements whose pictures are recognized by strokes and color. They are drawn more often, because
# that is what people come for; old masters are many and much alike.
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
    """A whole run. Its length is ``minutes`` of wall time if given, else ``epochs``, else ``steps``."""

    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(canvas_bands=CANVAS_BANDS))
    stages: tuple[Stage, ...] = DEFAULT_STAGES
    steps: int = 20_000
    epochs: float | None = None
    """Passes over the photographs."""
    minutes: float | None = None
    learning_rate: float = 1e-3
    encoder_rate: float = 0.25
    """Learning rate of the style encoder as a share of the generator's. Its layers are wide and meet the same
    few hundred styles again and again; at the generator's rate they never come to rest."""
    schedule: str = "cosine"
    """cosine: half a cosine down to 2 % of the peak; constant."""
    warmup_steps: int = 100
    clip_norm: float = 5.0
    """Largest gradient norm; longer gradients are scaled down to it."""
    ema_decay: float = 0.999
    """Of the running average of the weights that is saved as the result; 0 saves the last weights."""
    content_weight: float = 1.0
    flat_content: float = 0.15
    """Least weight of the content distance, where the photograph is flat and strokes are to be painted; 1
    weighs all of it alike."""
    style_layers: tuple[str, ...] | None = None
    """Layers of VGG-19 whose Gram matrices are compared; None for all that the weights hold exactly."""
    film_layers: tuple[str, ...] | None = None
    """Beginnings of the names of the layers that the style reaches (``stem``, ``down``, ``blocks``, ``up``);
    None for all. The others have a scale and a shift that are learned and alike for every style."""
    style_scales: int = 2
    """At how many scales, each half of the one before, Gram matrices are compared. The coarser ones see
    strokes that are long beside the features of VGG-19."""
    palette_weight: float = 30.0
    """Of the distance between the colors of the result and the whole artwork's (``palette_distance``)."""
    style_own_size: bool = True
    """Style distances are relative to each style's own Gram matrices; else to the mean size in the batch."""
    tv_weight: float = 0.0
    halo_cells: tuple[int, ...] = (32,)
    """Sides of the cells, in pixels, whose means ``halo_weight`` keeps even: larger than a stroke."""
    halo_weight: float = 2_000.0
    """Of slow changes where the picture is flat: seams along edges, clouds in a clear sky. They are faint, so
    their squares are small."""
    fringe_weight: float = 600.0
    """Of light and colored lines along edges."""
    temporal_weight: float = 150.0
    """Of the flicker under small shifts and noise; above 0 each step stylizes a second window."""
    temporal_shift: int = 6
    """Largest shift in pixels, each way."""
    temporal_noise: float = 4.0
    """Standard deviation of the noise in the second window, in gray levels of 255."""
    identity_share: float = 0.05
    """Share of pairs whose style is the content itself; teaches strength 0 to keep the picture."""
    identity_weight: float = 20.0
    """Weight of the pixel difference on those pairs."""
    strength_share: float = 0.3
    """Share of the other pairs that are painted at a strength between 0.5 and 1, as ``film.at_strength`` does
    it: with a FiLM vector between the content's own and the style's."""
    strength_power: float = 3.0
    """There the style weighs its weight times strength to this power: less style for more content."""
    style_size: int = 256
    """Side of the style crops in pixels."""
    style_zoom: float = 1.3
    """Style images are resized to a short side of style_size times 1..style_zoom before the crop that the
    style encoder sees."""
    stroke_zoom: float = 1.5
    """The crop whose Gram matrices are wanted is taken at style_size times this and the stroke size."""
    stroke_sizes: tuple[float, float] = (0.6, 2.0)
    """Stroke sizes, of which one is drawn for each view: 1 every second time, else any in this range. The
    gains of the canvas bands follow (``film.canvas_gains``), so that they become a control."""
    strokes_share: float = 0.25
    """Share of samples with another amount of canvas than 1, between none and 1.3."""
    flatness_ranks: int = 3
    """How many photographs and how many parts of an artwork a sample is drawn from. Both are ordered by
    detail, and those of the same rank are paired: flat photographs learn from the calm parts of the artwork.
    Low ranks are drawn more often. 1 for pairs as they come."""
    style_views: int = 6
    """Different crops of each style image, shared by the flatness ranks; their targets are computed once and
    kept in memory, if they are few."""
    color_shift_share: float = 0.5
    """Share of the style views that are shown in another palette."""
    content_zoom: float = 1.7
    """Largest zoom of a content crop."""
    expressive_weight: float = 2.0
    """How much more often a group named in EXPRESSIVE is drawn than another."""
    gram_pretraining_steps: int = 3000
    """Steps in which the style embedding learns to foretell Gram matrices before the run; 0 for none."""
    train_trunk: bool = False
    """Whether Inception learns too; then nothing of a style view can be computed ahead."""
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
        """The stage of a run that is ``progress`` (0..1) done."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def kept_views(self) -> int:
        """How many different crops of a style image there are: ``style_views``, in whole sets of ranks."""
        return max(1, self.style_views // self.flatness_ranks) * self.flatness_ranks

    @property
    def has_canvas(self) -> bool:
        return self.network.canvas_bands > 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """What to_dict gave. Raises InvalidArgument for names it does not know."""
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
"""The published recipe: Adam at 1e-4, batches of 32, 80 epochs, crops of 128 then 256. It says nothing of
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
"""The second phase: the generator is frozen, the whole style encoder follows it at a small step."""

LITE = TrainConfig(network=NetworkConfig(widths=(16, 32, 64), residual_blocks=4, canvas_bands=CANVAS_BANDS))
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
"""The last phase. Content, style and identity weigh the distance to what was painted before, which is small:
style changes its Gram matrices by a thousandth of their square."""

RECIPES = {
    "default": TrainConfig(),
    "lite": LITE,
    "paper": PAPER,
    "encoder": ENCODER,
    "finetune-artifacts": FINETUNE_ARTIFACTS,
}
