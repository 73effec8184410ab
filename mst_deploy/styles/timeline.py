"""Styles over time: which style at what strength at which moment, as plain values.

A timeline is a row of keys. Between two keys everything is interpolated linearly in time; before the
first and after the last key it stays as it is there. The command line, a YAML file
(``timeline_file.py``) and the Python API all make this one type. Times are seconds from the first frame
that is shown, as exact fractions.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from mst_deploy.errors import InvalidArgument
from mst_deploy.video.time_ranges import parse_time

TIME = re.compile(r"[\d:.]+", re.ASCII)
NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


def _refuse_negative(time: Fraction) -> None:
    if time < 0:
        raise InvalidArgument(
            field="time",
            problem=f"a time must not be negative, got {float(time):g} s",
            hint="the clip starts at 0",
        )


@dataclass(frozen=True)
class StyleKey:
    """A style that is in force at a moment; several of one moment are mixed by their weights."""

    style: str
    """Image, style file or name of a shipped style."""
    time: Fraction = Fraction(0)
    """Seconds."""
    weight: float = 1.0
    """Relative to the other styles of the same moment."""

    def __post_init__(self) -> None:
        if not self.style:
            raise InvalidArgument(
                field="style", problem="a style needs a name: an image, a style file or a shipped style"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InvalidArgument(
                field="style",
                problem=f"the weight of style {self.style!r} must be above 0, got {self.weight:g}",
            )
        _refuse_negative(self.time)

    @classmethod
    def parse(cls, text: str) -> StyleKey:
        """``STYLE[=WEIGHT][@TIME]``: ``wave.jpg``, ``wave.jpg@00:10``, ``wave.jpg=0.7@5``."""
        name, moment = _split_time(text)
        rest, sign, weight = name.rpartition("=")
        if sign and NUMBER.fullmatch(weight):
            return cls(rest, moment, float(weight))
        return cls(name, moment)


@dataclass(frozen=True)
class StrengthKey:
    """The strength at a moment: 0 is the source itself, 1 the full style."""

    strength: float
    time: Fraction = Fraction(0)
    """Seconds."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise InvalidArgument(
                field="strength", problem=f"strength must be between 0 and 1, got {self.strength:g}"
            )
        _refuse_negative(self.time)

    @classmethod
    def parse(cls, text: str) -> StrengthKey:
        """``STRENGTH[@TIME]``: ``0.6``, ``0@0``, ``1@00:05``."""
        value, moment = _split_time(text)
        if not NUMBER.fullmatch(value):
            raise InvalidArgument(
                field="strength",
                problem=(
                    f"cannot use {text!r} as a strength: give a number from 0 to 1, with @TIME if it changes"
                ),
            )
        return cls(float(value), moment)


@dataclass(frozen=True)
class StrokesKey:
    """How much canvas is painted into flat areas at a moment: 0 is the calmest, 1 as trained."""

    strokes: float
    time: Fraction = Fraction(0)
    """Seconds."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strokes <= 2.0:
            raise InvalidArgument(
                field="strokes", problem=f"strokes must be between 0 and 2, got {self.strokes:g}"
            )
        _refuse_negative(self.time)

    @classmethod
    def parse(cls, text: str) -> StrokesKey:
        """``NUMBER[@TIME]``: ``0.6``, ``0@0``, ``1@00:05``."""
        value, moment = _split_time(text)
        if not NUMBER.fullmatch(value):
            raise InvalidArgument(
                field="strokes",
                problem=(
                    f"cannot use {text!r} for strokes: give a number from 0 to 2, with @TIME if it changes"
                ),
            )
        return cls(float(value), moment)


@dataclass(frozen=True)
class StrokeSizeKey:
    """The size of the strokes at a moment: 1 as trained, 2 twice as large."""

    size: float
    time: Fraction = Fraction(0)
    """Seconds."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.size <= 3.0:
            raise InvalidArgument(
                field="stroke_size", problem=f"a stroke size must be between 0.5 and 3, got {self.size:g}"
            )
        _refuse_negative(self.time)

    @classmethod
    def parse(cls, text: str) -> StrokeSizeKey:
        """``NUMBER[@TIME]``: ``1.5``, ``1@0``, ``3@00:05``."""
        value, moment = _split_time(text)
        if not NUMBER.fullmatch(value):
            raise InvalidArgument(
                field="stroke_size",
                problem=(
                    f"cannot use {text!r} as a stroke size: give a number from 0.5 to 3, with @TIME if it "
                    "changes"
                ),
            )
        return cls(float(value), moment)


@dataclass(frozen=True)
class Timeline:
    """How every frame of a video, or one picture, shall look."""

    styles: tuple[StyleKey, ...]
    """At least one; in any order."""
    strength: tuple[StrengthKey, ...] = (StrengthKey(1.0),)
    strokes: tuple[StrokesKey, ...] = (StrokesKey(1.0),)
    stroke_size: tuple[StrokeSizeKey, ...] = (StrokeSizeKey(1.0),)
    seed: int = 0
    """Of the canvas; another seed paints other strokes."""
    preserve_color: bool = False
    """Keep the colors of the source; only the luminance is the style's."""
    mask: Path | None = None
    """A picture or video: white is painted, black is not, gray is between."""
    background_style: str | None = None
    """Style of the black part of the mask; None leaves the source there."""

    def __post_init__(self) -> None:
        if not self.styles:
            raise InvalidArgument(field="style", problem="no style was given", hint="name at least one")
        if not self.strength:
            raise InvalidArgument(
                field="strength", problem="no strength was given", hint="leave it out for the full style"
            )
        if not self.strokes or not self.stroke_size:
            raise InvalidArgument(
                field="strokes", problem="no strokes or stroke size was given", hint="leave them out for 1"
            )
        if not 0 <= self.seed < 2**63:
            raise InvalidArgument(
                field="seed", problem=f"a seed must be a whole number from 0 up, got {self.seed}"
            )
        _refuse_doubles([(key.time, f"style {key.style!r}") for key in self.styles])
        _refuse_doubles([(key.time, "strength") for key in self.strength])
        _refuse_doubles([(key.time, "strokes") for key in self.strokes])
        _refuse_doubles([(key.time, "stroke size") for key in self.stroke_size])
        if self.background_style is not None and self.mask is None:
            raise InvalidArgument(
                field="mask", problem="a style outside the mask needs a mask", hint="give [option:mask] too"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Every style that is needed, each once, in the order of their first use."""
        background_style = [] if self.background_style is None else [self.background_style]
        return tuple(dict.fromkeys([*(key.style for key in self.styles), *background_style]))

    @property
    def label(self) -> str:
        """The styles as a part of a file name: ``wave`` or ``wave-zodiac``."""
        inside = dict.fromkeys(Path(key.style).stem for key in self.styles)
        return "-".join(inside) or "styled"

    @property
    def changes(self) -> bool:
        """Whether time matters."""
        keys = (self.styles, self.strength, self.strokes, self.stroke_size)
        return any(len({key.time for key in each}) > 1 for each in keys)

    @property
    def needs_canvas(self) -> bool:
        """Whether something was chosen that only a model with a canvas can do."""
        return (
            any(key.strokes != 1.0 for key in self.strokes)
            or any(key.size != 1.0 for key in self.stroke_size)
            or self.seed != 0
        )

    @property
    def always_full(self) -> bool:
        """Whether the strength is 1 throughout, so that the source's own FiLM vector is not needed."""
        return all(key.strength == 1.0 for key in self.strength)

    def weights_at(self, time: Fraction) -> dict[str, float]:
        """Weight of every style at a moment (seconds); they sum to 1."""
        ordered = sorted(self.styles, key=lambda key: key.time)
        groups = [(moment, list(keys)) for moment, keys in groupby(ordered, key=lambda key: key.time)]
        before, after, share = between([moment for moment, _ in groups], time)
        weights: dict[str, float] = {}
        for (_, keys), part in ((groups[before], 1.0 - share), (groups[after], share)):
            total = sum(key.weight for key in keys)
            for key in keys:
                if part > 0:
                    weights[key.style] = weights.get(key.style, 0.0) + part * key.weight / total
        return weights

    def strength_at(self, time: Fraction) -> float:
        """Strength at a moment (seconds), 0..1."""
        return interpolated([(key.time, key.strength) for key in self.strength], time)

    def strokes_at(self, time: Fraction) -> float:
        """Amount of strokes at a moment (seconds), 0..2."""
        return interpolated([(key.time, key.strokes) for key in self.strokes], time)

    def stroke_size_at(self, time: Fraction) -> float:
        """Size of the strokes at a moment (seconds), 0.5..3."""
        return interpolated([(key.time, key.size) for key in self.stroke_size], time)


def interpolated(keys: list[tuple[Fraction, float]], time: Fraction) -> float:
    """The value at a moment between keys of (time, value), in any order."""
    ordered = sorted(keys)
    before, after, share = between([moment for moment, _ in ordered], time)
    return (1.0 - share) * ordered[before][1] + share * ordered[after][1]


def between(times: list[Fraction], time: Fraction) -> tuple[int, int, float]:
    """Neighbors of ``time`` in a sorted list, and how far it is from the first to the second (0..1)."""
    after = bisect_right(times, time)
    if after == 0:
        return 0, 0, 0.0
    if after == len(times):
        return after - 1, after - 1, 0.0
    before = after - 1
    return before, after, float((time - times[before]) / (times[after] - times[before]))


def _split_time(text: str) -> tuple[str, Fraction]:
    """Name and time of ``NAME@TIME``; a name with an @ in it that no time follows stays whole."""
    name, sign, moment = text.rpartition("@")
    if sign and TIME.fullmatch(moment):  # then it is meant as one
        return name, parse_time(moment)
    return text, Fraction(0)


def _refuse_doubles(keys: list[tuple[Fraction, str]]) -> None:
    for index, (time, what) in enumerate(keys):
        if (time, what) in keys[:index]:
            raise InvalidArgument(f"two values of {what} for the time {float(time):g} s; leave one out")
