"""What was lost while a file was read, counted and in words."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

RARE = 10
"""One gap in so many frames is damage; more of them are a variable frame rate."""
EVEN = Fraction(1, 4)
"""How far, in parts of the usual distance, two frames may be from it and still be evenly spaced."""
SPARE = 2
"""Frames that an index may announce without any damage."""
PICTURE_EACH = ("av1", "h264", "hevc", "mpeg1video", "mpeg2video", "vp9", "vvc")
"""Codecs whose packets hold one shown picture each, of the same time, unless they hold single fields."""


@dataclass
class DecodeReport:
    """What went wrong while a file was read."""

    packets: int = 0
    """Packets without a picture because they, or what they build on, could not be decoded."""
    shown: int = 0
    """Frames that are shown although parts of them were guessed."""
    moved: int = 0
    """Frames whose time was missing or went back; they follow their predecessor at once."""
    resized: int = 0
    """Frames of another size than the first, scaled to it."""
    skipped: int = 0
    """Frames that would fit into gaps of otherwise even times, or that the index announced; those of
    ``packets`` are not counted again."""
    missing: Fraction = Fraction(0)
    """Seconds that the file should have gone on for."""
    cut_off: bool = False
    """Whether the file ends within a packet of its container."""

    def words(self) -> tuple[str, ...]:
        """For people; empty if nothing was lost."""
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
    """Watches which packets become pictures: decoders pass over what they cannot make out in silence."""

    def __init__(self) -> None:
        self.waiting: list[int] = []  # a heap; no longer than the decoder holds pictures back
        self.first: int | None = None
        self.absent = 0
        self.dropped = self.hidden = 0
        """Packets that an edit list takes out; those of them that come after the first picture."""
        self.known = True
        """Whether packets and pictures can be told to belong together."""

    def sent(self, time: int | None) -> None:
        """A packet with a picture for ``time`` was given to the decoder."""
        if time is not None:
            heappush(self.waiting, time)

    def discarded(self, time: int | None) -> None:
        """The packet of ``time`` is not to be shown; before the first picture that is usual."""
        self.dropped += 1
        self.hidden += time is not None and self.first is not None and time > self.first

    def shown(self, time: int | None) -> None:
        """The decoder gave the picture of ``time``; all before it will not come any more."""
        while self.waiting and time is not None and self.waiting[0] < time:
            heappop(self.waiting)
            self.absent += self.first is not None  # before the first, there was nothing to build on
        if time is None or not self.waiting or self.waiting[0] != time:
            self.known = False
        while self.waiting and self.waiting[0] == time:
            heappop(self.waiting)
        self.first = time if self.first is None else self.first

    def missing(self) -> int:
        """Packets that gave no picture, when the decoder has given all it had; 0 if that cannot be told."""
        return self.absent + len(self.waiting) if self.known else 0


class TimestampMonitor:
    """Watches the times of a stream: where nearly all frames are evenly spaced, a gap is a loss."""

    def __init__(self, step: Fraction, start: int | None = None) -> None:
        self.step = step
        """Usual distance of two frames, in units of their times."""
        self.start = start
        """When the first frame was announced, None if unknown or not asked for."""
        self.even = self.uneven = self.gaps = self.absent = self.late = 0
        self.last: int | None = None

    def observe(self, time: int) -> None:
        """The next frame is shown at ``time``."""
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
        """Frames that seem to be lost beside ``known`` ones.

        ``announced`` is what the index says, 0 if it does not; where all of them came, gaps are meant, unless
        some were ``hidden`` among the others: an edit list that does so leaves no gap.
        """
        frames = self.even + self.uneven + self.gaps + (self.last is not None)
        if announced and frames >= announced and not hidden:
            return 0
        in_gaps = self.absent if max(self.gaps, self.uneven) * RARE <= self.even else 0
        short = announced - frames
        return max(0, max(in_gaps + self.late, short if short > SPARE else 0) - known)
