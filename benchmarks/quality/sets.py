"""Which photograph, artwork and result belong together, and whether the set can be measured.

A set is three folders and a CSV file with the columns ``content,style,stylized`` (names inside the
folders) and, if wanted, ``group`` (a movement, say), ``artwork`` (the same artwork as people see it beside
a result, at 512 pixels, in a folder ``artwork`` beside that of the artworks) and ``content_sha256``,
``style_sha256``, ``stylized_sha256``. Without the file, names are paired in lexicographic order, as ArtFID's
authors do.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from mst_deploy.datasets import MIN_SIDE
from mst_deploy.errors import InputError
from mst_deploy.files import replacing, sha256_of
from mst_deploy.images import IMAGE_SUFFIXES

ROLES = ("content", "style", "stylized")
ARTWORKS = "artwork"
"""Column and folder of the artworks that do not change with the size of the results."""
PAIRS = "pairs.csv"


@dataclass(frozen=True)
class Pair:
    """One result and what it was made from."""

    content: Path
    style: Path
    stylized: Path
    group: str = ""
    artwork: Path | None = None
    """The artwork as people see it beside the result; None where only ``style`` is there."""

    @property
    def seen(self) -> Path:
        return self.artwork or self.style

    @property
    def name(self) -> str:
        return self.stylized.name


def pair_in_order(content: Path, style: Path, stylized: Path) -> list[Pair]:
    """The n-th names of three folders belong together. Raises InputError unless they hold equally many."""
    listed = [_pictures(folder) for folder in (content, style, stylized)]
    counts = [len(names) for names in listed]
    if len(set(counts)) > 1 or not counts[0]:
        found = ", ".join(
            f"{folder} {count}" for folder, count in zip((content, style, stylized), counts, strict=True)
        )
        raise InputError(
            f"the folders do not hold equally many pictures ({found}); without [option:pairs] the "
            "n-th of each belong together: copy pictures that are used more than once, or list the "
            "pairs in a CSV file"
        )
    return [Pair(*row) for row in zip(*listed, strict=True)]


def read_pairs(path: Path, content: Path, style: Path, stylized: Path | None) -> list[Pair]:
    """The pairs of a CSV file, their files checked, and their hashes where it has them. Raises InputError.

    Without a folder ``stylized`` results are named, but need not exist.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the pairs {path}: {error}") from error
    if missing := [role for role in ROLES if role not in columns]:
        raise InputError(
            f"{path} has no column {missing[0]!r} (found {', '.join(columns) or 'none'}); the first line "
            f"must name {', '.join(ROLES)}"
        )
    if not rows:
        raise InputError(f"{path} lists no pairs")
    folders = {"content": content, "style": style, "stylized": stylized or Path()}
    known: dict[Path, str] = {}
    pairs = []
    for number, row in enumerate(rows, start=2):
        files = {role: folders[role] / (row[role] or "") for role in ROLES}
        for role, picture in files.items():
            if role == "stylized" and stylized is None:
                continue
            if not picture.is_file():
                raise InputError(f"{path}, line {number}: there is no {role} picture {picture}")
            if wanted := row.get(f"{role}_sha256"):
                known[picture] = known.get(picture) or sha256_of(picture)
                if known[picture] != wanted:
                    raise InputError(
                        f"{path}, line {number}: {picture} is not the picture the list was made with "
                        f"(SHA-256 {known[picture][:12]}..., listed {wanted[:12]}...)"
                    )
        artwork = style.parent / ARTWORKS / row[ARTWORKS] if row.get(ARTWORKS) else None
        if artwork is not None and not artwork.is_file():
            raise InputError(f"{path}, line {number}: there is no picture {artwork}")
        pairs.append(Pair(**files, group=row.get("group") or "", artwork=artwork))
    return pairs


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """The list of a set, with the SHA-256 of every file. Names only: folders may move."""
    known = {file: sha256_of(file) for pair in pairs for file in (pair.content, pair.style, pair.stylized)}
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*ROLES, "group", ARTWORKS, *(f"{role}_sha256" for role in ROLES)])
        for pair in pairs:
            files = [pair.content, pair.style, pair.stylized]
            artwork = pair.artwork.name if pair.artwork else ""
            writer.writerow([*(f.name for f in files), pair.group, artwork, *(known[f] for f in files)])


def check(pairs: Sequence[Pair], *, one_size: bool = False) -> None:
    """Raise InputError for pairs listed twice, tiny pictures, results of another size than their photo.

    With ``one_size`` (ArtFID) all pictures, artworks too, must have the same.
    """
    for what, keys in (
        ("pair", [(pair.content.name, pair.style.name) for pair in pairs]),
        ("result", [(pair.stylized.name,) for pair in pairs]),
    ):
        twice = [" + ".join(key) for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise InputError(
                f"{len(twice)} of the listed {what}s come more than once, the first is {twice[0]}; every "
                f"{what} must count once"
            )
    sizes = {path: size_of(path) for pair in pairs for path in (pair.content, pair.style, pair.stylized)}
    for path, (width, height) in sizes.items():
        if min(width, height) < MIN_SIDE:
            raise InputError(f"{path} has {width}x{height} pixels; {MIN_SIDE} a side is the least to measure")
    if one_size and len(set(sizes.values())) > 1:
        listed = ", ".join(sorted({f"{width}x{height}" for width, height in sizes.values()}))
        raise InputError(
            f"ArtFID resizes nothing: photographs, artworks and results must have one size, found {listed}"
        )
    for pair in pairs:
        wanted, found = sizes[pair.content], sizes[pair.stylized]
        if wanted != found:
            raise InputError(
                f"{pair.stylized} has {found[0]}x{found[1]} pixels, its photograph {pair.content.name} "
                f"{wanted[0]}x{wanted[1]}; nothing is resized here, because that changes every figure: "
                "give the photograph in the size it was stylized in"
            )


def identity(pairs: Sequence[Pair]) -> str:
    """12 digits that two sets share when they pair the same photographs with the same artworks."""
    known = {file: sha256_of(file) for pair in pairs for file in _given(pair)}
    lines = sorted(" ".join(known[file] for file in _given(pair)) for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _given(pair: Pair) -> list[Path]:
    """What a result is made of and compared with."""
    return [pair.content, pair.style, *([pair.artwork] if pair.artwork else [])]


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file. Raises InputError."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"cannot read {path} as an image; its content is damaged or of another kind")
    return image.shape[1], image.shape[0]


def _pictures(folder: Path) -> list[Path]:
    """Pictures right in a folder, in order of name; each once, also where names ignore case."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of pictures")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
