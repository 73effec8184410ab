"""The scan of a split video: it is read once, from beginning to end, and every frame gets a checksum.

At the beginning of each segment the state of the moving canvas is kept. So workers can begin in the middle:
they seek, and the checksums show whether they decode the very frames that reading from the beginning gives.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mst_deploy.images import resize
from mst_deploy.video.canvas import CanvasState, MovingCanvas
from mst_deploy.video.deflicker import REACH
from mst_deploy.video.info import Frame


@dataclass(frozen=True)
class SegmentScan:
    """What is known about one segment before it is painted: its frames, and up to ``REACH`` before it."""

    number: int
    lookback: int
    """Frames before the segment: with deflicker, its first frames are averaged with them."""
    times: NDArray[np.int64] = field(repr=False)
    """(n, 2): presentation time and duration of each frame, those of ``lookback`` first, in units of the
    video's time base."""
    checksums: NDArray[np.uint32] = field(repr=False)
    """(n,): CRC-32 of each decoded frame."""
    canvas: CanvasState | None = field(default=None, repr=False)
    """State of the canvas before the first of these frames; None at the beginning, and without a canvas."""

    def packed(self) -> bytes:
        """Return the scan as bytes of an .npz file."""
        arrays: dict[str, NDArray[np.generic]] = {
            "number": np.array([self.number, self.lookback]),
            "times": self.times,
            "checksums": self.checksums,
        }
        if self.canvas is not None:
            arrays["gray"], arrays["offset"] = self.canvas.gray, np.stack(self.canvas.offset)
            arrays["canvas"] = np.array([self.canvas.index, self.canvas.moved])
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> SegmentScan:
        """Read what ``packed`` returned; nothing in it is executed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            canvas = None
            if "canvas" in arrays:
                index, moved = arrays["canvas"].tolist()
                canvas = CanvasState(arrays["gray"], tuple(arrays["offset"]), index, bool(moved))
            number, lookback = arrays["number"].tolist()
            return cls(number, lookback, arrays["times"], arrays["checksums"], canvas)


def scan_segments(
    frames: Iterable[Frame], frames_each: int, canvas: MovingCanvas | None
) -> Iterator[SegmentScan]:
    """Yield the scan of each segment as soon as its frames have been read. The last one may be shorter."""
    rows: list[tuple[int, int]] = []
    sums: list[int] = []
    states: dict[int, CanvasState | None] = {}
    first = number = count = 0
    """Numbers of the first frame in the lists and of the segment; frames so far."""

    def segment() -> SegmentScan:
        start = number * frames_each
        lookback = min(REACH, start)
        skipped = start - lookback - first
        return SegmentScan(
            number,
            lookback,
            np.array(rows[skipped:], np.int64),
            np.array(sums[skipped:], np.uint32),
            states.pop(number, None),
        )

    for frame in frames:
        begun, offset = divmod(count + REACH, frames_each)  # the segment whose lookback begins here
        if canvas is not None:
            if offset == 0:
                states[begun] = canvas.state()
            canvas.follow(np.ascontiguousarray(resize(frame.image, canvas.width, canvas.height)))
        rows.append((frame.pts, frame.duration))
        sums.append(checksum(frame))
        count += 1
        if count == (number + 1) * frames_each:
            yield segment()
            number += 1
            kept = min(REACH, len(rows))
            first += len(rows) - kept
            del rows[:-kept], sums[:-kept]
    if count > number * frames_each:
        yield segment()


def checksum(frame: Frame) -> int:
    """Return the CRC-32 of a decoded frame's colors and alpha."""
    value = zlib.crc32(np.ascontiguousarray(frame.image).data)
    return value if frame.alpha is None else zlib.crc32(np.ascontiguousarray(frame.alpha).data, value)
