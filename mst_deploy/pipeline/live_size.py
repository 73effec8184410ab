"""The size at which live video is stylized, so that a frame rate is kept. Pure functions of times.

Strokes have a size in pixels, so another size looks different: changes are rare, and are reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mst_deploy.errors import InvalidArgument
from mst_deploy.size import Size

SHORT_SIDES = (180, 240, 288, 360, 432, 540, 720, 1080)
"""Short sides in pixels."""
BEGIN = 0.8  # of the interval between frames: the first size shall need less
TOO_SLOW, WINDOW = 0.95, 2.0
"""A size is given up when the 90th percentile over WINDOW seconds is above this fraction of the interval."""
FAST, CALM = 0.6, 10.0
"""A larger size is tried when the 90th percentile over CALM seconds is below this fraction of the
interval,"""
LARGER = 0.9
"""and the time it will need, in proportion to its pixels, is below this one: else it would soon be given up
again."""
REST = 5.0
"""Minimum seconds between two changes."""
LEAST = 5
"""Minimum number of frames for a percentile."""


@dataclass(frozen=True)
class SizeControl:
    """State of the control."""

    rung: int
    """Index into the sizes of the policy."""
    changed: float
    """Time of the last change, in seconds of a monotonic clock."""
    times: tuple[tuple[float, float], ...] = ()
    """(time, seconds of work) of the frames at this size in the last ``CALM`` seconds."""


@dataclass(frozen=True)
class SizePolicy:
    """The sizes to choose from, smallest first, and the frame rate to keep."""

    sizes: tuple[tuple[int, int], ...]
    """(width, height)."""
    fps: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InvalidArgument(f"a frame rate to hold must be above 0, got {self.fps:g}")

    def start(self, seconds: Callable[[tuple[int, int]], float], now: float) -> SizeControl:
        """Choose the largest size whose time, linear in its pixels, is below ``BEGIN`` of the interval.

        ``seconds`` measures the time of one frame at a size; it is called for at most two.
        """
        pixels = [width * height for width, height in self.sizes]
        measured = [seconds(self.sizes[0])]
        if len(self.sizes) == 1 or measured[0] * self.fps >= BEGIN:
            return SizeControl(0, now)
        measured.append(seconds(self.sizes[1]))
        slope = max(0.0, (measured[1] - measured[0]) / (pixels[1] - pixels[0]))
        predicted = [measured[0] + slope * (each - pixels[0]) for each in pixels]
        return SizeControl(max(i for i, time in enumerate(predicted) if time * self.fps < BEGIN), now)

    def step(self, control: SizeControl, now: float, seconds: float) -> SizeControl:
        """Take the time of one more frame, and go to the next smaller or larger size where that is due."""
        recent = (*control.times, (now, seconds))
        times = tuple(time for time in recent if now - time[0] <= CALM)
        control = replace(control, times=times)
        if now - control.changed < REST:
            return control
        last = [work for when, work in times if now - when <= WINDOW]
        if control.rung > 0 and len(last) >= LEAST and _p90(last) * self.fps > TOO_SLOW:
            return SizeControl(control.rung - 1, now)
        calm = now - control.changed >= CALM and len(times) >= LEAST
        if calm and control.rung + 1 < len(self.sizes):
            load = _p90([work for _, work in times]) * self.fps
            here, above = (math.prod(self.sizes[control.rung + i]) for i in (0, 1))
            if load < FAST and load * above / here < LARGER:
                return SizeControl(control.rung + 1, now)
        return control


def sizes_for(width: int, height: int, least: int = SHORT_SIDES[0]) -> tuple[tuple[int, int], ...]:
    """Return the sizes (width, height) at which a picture can be stylized, from a short side of ``least`` to
    its own.

    Even numbers, smallest first; at least the picture's own size.
    """
    own = even(width, height)
    wanted = [side for side in SHORT_SIDES if least <= side < min(own)]
    return tuple(dict.fromkeys([*(Size(short_side=side).applied(width, height) for side in wanted), own]))


def even(width: int, height: int) -> tuple[int, int]:
    """Return the size rounded to even numbers, as video codecs require; never 0."""
    return max(2, width - width % 2), max(2, height - height % 2)


def _p90(values: Sequence[float]) -> float:
    """Return the 90th percentile, by nearest rank."""
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]
