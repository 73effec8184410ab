"""Looks tuned to the very video or picture that is about to be painted (``--tune``).

What was tuned is kept in the user's cache folder: a job that goes on after a crash paints with the same
rows, and a second run does not wait again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from mst_deploy.errors import InvalidArgument
from mst_deploy.files import user_cache
from mst_deploy.images import Image, load_image
from mst_deploy.looks.looks import Looks
from mst_deploy.looks.timeline import Timeline
from mst_deploy.manifest import Bundle, Manifest
from mst_deploy.moments import moments_of
from mst_deploy.styling import as_style, find_style
from mst_deploy.tuning import Tuned, Tuner, Tuning, normalised_vgg
from mst_deploy.video.demuxing import PIPE
from mst_deploy.video.info import ReadOptions


@dataclass(frozen=True)
class LooksTuner:
    """Fits every style of a timeline to a source, with the settings of ``tuning.Tuning``."""

    bundle: Bundle
    paintings: Mapping[str, Image]
    """Of every style of the timeline, at the size the encoder looks at."""
    vgg: Path | None = None
    """VGG-19; None for torchvision's, which is downloaded once."""
    device: str = "auto"

    @cached_property
    def tuner(self) -> Tuner:
        """Made with the first source: normalising VGG-19 takes seconds."""
        return Tuner(self.bundle, normalised_vgg(self.vgg, None), self.device, Tuning(), user_cache("tuned"))

    def __call__(
        self,
        looks: Looks,
        source: Path,
        read: ReadOptions | None = None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> tuple[Looks, dict[str, Tuned]]:
        """The looks with tuned film rows, and what each style gained.

        ``read`` says which part of a video will be painted; ``tell`` gets what is being done. Raises
        InputError and InvalidArgument where there is nothing to look at.
        """
        if source == PIPE:
            raise InvalidArgument(
                "--tune looks at the video before it is painted, and a pipe can be read only once; "
                "give the file itself, or tune with mst style tune before"
            )
        moments = moments_of(source, read=read)
        found: dict[str, Tuned] = {}
        for name, painting in self.paintings.items():
            note = partial(_note, tell, Path(name).stem)
            found[name] = self.tuner(looks.rows[name], moments, painting, note)
        rows = {name: tuned.film for name, tuned in found.items()}
        return replace(looks, rows={**looks.rows, **rows}), found


def _note(tell: Callable[[str], None], style: str, done: int) -> None:
    tell(f"tuning {style}, step {done} of {Tuning.steps}")


def paintings_of(timeline: Timeline, manifest: Manifest) -> dict[str, Image]:
    """The pictures that the styles of a timeline are read off.

    Raises InvalidArgument for a style that has none any more, InputError and BundleError as ``find_style``.
    """
    found = {}
    for name in timeline.names:
        style = find_style(name, manifest)
        if not isinstance(style, Path):
            raise InvalidArgument(
                f"the style {name!r} is a row of numbers that was read off a picture, and --tune needs the "
                "picture itself; give it with --style"
            )
        found[name] = as_style(load_image(style), manifest)
    return found
