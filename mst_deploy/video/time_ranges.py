"""The selected part of a clip: parsing of times, and the frames that they select."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from mst_deploy.errors import InvalidArgument
from mst_deploy.options import INPUT_OUTPUT, Option


def parse_time(text: str) -> Fraction:
    """Parse ``90``, ``1.5``, ``1:30`` or ``00:01:30.5`` to exact seconds. Raises InvalidArgument."""
    parts = text.strip().split(":")
    try:
        if not 1 <= len(parts) <= 3 or not all(part.isdigit() for part in parts[:-1]):
            raise ValueError
        *larger, last = parts
        if not last.replace(".", "", 1).isdigit() or not last.isascii():
            raise ValueError
        seconds = Fraction(last)
        if larger and (seconds >= 60 or any(int(part) >= 60 for part in larger[1:])):
            raise ValueError
    except ValueError:
        raise InvalidArgument(
            field="time",
            problem=(
                f"cannot use {text!r} as a time: give seconds (90 or 1.5), or hours, minutes and seconds "
                "(00:01:30)"
            ),
        ) from None
    for power, part in enumerate(reversed(larger), start=1):
        seconds += int(part) * 60**power
    return seconds


@dataclass(frozen=True)
class TimeRange:
    """A part of a clip, in seconds from the start of the file."""

    start: Annotated[
        Fraction | None,
        Option("Begin here: seconds or [HH:]MM:SS.", INPUT_OUTPUT, metavar="TIME", parse=parse_time),
    ] = None
    end: Annotated[
        Fraction | None, Option("End before this moment.", INPUT_OUTPUT, metavar="TIME", parse=parse_time)
    ] = None
    """First time that is not selected any more, in seconds."""
    sample_every: Annotated[
        Fraction | None,
        Option(
            "Keep one frame in each interval of this length.",
            INPUT_OUTPUT,
            metavar="TIME",
            parse=parse_time,
        ),
    ] = None
    """Keep one frame in each interval of this length in seconds; times are kept, so the clip plays at its own
    speed."""

    def __post_init__(self) -> None:
        if self.start is not None and self.start < 0:
            raise InvalidArgument(
                field="start", problem=f"[option:start] must not be negative, got {float(self.start):g} s"
            )
        if self.end is not None and self.end <= (self.start or 0):
            raise InvalidArgument(
                field="end",
                problem=(
                    f"[option:end] ({float(self.end):g} s) must be later than [option:start] "
                    f"({float(self.start or 0):g} s)"
                ),
            )
        if self.sample_every is not None and self.sample_every <= 0:
            raise InvalidArgument(
                field="sample_every",
                problem=(
                    f"[option:sample_every] must be longer than nothing, got {float(self.sample_every):g} s"
                ),
            )

    @property
    def cuts(self) -> bool:
        """Return whether anything is left out at the start or the end."""
        return self.start is not None or self.end is not None


def time_label(time: Fraction) -> str:
    """Seconds as a part of a file name: ``00m10s``, ``01m05.25s``, from one hour on ``01h00m10s``.

    Fractions are rounded to milliseconds.
    """
    milliseconds = round(time * 1000)
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return (f"{hours:02d}h" if hours else "") + f"{minutes:02d}m{seconds:02d}{fraction}s"


@dataclass(frozen=True)
class ClockSpan:
    """A span on the clock of one file, which need not start at 0."""

    start: Fraction
    """Start in seconds; becomes 0 in the output."""
    end: Fraction | None
    origin: Fraction = Fraction(0)
    """Time at which picture or sound of the file begin, in seconds of its clock."""

    @property
    def skips(self) -> bool:
        """Return whether anything is left out at the beginning."""
        return self.start > self.origin

    def holds(self, time: Fraction) -> bool:
        """Return whether something that begins at ``time`` (seconds) is selected."""
        return time >= self.start and (self.end is None or time < self.end)

    def shift(self, time_base: Fraction) -> int:
        """Return the offset to subtract, in units of ``time_base``; rounded down, so that no selected time
        becomes negative."""
        return int(self.start // time_base)
