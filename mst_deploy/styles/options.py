"""Options of the style of a result: which styles, when, how strong and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mst_deploy.errors import InvalidArgument
from mst_deploy.options import STROKES, STYLE, Option
from mst_deploy.styles.timeline import StrengthKey, StrokeSizeKey, StrokesKey, StyleKey, Timeline

PreserveColor = Annotated[
    bool, Option("Keep the colors of the source; the style gives the luminance.", STYLE)
]


@dataclass(frozen=True)
class StrengthOptions:
    """How strong the styles are, and the strokes in flat areas."""

    strength: Annotated[
        tuple[StrengthKey, ...],
        Option(
            "0 is the source itself, 1 the full style (default). In a video, repeat it with times to "
            "change it.",
            STYLE,
            metavar="NUMBER[@TIME]",
            parse=StrengthKey.parse,
        ),
    ] = ()
    preserve_color: PreserveColor = False
    strokes: Annotated[
        tuple[StrokesKey, ...],
        Option(
            "Strength of the strokes in flat areas (skies, walls, roads): 0 is the calmest, 1 the default, "
            "2 the most. In a video, repeat it with times to change it.",
            STROKES,
            metavar="NUMBER[@TIME]",
            parse=StrokesKey.parse,
        ),
    ] = ()
    stroke_size: Annotated[
        tuple[StrokeSizeKey, ...],
        Option(
            "Size of these strokes, 0.5 to 3; 1 is the default. In a video, repeat it with times to change "
            "it.",
            STROKES,
            metavar="NUMBER[@TIME]",
            parse=StrokeSizeKey.parse,
        ),
    ] = ()
    seed: Annotated[
        int | None, Option("Another number gives other strokes. Default: 0.", STROKES, minimum=0)
    ] = None

    def timeline(
        self, styles: tuple[StyleKey, ...], mask: Path | None = None, background_style: str | None = None
    ) -> Timeline:
        """Return the timeline of these styles. Raises InvalidArgument."""
        return Timeline(
            styles=styles,
            strength=self.strength or (StrengthKey(1.0),),
            strokes=self.strokes or (StrokesKey(1.0),),
            stroke_size=self.stroke_size or (StrokeSizeKey(1.0),),
            seed=self.seed or 0,
            preserve_color=self.preserve_color,
            mask=mask,
            background_style=background_style,
        )


@dataclass(frozen=True)
class TimelineOptions:
    """Styles over time with all that belongs to them, or a YAML file that says the same."""

    style: Annotated[
        tuple[StyleKey, ...],
        Option(
            "An image, a style file, or the name of a shipped style (see: mst style list). Repeat it to mix "
            "styles by weight, or in a video with times to fade from one to the next.",
            STYLE,
            metavar="STYLE[=WEIGHT][@TIME]",
            parse=StyleKey.parse,
            letter="s",
        ),
    ] = ()
    strength: StrengthOptions = field(default_factory=StrengthOptions)
    mask: Annotated[
        Path | None,
        Option(
            "Picture, or for a video also a video: white is stylized, black stays as it is (or see "
            "[option:background_style]).",
            STYLE,
        ),
    ] = None
    background_style: Annotated[str | None, Option("Style of the black part of the mask.", STYLE)] = None
    timeline: Annotated[
        Path | None, Option("YAML file with all of these settings; see docs/video.md.", STYLE)
    ] = None

    def load(self) -> Timeline:
        """Return the timeline that is described. Raises InvalidArgument, and InputError for a YAML file."""
        if self.timeline is None:
            if not self.style:
                raise InvalidArgument(
                    field="style", problem="name a style, or a YAML file with [option:timeline]"
                )
            return self.strength.timeline(self.style, self.mask, self.background_style)
        if self != TimelineOptions(timeline=self.timeline):
            raise InvalidArgument(
                f"{self.timeline} says which styles are wanted, how and where; leave out [option:style], "
                "[option:strength], [option:strokes], [option:stroke_size], [option:seed], "
                "[option:preserve_color], [option:mask] and [option:background_style]"
            )
        from mst_deploy.styles.timeline_yaml import load_timeline  # here, because it loads a parser of YAML

        return load_timeline(self.timeline)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the YAML file, if there is one."""
        return () if self.timeline is None else (self.timeline,)


@dataclass(frozen=True)
class OptimizeStyleOptions:
    """Optimization of the styles for each input."""

    optimize_style: Annotated[
        bool,
        Option(
            "Optimize the style for each input first: closer to the painting, in a video less flicker, one "
            "to three minutes on a CPU. Needs pictures as styles, and VGG-19; see mst style optimize.",
            STYLE,
        ),
    ] = False
    vgg: Annotated[
        Path | None,
        Option("VGG-19 for [option:optimize_style]: .pth or .safetensors. Default: downloaded once.", STYLE),
    ] = None

    def __post_init__(self) -> None:
        if self.vgg is not None and not self.optimize_style:
            raise InvalidArgument(
                field="vgg",
                problem="[option:vgg] is used by [option:optimize_style] alone",
                hint="give both or neither",
            )


@dataclass(frozen=True)
class OptimizeOptions:
    """Options of the optimization."""

    steps: int = 16
    style_weight: float = 4.0
    """Weight of the style distance relative to the content distance (``perceptual``)."""
    halo_weight: float = 1_500.0
    """Weight of ``low_frequency_bleed_loss``: seams along edges and clouds in flat areas."""
    fringe_weight: float = 1_000.0
    """Weight of ``edge_fringe_loss``: light and colored lines along edges."""
    temporal_weight: float = 0.6
    """Weight of log(1 + flicker in gray levels). Flicker is the warping error: the mean RGB distance
    between corresponding pixels of a frame and the next. Halving it has the same value in a noisy clip
    as in a calm one."""
    temporal_limit: float = 0.5
    """Largest norm of the flicker gradient relative to that of the distances. Below 1 it cannot reverse
    them, so the style is preserved; infinity is no limit."""
    at_once: int = 3
    """Number of frame pairs per step; if there are more, they are used in turn."""
    strengths: tuple[float, ...] = (1.0,)
    """Strengths at which the pictures are stylized, in turn (see ``film.with_strength``). A vector
    optimized at 1 alone may give worse pictures at intermediate strengths. Below 1 the style weight is
    multiplied by strength to the power STRENGTH_POWER, as in training."""
    rate: float = 0.04
    """First step size of every value of the vector; decays linearly to a fifth."""

    def __post_init__(self) -> None:
        counts = self.steps, self.at_once
        weights = (
            self.style_weight,
            self.halo_weight,
            self.fringe_weight,
            self.temporal_weight,
            self.temporal_limit,
        )
        possible = all(0 < strength <= 1 for strength in self.strengths) and self.strengths
        if min(counts) < 1 or not all(weight >= 0 for weight in weights) or not self.rate > 0 or not possible:
            raise InvalidArgument(
                "an optimization needs steps, weights of 0 or more, a positive rate and strengths above 0 "
                f"and up to 1, got {self}"
            )


FOR_ALL = OptimizeOptions(
    style_weight=8.0, halo_weight=6_000.0, fringe_weight=4_000.0, strengths=(1.0, 0.9, 0.8)
)
"""Options for the built-in photographs, which represent all. A style can be weakened by the strength, not
amplified."""

FRAMES = 3
"""Default number of frame pairs of a video that a style is optimized for."""
FRAME_SIZE = 320
"""Largest short side of these frames in pixels."""
