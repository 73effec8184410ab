"""Damage found while a file is read: counts and descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

RARE = 10
"""One gap in so many frames is damage; more frequent gaps are a variable frame rate."""
EVEN = Fraction(1, 4)
"""Largest deviation of evenly spaced frames, as a fraction of the usual distance."""
SPARE = 2
"""Frames that an index may announce without any damage."""
PICTURE_EACH = ("av1", "h264", "hevc", "mpeg1video", "mpeg2video", "vp9", "vvc")
"""Codecs whose packets hold one shown picture each, of the same time, unless they hold single fields."""


@dataclass
class DecodeReport:
    """Counts of errors while a file is read."""

    packets: int = 0
    """Packets without a picture because they, or what they build on, could not be decoded."""
    shown: int = 0
    """Frames that are shown although parts of them were guessed."""
    moved: int = 0
    """Frames whose time was missing or went back; they directly follow their predecessor."""
    resized: int = 0
    """Frames of another size than the first, scaled to the size of the first."""
    skipped: int = 0
    """Frames that would fit into gaps of otherwise even times, or that the index announced; those of
    ``packets`` are not counted again."""
    missing: Fraction = Fraction(0)
    """Seconds missing at the end of the file."""
    cut_off: bool = False
    """Whether the file ends within a packet of its container."""

    def describe(self) -> tuple[str, ...]:
        """Return descriptions for people; empty if nothing was lost."""
        return tuple(
            text
            for count, text in (
                (self.packets, f"{self.packets} damaged packet(s) gave no picture"),
                (self.shown, f"{self.shown} damaged frame(s) were mended by the decoder"),
                (self.moved, f"{self.moved} frame(s) had no usable time"),
                (self.resized, f"{self.resized} frame(s) had another size and were scaled"),
                (self.skipped, f"about {self.skipped} frame(s) seem to be missing, unless its rate varies"),
                (self.missing, f"the last {float(self.missing):.2f} s are missing"),
                (self.cut_off, "the file breaks off within a packet; what came after it is missing"),
            )
            if count
        )


class PacketTracker:
    """Tracks which packets become pictures: decoders silently skip packets that they cannot decode."""

    def __init__(self) -> None:
        self.waiting: list[int] = []  # a heap; no longer than the decoder holds pictures back
        self.first: int | None = None
        self.absent = 0
        self.dropped = self.hidden = 0
        """Packets that an edit list takes out; those of them that come after the first picture."""
        self.known = True
        """Whether packets and pictures can be matched."""

    def sent(self, time: int | None) -> None:
        """Record that a packet with a picture for ``time`` was sent to the decoder."""
        if time is not None:
            heappush(self.waiting, time)

    def discarded(self, time: int | None) -> None:
        """Record that the packet of ``time`` is not to be shown, which is usual before the first picture."""
        self.dropped += 1
        self.hidden += time is not None and self.first is not None and time > self.first

    def shown(self, time: int | None) -> None:
        """Record that the decoder returned the picture of ``time``; earlier pictures cannot follow any
        more."""
        while self.waiting and time is not None and self.waiting[0] < time:
            heappop(self.waiting)
            self.absent += self.first is not None  # before the first, there was nothing to build on
        if time is None or not self.waiting or self.waiting[0] != time:
            self.known = False
        while self.waiting and self.waiting[0] == time:
            heappop(self.waiting)
        self.first = time if self.first is None else self.first

    def missing(self) -> int:
        """Return the number of packets that gave no picture, after the decoder is flushed; 0 if that is
        unknown."""
        return self.absent + len(self.waiting) if self.known else 0


class TimestampMonitor:
    """Monitors the times of a stream: where nearly all frames are evenly spaced, a gap is a loss."""

    def __init__(self, step: Fraction, start: int | None = None) -> None:
        self.step = step
        """Usual distance of two frames, in units of their times."""
        self.start = start
        """Announced time of the first frame, None if unknown or not requested."""
        self.even = self.uneven = self.gaps = self.absent = self.late = 0
        self.last: int | None = None

    def observe(self, time: int) -> None:
        """Record the time of the next frame."""
        if self.last is None and self.start is not None:
            self.late = max(0, round((time - self.start) / self.step))
        if self.last is not None:
            distance = (time - self.last) / self.step
            steps = round(distance)
            if steps > 1:
                self.gaps += 1
                self.absent += steps - 1
            elif abs(distance - 1) <= EVEN:
                self.even += 1
            else:
                self.uneven += 1
        self.last = time

    def missing(self, announced: int, known: int = 0, *, hidden: bool = False) -> int:
        """Return the number of frames that seem to be lost besides ``known`` ones.

        ``announced`` is the number in the index, 0 if unknown. If all of them were read, gaps are intended,
        unless some frames were ``hidden`` in between: an edit list that does so leaves no gap.
        """
        frames = self.even + self.uneven + self.gaps + (self.last is not None)
        if announced and frames >= announced and not hidden:
            return 0
        in_gaps = self.absent if max(self.gaps, self.uneven) * RARE <= self.even else 0
        short = announced - frames
        return max(0, max(in_gaps + self.late, short if short > SPARE else 0) - known)
