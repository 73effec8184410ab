"""Color tags of a video: matrix, range, primaries and transfer, as in ITU-T H.273.

An untagged stream is taken as BT.709 from 720 lines up and as BT.601 below, as by players.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mst_deploy.errors import InputError

# Code points of H.273; the same in FFmpeg.
BT709, UNSPECIFIED, BT470BG, SMPTE170M, SMPTE240M, BT2020_NC = 1, 2, 5, 6, 7, 9
RGB = 0
LIMITED, FULL = 1, 2
HDR_TRANSFERS = {16: "PQ (HDR10)", 18: "HLG"}

# swscale names its matrices differently: 5 is BT.601 whatever the color primaries.
SCALER_MATRIX = {BT709: 1, BT470BG: 5, SMPTE170M: 5, SMPTE240M: 7, BT2020_NC: 9}


@dataclass(frozen=True)
class ColorTags:
    """The four code points of a stream, none of them unspecified."""

    matrix: int
    range: int
    """Range: 1 limited (16..235), 2 full (0..255)."""
    primaries: int
    transfer: int

    @property
    def scaler_matrix(self) -> int:
        """Return swscale's number for the matrix."""
        return SCALER_MATRIX[self.matrix]

    def apply(self, target: Any) -> None:
        """Tag a frame or an encoder; muxers write the encoder's tags into the container."""
        target.colorspace, target.color_range = self.matrix, self.range
        target.color_primaries, target.color_trc = self.primaries, self.transfer

    @property
    def hdr(self) -> str | None:
        """Return the name of the high dynamic range format of the transfer, None for standard dynamic
        range."""
        return HDR_TRANSFERS.get(self.transfer)


SDR_TAGS = ColorTags(matrix=BT709, range=LIMITED, primaries=BT709, transfer=BT709)
"""Color tags of tone-mapped video."""


@dataclass(frozen=True)
class Mastering:
    """Mastering display of HDR (SMPTE ST 2086) and its light levels (CTA-861.3)."""

    primaries: tuple[Fraction, ...] = ()
    """x and y of red, green, blue and white; empty if unknown."""
    luminance: tuple[Fraction, ...] = ()
    """Darkest and brightest, cd/m2; empty if unknown."""
    light: tuple[int, ...] = ()
    """Maximum content light level and maximum frame-average light level, cd/m2; empty if unknown."""

    @classmethod
    def unpack(cls, display: bytes | None, light: bytes | None) -> Mastering | None:
        """Unpack FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata; None if there is neither."""
        primaries: tuple[Fraction, ...] = ()
        luminance: tuple[Fraction, ...] = ()
        levels: tuple[int, ...] = ()
        if display is not None and len(display) >= 88:
            numbers = struct.unpack("=22i", display[:88])
            if all(numbers[1:20:2]):
                values = tuple(map(Fraction, numbers[0:20:2], numbers[1:20:2]))
                primaries = values[:8] if numbers[20] else ()
                luminance = values[8:] if numbers[21] else ()
        if light is not None and len(light) >= 8:
            levels = struct.unpack("=2I", light[:8])
        return cls(primaries, luminance, levels) if primaries or luminance or levels else None


def read_tags(frame: Any, path: Path) -> ColorTags:
    """Return the tags of a decoded frame, missing ones filled in. Raises InputError for colors that cannot be
    converted."""
    transfer = int(frame.color_trc)
    usual = usual_matrix(frame.height)
    matrix = int(frame.colorspace)
    if matrix in (UNSPECIFIED, RGB):
        matrix = usual
    if matrix not in SCALER_MATRIX:
        raise InputError(
            f"{path} uses color matrix {matrix} (ITU-T H.273), which is not supported; "
            "convert it to BT.709 first"
        )
    like = matrix if matrix in (BT709, SMPTE170M, BT470BG, SMPTE240M, BT2020_NC) else usual
    full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    return ColorTags(
        matrix=matrix,
        range=FULL if full else LIMITED,
        primaries=_known(int(frame.color_primaries), like),
        transfer=_known(transfer, SMPTE170M if like == BT470BG else 14 if like == BT2020_NC else like),
    )


def usual_matrix(height: int) -> int:
    """Return the matrix that players assume for an untagged picture of so many lines."""
    return BT709 if height >= 720 else SMPTE170M


def _known(code: int, fallback: int) -> int:
    return fallback if code in (0, UNSPECIFIED) else code
