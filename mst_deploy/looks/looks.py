"""From a timeline to what the network paints with at every frame, and from there to the picture shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import Images, StyleEncoder
from mst_deploy.film import Film, Look, blend, look_at
from mst_deploy.images import masked, mix, with_colours_of
from mst_deploy.looks.timeline import StyleKey, Timeline
from mst_deploy.manifest import Manifest
from mst_deploy.styling import encode_film, find_style, make_style


@dataclass(frozen=True)
class FrameLook:
    """What becomes of one frame."""

    inside: Look
    outside: Look | None = None
    """Of the black part of the mask; None leaves the source there."""
    preserve_color: bool = False
    mask: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(H, W): 255 where ``inside`` is shown."""

    @property
    def films(self) -> tuple[Film, ...]:
        """Film rows with which the frame must be painted; none where only the source is shown."""
        looks = [self.inside] if self.outside is None else [self.inside, self.outside]
        return tuple(look.film for look in looks) if self.inside.share > 0 else ()

    def compose(self, source: Images, painted: Sequence[Images]) -> Images:
        """The picture shown: source (H, W, 3) and one painted picture for each of ``films``."""
        if not painted:
            return source
        if self.preserve_color:
            painted = [with_colours_of(picture, source) for picture in painted]
        shown = painted[0]
        if self.mask is not None:
            shown = masked(shown, painted[1] if len(painted) > 1 else source, self.mask)
        return mix(source, shown, self.inside.share)


@dataclass(frozen=True)
class Looks:
    """A timeline whose styles have been read."""

    timeline: Timeline
    rows: Mapping[str, Film] = field(repr=False)
    """Film row of every style of the timeline."""
    read: Callable[[Images], Film] | None = field(default=None, repr=False)
    """Reads the film row off a picture; needed where the strength is below 1."""
    own: Film | None = field(default=None, repr=False)
    """Film row of the content."""

    def begun(self, first: Images) -> Looks:
        """The same for a certain picture (H, W, 3), or for the video that begins with it."""
        if self.timeline.always_full or self.read is None:
            return self
        return replace(self, own=self.read(first))

    def at(self, time: Fraction, mask: NDArray[np.uint8] | None = None) -> FrameLook:
        """The look at a moment (seconds from the first frame). Raises InvalidArgument before begun()."""
        timeline = self.timeline
        strength = timeline.strength_at(time)
        weights = timeline.weights_at(time)
        row = blend([self.rows[name] for name in weights], list(weights.values()))
        outside = None
        if timeline.outside is not None:
            outside = look_at(self.own, self.rows[timeline.outside], strength)
        return FrameLook(look_at(self.own, row, strength), outside, timeline.preserve_color, mask)


def read_looks(timeline: Timeline, manifest: Manifest, encoder: Callable[[], StyleEncoder]) -> Looks:
    """Read all styles of a timeline; the encoder is only opened if something must be encoded.

    Raises InputError and BundleError for a style that cannot be used, before any frame is touched.
    """
    found = {name: find_style(name, manifest) for name in timeline.names}
    opened: list[StyleEncoder] = []

    def ready() -> StyleEncoder:
        if not opened:
            opened.append(encoder())
        return opened[0]

    rows = {
        name: make_style(ready(), style).film if isinstance(style, Path) else style.film
        for name, style in found.items()
    }
    if timeline.always_full:
        return Looks(timeline, rows)
    return Looks(timeline, rows, partial(encode_film, ready()))


def plain_looks(film: Film) -> Looks:
    """One film row (P,) at full strength all the time."""
    return Looks(Timeline((StyleKey("style"),)), {"style": film})
