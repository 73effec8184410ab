"""What was lost while a file was read, counted and in words."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

RARE = 10
"""One gap in so many frames is damage; more of them are a variable frame rate."""
EVEN = Fraction(1, 4)
"""How far, in parts of the usual distance, two frames may be from it and still be evenly spaced."""
SPARE = 2
"""Frames that an index may announce without any damage."""


@dataclass
class Damage:
    """What went wrong while a file was read."""

    packets: int = 0
    """Packets without a picture because they could not be decoded."""
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
            )
            if count
        )


class Rhythm:
    """Watches the times of a stream: where nearly all frames are evenly spaced, a gap is a loss."""

    def __init__(self, step: Fraction, start: int | None = None) -> None:
        self.step = step
        """Usual distance of two frames, in units of their times."""
        self.start = start
        """When the first frame was announced, None if unknown or not asked for."""
        self.even = self.uneven = self.gaps = self.absent = self.late = 0
        self.last: int | None = None

    def beat(self, time: int) -> None:
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

    def missing(self, announced: int, known: int = 0) -> int:
        """Frames that seem to be lost beside ``known`` ones.

        ``announced`` is what the index says, 0 if it does not; where all of them came, gaps are meant.
        """
        frames = self.even + self.uneven + self.gaps + (self.last is not None)
        if announced and frames >= announced:
            return 0
        in_gaps = self.absent if max(self.gaps, self.uneven) * RARE <= self.even else 0
        short = announced - frames
        return max(0, max(in_gaps + self.late, short if short > SPARE else 0) - known)
