"""Maps of a picture that do not fit into memory, in temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import OutputError
from mst_deploy.model.bundle import Manifest

Halves = NDArray[np.float16]
"""A part of a map, (1, C, h, w) float16: as the stages read and write it."""
Area = tuple[slice, slice]
"""Rows and columns."""
LARGE_FILES = Path("/var/tmp")
"""On many systems the usual folder, /tmp, is in memory."""


@dataclass
class StoredMap:
    """A map in a file, block after block, each (C, h, w): what was computed for a tile is written at once."""

    file: IO[bytes]
    blocks: dict[tuple[int, int, int, int], tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    """Top, left, bottom, right of each block -> its place in the file in bytes, its shape."""
    end: int = 0


class MapStore:
    """The maps of one picture, by name. The files have none: nothing is left when the process ends.

    A context manager. Raises OutputError where the disk has no room, also while it is written.
    """

    def __init__(self, height: int, width: int, manifest: Manifest) -> None:
        """Make room for a picture of a size in pixels."""
        self.height, self.width = height, width
        self.needed = needed_bytes(height * width, manifest)
        self.folder = temporary_folder()
        self.maps: dict[str, StoredMap] = {}
        if shutil.disk_usage(self.folder).free < self.needed:
            raise self._no_room()

    def write(self, name: str, area: Area, values: Halves) -> None:
        """Write a block of a map, in place of an earlier one at the same area."""
        try:
            if name not in self.maps:
                file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
                self.maps[name] = StoredMap(file)
            stored = self.maps[name]
            top, left = area[0].start, area[1].start
            key = (top, left, top + values.shape[2], left + values.shape[3])
            if key not in stored.blocks:
                stored.blocks[key] = (stored.end, values.shape[1:])
                stored.end += values.nbytes
            stored.file.seek(stored.blocks[key][0])
            rest = memoryview(values.tobytes())
            while rest:  # a disk that becomes full takes a part first
                rest = rest[stored.file.write(rest) :]
        except OSError as error:
            raise self._no_room() from error

    def read(self, name: str, area: Area) -> Halves:
        """Return the values at an area of a map; its ends may lie beyond those of the map."""
        stored = self.maps[name]
        top, left = (part.start for part in area)
        bottom = min(area[0].stop, max(block[2] for block in stored.blocks))
        right = min(area[1].stop, max(block[3] for block in stored.blocks))
        found: Halves | None = None
        for (start, first, stop, last), (place, shape) in stored.blocks.items():
            if start >= bottom or stop <= top or first >= right or last <= left:
                continue
            block = np.memmap(stored.file, np.float16, "r", place, shape)
            if found is None:
                found = np.empty((1, shape[0], bottom - top, right - left), np.float16)
            rows = slice(max(top, start), min(bottom, stop))
            columns = slice(max(left, first), min(right, last))
            found[0][:, _moved(rows, top), _moved(columns, left)] = block[
                :, _moved(rows, start), _moved(columns, first)
            ]
        assert found is not None
        return found

    def keep(self, names: frozenset[str]) -> None:
        """Delete all maps but these."""
        for name in self.maps.keys() - names:
            self.maps.pop(name).file.close()

    def _no_room(self) -> OutputError:
        free = shutil.disk_usage(self.folder).free
        return OutputError(
            f"a picture of {self.width}x{self.height} needs {self.needed / 1e9:.1f} GB for temporary files, "
            f"{free / 1e9:.1f} GB are free in {self.folder}; make room there, or name another folder in the "
            "environment variable TMPDIR"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.keep(frozenset())


def _moved(part: slice, origin: int) -> slice:
    return slice(part.start - origin, part.stop - origin)


def needed_bytes(pixels: int, manifest: Manifest) -> int:
    """Return what the maps of a picture take on the disk at most."""
    _, half, quarter = (int(width) for width in manifest.network["widths"])
    values = max(
        (manifest.canvas_bands + half) / 2**2,
        half / 2**2 + quarter / 4**2,
        3 * quarter / 4**2,
        2 * quarter / 4**2 + half / 2**2,
    )
    return round(values * pixels * np.dtype(np.float16).itemsize)


def temporary_folder() -> Path:
    """Return the folder for large temporary files: that of the environment, else one on a disk."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    if not named and os.access(LARGE_FILES, os.W_OK):
        return LARGE_FILES
    return Path(tempfile.gettempdir())


def scaled(area: Area, times: int) -> Area:
    """Return an area in values that are smaller by a factor."""
    rows, columns = (slice(side.start * times, side.stop * times) for side in area)
    return rows, columns
