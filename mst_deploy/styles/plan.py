"""Style plans: from a timeline to the FiLM parameters of every frame, and to the composed picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import Images, StyleEncoder
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import masked, mix, with_colors_of
from mst_deploy.model.bundle import Manifest
from mst_deploy.model.film import Blend, FilmLayout, FilmParams, Style, at_strength, blend, canvas_gains
from mst_deploy.styles.resolve import encode_film, make_style, resolve_style
from mst_deploy.styles.timeline import StyleKey, Timeline


@dataclass(frozen=True)
class FramePlan:
    """FiLM parameters and composition of one frame."""

    inside: Blend
    background_style: Blend | None = None
    """Blend for the black part of the mask; None leaves the source there."""
    preserve_color: bool = False
    mask: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(H, W): 255 where ``inside`` is shown."""

    @property
    def film_params(self) -> tuple[FilmParams, ...]:
        """FiLM vectors with which the frame must be stylized; empty if only the source is shown."""
        blends = [self.inside] if self.background_style is None else [self.inside, self.background_style]
        return tuple(blend.film for blend in blends) if self.inside.opacity > 0 else ()

    def compose(self, source: Images, stylized: Sequence[Images]) -> Images:
        """Return the composed picture from the source (H, W, 3) and one stylized picture for each of
        ``film_params``."""
        if not stylized:
            return source
        if self.preserve_color:
            stylized = [with_colors_of(picture, source) for picture in stylized]
        composed = stylized[0]
        if self.mask is not None:
            composed = masked(composed, stylized[1] if len(stylized) > 1 else source, self.mask)
        return mix(source, composed, self.inside.opacity)


@dataclass(frozen=True)
class StylePlan:
    """A timeline with the FiLM vectors of its styles."""

    timeline: Timeline
    film_params: Mapping[str, FilmParams] = field(repr=False)
    """FiLM vector of every style of the timeline, by name."""
    read: Callable[[Images], FilmParams] | None = field(default=None, repr=False)
    """Encodes the FiLM vector of a picture; needed for strengths below 1."""
    own: FilmParams | None = field(default=None, repr=False)
    """FiLM vector of the content."""
    layout: FilmLayout | None = None
    """Layout of a model with a canvas; None for a model without one."""
    defaults: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Default strokes and stroke size of styles for which they are not 1 and 1."""

    @property
    def has_canvas(self) -> bool:
        """Whether the model has a canvas."""
        return self.layout is not None

    def started_with(self, first: Images) -> StylePlan:
        """Return the plan for a picture (H, W, 3), or for the video whose first frame it is."""
        if self.timeline.always_full or self.read is None:
            return self
        own = self.read(first)
        return replace(self, own=own if self.layout is None else self.layout.without_canvas(own))

    def film_params_at(self, name: str, time: Fraction) -> FilmParams:
        """Return the FiLM vector of a style at a time in seconds, with the gains of the requested strokes."""
        if self.layout is None:
            return self.film_params[name]
        strokes, size = self.defaults.get(name, (1.0, 1.0))
        gains = canvas_gains(
            self.layout.canvas_bands,
            strokes * self.timeline.strokes_at(time),
            size * self.timeline.stroke_size_at(time),
        )
        return self.layout.with_gains(self.film_params[name], gains)

    def at(self, time: Fraction, mask: NDArray[np.uint8] | None = None) -> FramePlan:
        """Return the frame plan at a time in seconds from the first frame. Raises InvalidArgument before
        started_with()."""
        timeline = self.timeline
        strength = timeline.strength_at(time)
        weights = timeline.weights_at(time)
        film = blend([self.film_params_at(name, time) for name in weights], list(weights.values()))
        background_style = None
        if timeline.background_style is not None:
            background_style = at_strength(
                self.own, self.film_params_at(timeline.background_style, time), strength
            )
        return FramePlan(
            at_strength(self.own, film, strength), background_style, timeline.preserve_color, mask
        )


def load_plan(
    timeline: Timeline,
    manifest: Manifest,
    encoder: Callable[[], StyleEncoder],
    read_style: Callable[[str], Style] | None = None,
) -> StylePlan:
    """Load all styles of a timeline; the encoder is only opened if a picture must be encoded.

    ``read_style`` loads one by its name, for callers that cache styles. Raises InputError and BundleError for
    an unusable style, InvalidArgument for strokes without a canvas, before any frame is processed.
    """
    if timeline.needs_canvas and not manifest.canvas_bands:
        raise InvalidArgument(
            field="strokes",
            problem=(
                f"the model {manifest.name} paints without a canvas, so it has no strokes, stroke size or "
                "seed to choose"
            ),
            hint="leave them out, or choose a model with a canvas",
        )
    opened = cache(encoder)

    def read(name: str) -> Style:
        resolved = resolve_style(name, manifest)
        return make_style(opened(), resolved) if isinstance(resolved, Path) else resolved

    styles = {name: (read_style or read)(name) for name in timeline.names}
    plan = StylePlan(
        timeline,
        {name: style.film for name, style in styles.items()},
        layout=manifest.layout if manifest.canvas_bands else None,
        defaults={name: (style.strokes, style.stroke_size) for name, style in styles.items()},
    )
    return plan if timeline.always_full else replace(plan, read=partial(encode_film, opened()))


def plan_of(style: Style, manifest: Manifest) -> StylePlan:
    """Return a plan of one style at full strength, with the style's own defaults of strokes."""
    plan = constant_plan(style.film, manifest)
    return replace(plan, defaults={"style": (style.strokes, style.stroke_size)})


def constant_plan(film: FilmParams, manifest: Manifest | None = None) -> StylePlan:
    """Return a plan with one FiLM vector (P,) at full strength; the manifest determines whether there is a
    canvas."""
    bands = 0 if manifest is None else manifest.canvas_bands
    layout = manifest.layout if manifest is not None and bands else None
    return StylePlan(Timeline((StyleKey("style"),)), {"style": film}, layout=layout)
