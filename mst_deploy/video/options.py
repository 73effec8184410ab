"""Options of reading a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated

from mst_deploy.errors import InvalidArgument
from mst_deploy.options import INPUT_OUTPUT, VIDEO, Option
from mst_deploy.video.time_ranges import TimeRange

HWACCEL_MODES = ("auto", "on", "off")
Hwaccel = Annotated[str, Option("NVIDIA's decoder and encoder: off, on, or auto (where they can).", VIDEO)]

SOUND_CODECS = {"aac": "aac", "opus": "libopus", "flac": "flac"}
"""FFmpeg's encoder, by the name that the option takes."""
SOUND = ("copy", *SOUND_CODECS, "none")
SUBTITLES = ("copy", "none")


def check_hwaccel(mode: str) -> None:
    """Raise InvalidArgument for an unknown mode."""
    if mode not in HWACCEL_MODES:
        raise InvalidArgument(
            field="hwaccel",
            problem=f"[option:hwaccel] must be one of {', '.join(HWACCEL_MODES)}, got {mode!r}",
        )


def check_sound(audio: str | None, subtitles: str | None) -> None:
    """Raise InvalidArgument for an unknown choice."""
    if audio is not None and audio not in SOUND:
        raise InvalidArgument(f"[option:audio] must be one of {', '.join(SOUND)}, got {audio!r}")
    if subtitles is not None and subtitles not in SUBTITLES:
        raise InvalidArgument(f"[option:subtitles] must be one of {', '.join(SUBTITLES)}, got {subtitles!r}")


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate exactly: ``25``, ``23.976`` or ``24000/1001``. Raises InvalidArgument."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InvalidArgument(
            field="rate", problem=f"cannot use {text!r} as a rate: give frames a second (25, 24000/1001)"
        )
    return rate


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a file."""

    span: TimeRange = field(default_factory=TimeRange)
    sdr: Annotated[bool, Option("Map HDR to BT.709 instead of keeping it.", VIDEO)] = False
    """Whether to map high dynamic range to BT.709."""
    hwaccel: Hwaccel = "off"
    """NVIDIA's decoder: off, on, or auto (where it can do the job)."""
    rate: Annotated[
        Fraction | None,
        Option(
            "Frames a second of numbered pictures (in%06d.png). Default: 25.", INPUT_OUTPUT, parse=parse_rate
        ),
    ] = None
    """Frame rate of a numbered sequence; None means 25."""
