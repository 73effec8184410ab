"""Styles optimized for the video or picture that is about to be stylized (``optimize_style``).

Optimized FiLM vectors are kept in the user's cache folder: a job resumed after a crash uses the same ones,
and a second run does not optimize again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from mst_deploy.errors import InvalidArgument
from mst_deploy.files import user_cache
from mst_deploy.images import Image, load_image
from mst_deploy.model.bundle import Bundle, Manifest
from mst_deploy.styles.optimize import OptimizedStyle, StyleOptimizer, normalized_vgg
from mst_deploy.styles.options import OptimizeOptions
from mst_deploy.styles.plan import StylePlan
from mst_deploy.styles.resolve import as_style, resolve_style
from mst_deploy.styles.timeline import Timeline
from mst_deploy.styles.tuning_data import sample_frames
from mst_deploy.video.demuxing import is_pipe
from mst_deploy.video.options import ReadOptions


@dataclass(frozen=True)
class PlanOptimizer:
    """Optimizes every style of a timeline for a source, with the settings of
    ``styles.optimize.OptimizeOptions``."""

    bundle: Bundle
    paintings: Mapping[str, Image]
    """Pictures (H, W, 3) uint8 of all styles of the timeline by name, at the size of the encoder's input."""
    vgg: Path | None = None
    """VGG-19; None for torchvision's, which is downloaded once."""
    device: str = "auto"

    @cached_property
    def style_optimizer(self) -> StyleOptimizer:
        """Return the optimizer, created with the first source: normalizing VGG-19 takes seconds."""
        return StyleOptimizer(
            self.bundle, normalized_vgg(self.vgg, None), self.device, OptimizeOptions(), user_cache("tuned")
        )

    def __call__(
        self,
        style_plan: StylePlan,
        source: Path,
        read: ReadOptions | None = None,
        on_progress: Callable[[str], None] = lambda note: None,
    ) -> tuple[StylePlan, dict[str, OptimizedStyle]]:
        """Return the plan with optimized FiLM vectors, and the optimization result of each style by name.

        ``read`` selects the part of a video that will be stylized; ``on_progress`` gets a note on each step.
        Raises InputError and InvalidArgument for a source without frames.
        """
        if is_pipe(source):
            raise InvalidArgument(
                field="optimize_style",
                problem=(
                    "[option:optimize_style] looks at the video before it is painted, and a pipe can be read "
                    "only once"
                ),
                hint="give the file itself, or use mst style optimize before",
            )
        moments = sample_frames(source, read=read)
        found: dict[str, OptimizedStyle] = {}
        for name, painting in self.paintings.items():
            note = partial(_note, on_progress, Path(name).stem)
            found[name] = self.style_optimizer(style_plan.film_params[name], moments, painting, note)
        optimized = {name: style.film for name, style in found.items()}
        return replace(style_plan, film_params={**style_plan.film_params, **optimized}), found


def _note(on_progress: Callable[[str], None], style: str, done: int) -> None:
    on_progress(f"optimizing {style}, step {done} of {OptimizeOptions.steps}")


def artworks_of(timeline: Timeline, manifest: Manifest) -> dict[str, Image]:
    """Return the pictures that the styles of a timeline are made from.

    Raises InvalidArgument for a style without its picture, InputError and BundleError as ``resolve_style``.
    """
    found = {}
    for name in timeline.names:
        style = resolve_style(name, manifest)
        if not isinstance(style, Path):
            raise InvalidArgument(
                field="optimize_style",
                problem=(
                    f"the style {name!r} is a FiLM vector read off a picture, and [option:optimize_style] "
                    "needs the picture itself"
                ),
                hint="give it with [option:style]",
            )
        found[name] = as_style(load_image(style), manifest)
    return found
