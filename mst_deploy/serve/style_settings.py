"""Style settings of a request: names of styles, never files, and numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mst_deploy.errors import InvalidArgument
from mst_deploy.size import Size
from mst_deploy.styles.timeline import StrengthKey, StrokeSizeKey, StrokesKey, StyleKey, Timeline

MOST_STYLES = 4
"""Styles that are mixed at most."""


@dataclass(frozen=True)
class StyleSettings:
    """Styles with weights, and the settings of ``mst image`` of the same names."""

    style: tuple[str, ...]
    """``NAME`` or ``NAME=WEIGHT``; several are mixed."""
    strength: float = 1.0
    strokes: float = 1.0
    stroke_size: float = 1.0
    seed: int = 0
    preserve_color: bool = False

    @classmethod
    def of(cls, values: Any) -> Self:
        """Read style settings from JSON values. Raises InvalidArgument."""
        known = {field.name: field for field in fields(cls)}
        if not isinstance(values, dict) or set(values) - set(known):
            raise InvalidArgument(f"style settings must be a JSON object with {', '.join(known)}")
        values = dict(values)
        style = values.get("style")
        names = [style] if isinstance(style, str) else style
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise InvalidArgument(field="style", problem="give the name of a style, or a list of them")
        for name in ("strength", "strokes", "stroke_size", "seed"):
            value = values.get(name, 0)
            wanted = int if name == "seed" else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise InvalidArgument(field=name, problem=f"{name} must be a number")
        if not isinstance(values.get("preserve_color", False), bool):
            raise InvalidArgument(field="preserve_color", problem="preserve_color must be true or false")
        return cls(**{**values, "style": tuple(names)})

    def values(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)

    def timeline(self) -> Timeline:
        """Return it as a timeline without changes. Raises InvalidArgument."""
        if len(self.style) > MOST_STYLES:
            raise InvalidArgument(field="style", problem=f"at most {MOST_STYLES} styles are mixed")
        if not math.isfinite(self.strength + self.strokes + self.stroke_size):
            raise InvalidArgument(field="strength", problem="numbers must be finite")
        return Timeline(
            tuple(_style_key(text) for text in self.style),
            strength=(StrengthKey(self.strength),),
            strokes=(StrokesKey(self.strokes),),
            stroke_size=(StrokeSizeKey(self.stroke_size),),
            seed=self.seed,
            preserve_color=self.preserve_color,
        )


def _style_key(text: str) -> StyleKey:
    """Parse ``NAME[=WEIGHT]``; unlike ``StyleKey.parse`` it reads no file."""
    name, sign, weight = text.partition("=")
    if not sign:
        return StyleKey(text)
    try:
        return StyleKey(name, weight=float(weight))
    except ValueError as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            field="style", problem=f"cannot use {weight[:40]!r} as the weight of a style: give a number"
        ) from None


def size_within(text: str, width: int, height: int, pixels: int) -> tuple[int, int]:
    """Return (width, height) of a result from ``WIDTHxHEIGHT``, a short side, or "" for the picture's own.

    Raises InvalidArgument for one of more ``pixels``.
    """
    wide, high = Size.parse(text).applied(width, height) if text else (width, height)
    if wide * high > pixels:
        raise InvalidArgument(
            field="size",
            problem=f"a result of {wide}x{high} is more than {pixels / 1e6:g} megapixels",
            hint="choose a smaller size",
        )
    return wide, high
