"""Check of the disk space: a rough estimate before a job, exact figures during it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from mst_deploy.errors import OutputError

RESERVE = 32 * 2**20  # bytes left free for everybody else
LIKELY_BITS = 0.4  # per pixel: what stylized video takes at the default qualities, see docs/video.md
LOSSLESS_BITS = {"ffv1": 12.0, "prores": 4.0}


def expected_bytes(codec: str, width: int, height: int, frames: int) -> int:
    """Return an estimate of the size of a result in bytes, accurate to a factor of three, since it depends on
    the content."""
    return round(LOSSLESS_BITS.get(codec, LIKELY_BITS) * width * height * frames / 8)


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a file to be written; a huge number if unknown.

    Missing or read-only folders are reported when the file is opened.
    """
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError:
        return sys.maxsize
    return usage.free if usage.total else sys.maxsize


def check_before(output: Path, expected: int) -> str | None:
    """Return a note for the user if a job may run out of disk space, else None.

    The parts and the result are on the disk together at the end. Raises OutputError where there is no room
    for even a tenth of the estimate.
    """
    needed, free = 2 * expected + RESERVE, free_bytes(output)
    if free >= needed:
        return None
    if free < needed / 10:
        raise OutputError(
            f"the disk of {output.parent} is nearly full: the job needs about {size_text(needed)}, "
            f"{size_text(free)} are free; make room, or choose another folder with [option:output]"
        )
    return f"the disk may become full: the job needs about {size_text(needed)}, {size_text(free)} are free"


def check_during(output: Path, written: int, largest: int) -> None:
    """Raise OutputError if the result, as large as the parts so far, would not fit beside its parts.

    ``largest`` is the size of the largest part so far, in bytes. Raises OutputError.
    """
    needed, free = written + 2 * largest + RESERVE, free_bytes(output)
    if free < needed:
        raise OutputError(
            f"the disk of {output.parent} is nearly full: {size_text(free)} are free, going on needs "
            f"{size_text(needed)}; make room, then run the same command with [option:resume]"
        )


def size_text(count: float) -> str:
    """Format a number of bytes for people: ``3.1 GB``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
