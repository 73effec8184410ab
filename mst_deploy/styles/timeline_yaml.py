"""Timelines in YAML files.

    styles:
      - {style: wave.jpg, at: 0}
      - {style: zodiac, at: "00:10", weight: 2}
    strength:
      - {value: 0, at: 0}
      - {value: 1, at: 5}
    strokes:
      - {value: 0, at: 0}
      - {value: 1, at: 5}
    stroke_size: 1.5
    seed: 7
    preserve_color: true
    mask: person.png
    background_style: the-scream

``styles: wave.jpg`` and ``strength: 0.6`` do where nothing changes. Files are looked for beside the YAML
file.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.styles.timeline import StrengthKey, StrokeSizeKey, StrokesKey, StyleKey, Timeline
from mst_deploy.video.time_ranges import parse_time

ENTRIES = {
    "styles",
    "strength",
    "strokes",
    "stroke_size",
    "seed",
    "preserve_color",
    "mask",
    "background_style",
    "outside",
}


def load_timeline(path: Path) -> Timeline:
    """Read a YAML file. Raises InputError, naming the entry at fault."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the timeline {path}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    try:
        return read_timeline(values, path.parent)
    except InvalidArgument as error:
        raise InputError(f"cannot use the timeline {path}: {error}") from error


def read_timeline(values: Any, folder: Path = Path()) -> Timeline:
    """A timeline of parsed YAML; names of files are relative to ``folder``. Raises InvalidArgument."""
    entries = _mapping(values, ENTRIES, "the timeline")
    if "styles" not in entries:
        raise InvalidArgument(
            field="styles", problem="it has no entry 'styles'", hint="name at least one style there"
        )
    mask, background_style = entries.get("mask"), entries.get("background_style", entries.get("outside"))
    preserve = entries.get("preserve_color", False)
    if not isinstance(preserve, bool):
        raise InvalidArgument(
            field="preserve_color", problem=f"preserve_color must be true or false, got {preserve!r}"
        )
    seed = entries.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidArgument(field="seed", problem=f"seed must be a whole number, got {seed!r}")
    strokes = [_value(entry, "strokes") for entry in _listed(entries.get("strokes", 1.0))]
    sizes = [_value(entry, "stroke_size") for entry in _listed(entries.get("stroke_size", 1.0))]
    return Timeline(
        strokes=tuple(StrokesKey(*each) for each in strokes),
        stroke_size=tuple(StrokeSizeKey(*each) for each in sizes),
        seed=seed,
        styles=tuple(_style(entry, folder) for entry in _listed(entries["styles"])),
        strength=tuple(_strength(entry) for entry in _listed(entries.get("strength", 1.0))),
        preserve_color=preserve,
        mask=None if mask is None else folder / _text(mask, "mask"),
        background_style=None
        if background_style is None
        else _beside(_text(background_style, "background_style"), folder),
    )


def _style(entry: Any, folder: Path) -> StyleKey:
    if isinstance(entry, str):
        entry = {"style": entry}
    entry = _mapping(entry, {"style", "at", "weight"}, "an entry of styles")
    name = _beside(_text(entry.get("style"), "style"), folder)
    return StyleKey(name, _time(entry.get("at", 0)), _number(entry.get("weight", 1), "weight"))


def _strength(entry: Any) -> StrengthKey:
    return StrengthKey(*_value(entry, "strength"))


def _value(entry: Any, name: str) -> tuple[float, Fraction]:
    """A number, or {value, at} -> the number and its time."""
    if not isinstance(entry, dict):
        entry = {"value": entry}
    entry = _mapping(entry, {"value", "at"}, f"an entry of {name}")
    return _number(entry.get("value"), f"the value of {name}"), _time(entry.get("at", 0))


def _beside(name: str, folder: Path) -> str:
    """A file beside the YAML file if there is one of this name, else the name of a shipped style."""
    return str(folder / name) if (folder / name).exists() else name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _mapping(value: Any, known: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be 'name: value' pairs, got {value!r}")
    unknown = sorted(map(str, value.keys() - known))
    if unknown:
        raise InvalidArgument(f"{what} has {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{what} must be a name, got {value!r}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"{what} must be a number, got {value!r}")
    return float(value)


def _time(value: Any) -> Fraction:
    """Seconds. YAML itself reads an unquoted 1:30 as 90."""
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidArgument(f'at must be seconds or "MM:SS", got {value!r}')
    return Fraction(str(value))
