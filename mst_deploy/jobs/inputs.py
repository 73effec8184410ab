"""The input files of a command: files, folders and patterns, in the order given."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from mst_deploy.errors import InputError
from mst_deploy.styles.timeline import Timeline

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".ogv",
    ".3gp",
    ".vob",
    ".y4m",
    ".gif",
)


def expand(inputs: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Return the files for ``inputs``: those of a folder with one of the suffixes, those that a pattern
    matches.

    Each file once, folders and patterns sorted by name, folders without their sub-folders. A name with ``*``
    in it that exists is a file. Raises InputError for an input without any file.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if _wanted(file, suffixes)]
            if not files:
                raise InputError(f"the folder {path} has no file of the types {', '.join(suffixes)}")
        elif not path.exists() and glob.has_magic(str(path)):
            files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute pattern
            files = [file for file in files if file.is_file()]
            if not files:
                raise InputError(f"no file matches {path}; check the pattern")
        else:
            files = [path]
        found.update(dict.fromkeys(files))
    return list(found)


def files_read(timeline: Timeline, *more: Path | None) -> list[Path]:
    """Return every file that a job reads besides its inputs: styles, mask and ``more``; a folder is a
    model."""
    found = [path for path in (*map(Path, timeline.names), timeline.mask) if path is not None]
    for path in more:
        if path is not None:
            found += path.iterdir() if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def _wanted(file: Path, suffixes: Sequence[str]) -> bool:
    return file.is_file() and file.suffix.lower() in suffixes and not file.name.startswith(".")
