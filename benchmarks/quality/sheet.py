"""Blind comparison of systems by viewers: sheets of two unnamed results, forms, and votes.

A sheet shows an artwork and below it two results for one photograph, labeled A and B. A key file, hidden from
the viewers, says which system is which. Forms are CSV files with the columns
``sheet,manner,publish,complaint``: the questions are answered with A, B or =, a complaint is free text.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mst_deploy.benchmarks.quality.sets import Pair
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.images import Image, load_image, resize, save_image

QUESTIONS = {
    "manner": "Which looks more as if the painter of the artwork had painted it?",
    "publish": "Which would you rather publish?",
}
COLUMNS = ("sheet", *QUESTIONS, "complaint")
ANSWERS = ("A", "B", "=")
FORM, HOW = "form.csv", "how.txt"
KEY_FORMAT = 1

GAP, LABEL = 16, 36  # pixels of white between pictures, and height in pixels of the line with the label
ARTWORK_HEIGHT = 420  # largest height in pixels at results of 640 pixels; scaled with them
NORMAL_95 = 1.959963984540054  # quantile of the normal distribution at 97.5 %


@dataclass(frozen=True)
class Sheet:
    """One comparison: its pair, and which system is A and which B."""

    sheet: str
    """Name of the sheet in the form: a number with leading zeros."""
    pair: str
    first: str
    """System that the table names first; A or B at random."""
    a: str
    b: str

    @property
    def second(self) -> str:
        """System that the table names second."""
        return self.b if self.first == self.a else self.a


@dataclass(frozen=True)
class Votes:
    """Answers to one question about two systems."""

    first: int
    second: int
    equal: int

    @property
    def decided(self) -> int:
        """Number of votes for one of both."""
        return self.first + self.second


@dataclass(frozen=True)
class Share:
    """A share of votes and its 95 % confidence interval; all NaN without votes."""

    share: float
    low: float
    high: float


def matches(systems: Sequence[str], *, each: bool = False) -> list[tuple[str, str]]:
    """Return the pairs of systems to compare: the first with every other, or with ``each`` all pairs.

    Raises InvalidArgument for fewer than two systems, or duplicate names.
    """
    if len(set(systems)) < len(systems):
        (name, _), *_ = Counter(systems).most_common(1)
        raise InvalidArgument(
            field="system",
            problem=f"two systems are called {name!r}",
            hint="give each a name of its own (NAME=FOLDER)",
        )
    if len(systems) < 2:
        raise InvalidArgument(
            field="system",
            problem=f"a comparison needs two systems, found {len(systems)}",
            hint="give [option:system] twice",
        )
    return list(combinations(systems, 2)) if each else [(systems[0], other) for other in systems[1:]]


def draw_lots(pairs: Sequence[str], compared: Sequence[tuple[str, str]], seed: int) -> list[Sheet]:
    """Return all sheets in random order; of two systems either is A on half of the sheets (one more, if odd).

    The order is determined by the seed.
    """
    lots = random.Random(seed)
    drawn = []
    for first, second in compared:
        # Balanced, so that a bias for one side cannot favor a system.
        swapped = [index % 2 == 1 for index in range(len(pairs))]
        lots.shuffle(swapped)
        for pair, swap in zip(pairs, swapped, strict=True):
            a, b = (second, first) if swap else (first, second)
            drawn.append((pair, first, a, b))
    lots.shuffle(drawn)
    digits = max(3, len(str(len(drawn))))
    return [Sheet(f"{number:0{digits}d}", *row) for number, row in enumerate(drawn, start=1)]


def draw(artwork: Image, a: Image, b: Image, size: int) -> Image:
    """Return the artwork on top, A and B side by side below, on white: (H, W, 3) uint8.

    Results are drawn at one size: that of A, its longer side being at least ``size`` pixels.
    """
    height, width = a.shape[:2]
    scale = max(1.0, size / max(height, width))
    width, height = round(width * scale), round(height * scale)
    across = 2 * width + 3 * GAP
    height_limit = round(ARTWORK_HEIGHT * max(width, height) / 640)
    fit = min(height_limit / artwork.shape[0], (across - 2 * GAP) / artwork.shape[1])
    top = resize(artwork, max(1, round(artwork.shape[1] * fit)), max(1, round(artwork.shape[0] * fit)))
    below = GAP + top.shape[0] + GAP
    page = np.full((below + LABEL + height + GAP, across, 3), 255, np.uint8)
    left = (across - top.shape[1]) // 2
    page[GAP : GAP + top.shape[0], left : left + top.shape[1]] = top
    for letter, result, x in (("A", a, GAP), ("B", b, width + 2 * GAP)):
        page[below + LABEL : below + LABEL + height, x : x + width] = resize(result, width, height)
        corner = (x + width // 2 - 10, below + LABEL - 8)
        cv2.putText(page, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 0), 2, cv2.LINE_AA)
    return page


def write_sheets(
    folder: Path,
    key: Path,
    artworks: Mapping[str, Path],
    results: Mapping[str, Mapping[str, Path]],
    compared: Sequence[tuple[str, str]],
    *,
    seed: int,
    size: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Sheet]:
    """Write a folder with sheets, form and instructions, and the key outside of it; return the sheets.

    ``artworks`` are files by pair, ``results`` files by system and pair. Raises InputError if the folder or
    the key exists, if the key would lie in the folder, and for missing pictures.
    """
    for path in (folder, key):
        if path.exists():
            raise InputError(f"{path} is there already; choose another, forms may refer to it")
    if folder.resolve() in key.resolve().parents:
        raise InputError(f"the key {key} would lie beside the sheets; participants must not see it")
    for system in {name for names in compared for name in names}:
        for pair in artworks:
            if not results[system][pair].is_file():
                raise InputError(f"{system} has no result for {pair}: there is no {results[system][pair]}")
    sheets = draw_lots(list(artworks), compared, seed)
    with replacing(folder) as temporary:
        temporary.mkdir()
        for done, sheet in enumerate(sheets, start=1):
            artwork = load_image(artworks[sheet.pair])
            a, b = (load_image(results[system][sheet.pair]) for system in (sheet.a, sheet.b))
            save_image(temporary / f"{sheet.sheet}.png", draw(artwork, a, b, size))
            on_progress(done)
        with (temporary / FORM).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *((s.sheet, "", "", "") for s in sheets)])
        (temporary / HOW).write_text(_how(), encoding="utf-8")
        # The key first: sheets without a key are useless.
        with replacing(key) as temporary_key:
            found = {"format": KEY_FORMAT, "seed": seed, "size": size, "sheets": [asdict(s) for s in sheets]}
            temporary_key.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return sheets


def read_key(path: Path) -> dict[str, Sheet]:
    """Return the sheets by their names in the form. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != KEY_FORMAT:
            raise ValueError(f"format {found['format']}, expected {KEY_FORMAT}")
        sheets = [Sheet(**row) for row in found["sheets"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read the key {path}: {error}; it is written by mst eval sheet") from error
    return {sheet.sheet: sheet for sheet in sheets}


def read_form(path: Path, key: Mapping[str, Sheet]) -> dict[str, dict[str, str]]:
    """Return the answers of a filled form by sheet and column, in upper case.

    Raises InputError for unknown columns, sheets and answers, and for a sheet listed twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="more", restval="")
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the form {path}: {error}") from error
    if missing := [column for column in COLUMNS if column not in columns]:
        raise InputError(f"{path} has no column {missing[0]!r} (found {', '.join(columns) or 'none'})")
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        if "more" in row:
            raise InputError(f"{path}, line {number}: too many cells; put a complaint with commas in quotes")
        name = _sheet_name(row["sheet"].strip(), key)
        if name is None:
            raise InputError(f"{path}, line {number}: the key knows no sheet {row['sheet']!r}")
        if name in found:
            raise InputError(f"{path}, line {number}: sheet {name} comes twice")
        answers = {question: row[question].strip().upper() for question in QUESTIONS}
        for question, answer in answers.items():
            if answer not in ("", *ANSWERS):
                raise InputError(
                    f"{path}, line {number}: {question} is {row[question]!r}; answer A, B or = (or leave it)"
                )
        found[name] = {**answers, "complaint": row["complaint"].strip()}
    return found


def count(
    forms: Sequence[Mapping[str, Mapping[str, str]]], key: Mapping[str, Sheet]
) -> dict[tuple[str, str], dict[str, Votes]]:
    """Count the votes of all forms by systems (first, second) and question."""
    cast: Counter[tuple[str, str, str, str]] = Counter()
    compared = dict.fromkeys((sheet.first, sheet.second) for sheet in sorted(key.values(), key=_by_systems))
    for form in forms:
        for name, answers in form.items():
            sheet = key[name]
            for question in QUESTIONS:
                winner = {"A": sheet.a, "B": sheet.b, "=": "="}.get(answers[question], "")
                cast[sheet.first, sheet.second, question, winner] += 1
    return {
        (one, two): {
            question: Votes(*(cast[one, two, question, winner] for winner in (one, two, "=")))
            for question in QUESTIONS
        }
        for one, two in compared
    }


def wilson(votes: int, of: int) -> Share:
    """Return a share of votes with its 95 % score interval (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212)."""
    if not 0 <= votes <= of:
        raise InvalidArgument(f"{votes} of {of} votes is no share")
    if of == 0:
        return Share(math.nan, math.nan, math.nan)
    share, z2 = votes / of, NORMAL_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def table(counted: Mapping[tuple[str, str], Mapping[str, Votes]]) -> str:
    """Return a Markdown table with two systems and a question per row; shares exclude undecided votes."""
    lines = ["| systems | question | votes | equal | share of the first | 95 % interval |", "|---" * 6 + "|"]
    for (first, second), questions in counted.items():
        for question, votes in questions.items():
            found = wilson(votes.first, votes.decided)
            cells = [
                f"{first} against {second}",
                question,
                f"{votes.first} : {votes.second}",
                f"{votes.equal}",
            ]
            cells += (
                [f"{found.share:.0%}", f"{found.low:.0%} .. {found.high:.0%}"] if votes.decided else ["", ""]
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(counted: Mapping[tuple[str, str], Mapping[str, Votes]]) -> list[dict[str, Any]]:
    """Return the same figures for JSON; shares are null without votes."""
    rows = []
    for (first, second), questions in counted.items():
        for question, votes in questions.items():
            share = (
                asdict(wilson(votes.first, votes.decided))
                if votes.decided
                else dict.fromkeys(("share", "low", "high"))
            )
            votes_of = {"votes_first": votes.first, "votes_second": votes.second, "equal": votes.equal}
            rows.append({"first": first, "second": second, "question": question, **votes_of, **share})
    return rows


def complaints(forms: Sequence[Mapping[str, Mapping[str, str]]], key: Mapping[str, Sheet]) -> list[str]:
    """Return all complaints, each with the systems shown as A and B."""
    return [
        f"{key[name].pair} (A {key[name].a}, B {key[name].b}): {answers['complaint']}"
        for form in forms
        for name, answers in form.items()
        if answers["complaint"]
    ]


def pair_names(pairs: Sequence[Pair]) -> list[str]:
    """Return a name per pair: that of its result without the suffix. Raises InputError for duplicate
    names."""
    names = [pair.stylized.stem for pair in pairs]
    if len(set(names)) < len(names):
        (name, _), *_ = Counter(names).most_common(1)
        raise InputError(f"two results are called {name!r}; every pair needs a name of its own")
    return names


def _by_systems(sheet: Sheet) -> tuple[str, str]:
    return sheet.first, sheet.second


def _sheet_name(given: str, key: Mapping[str, Sheet]) -> str | None:
    """Return the sheet's name in the key, or None; spreadsheets drop leading zeros."""
    if given in key:
        return given
    meant = [name for name in key if given.isdecimal() and int(name) == int(given)]
    return meant[0] if meant else None


def _how() -> str:
    questions = "\n".join(f"  {name}: {text}" for name, text in QUESTIONS.items())
    return (
        "Each sheet shows an artwork and below it two pictures, A and B, made of one photograph.\n"
        f"Look at full size and fill in {FORM}, a line for each sheet:\n{questions}\n"
        "Answer A, B or = (no difference). complaint: what is wrong with which one (may stay empty).\n"
    )
