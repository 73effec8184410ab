"""What was lost while a file was read, counted and in words."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

RARE = 10
"""One gap in so many frames is damage; more of them are a variable frame rate."""
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
                (self.skipped, f"about {self.skipped} frame(s) seem to be missing"),
                (self.missing, f"the last {float(self.missing):.2f} s are missing"),
            )
            if count
        )


class Rhythm:
    """Watches the times of a stream: where nearly all frames are evenly spaced, a gap is a loss."""

    def __init__(self, step: Fraction) -> None:
        self.step = step
        """Usual distance of two frames, in units of their times."""
        self.even = self.gaps = self.absent = 0
        self.last: int | None = None

    def beat(self, time: int) -> None:
        """The next frame is shown at ``time``."""
        if self.last is not None:
            steps = round((time - self.last) / self.step)
            if steps > 1:
                self.gaps += 1
                self.absent += steps - 1
            else:
                self.even += 1
        self.last = time

    def missing(self, announced: int, known: int = 0) -> int:
        """Frames that seem to be lost beside ``known`` ones.

        ``announced`` is what the index says, 0 if it does not.
        """
        frames = self.even + self.gaps + (self.last is not None)
        in_gaps = self.absent if self.gaps * RARE <= self.even else 0
        short = announced - frames
        return max(0, max(in_gaps, short if short > SPARE else 0) - known)
