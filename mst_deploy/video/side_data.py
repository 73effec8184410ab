"""Side data of decoded frames: orientation, mastering display, 360-degree and stereo tags, captions, Dolby
Vision."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from av.sidedata.sidedata import Type as SideData

from mst_deploy.video.color import Mastering
from mst_deploy.video.orientation import matrix_of

STEREO_MODES = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
"""Matroska's names, with the left and with the right eye first, by FFmpeg's AVStereo3DType."""
WEBM_STEREO = ("left_right", "right_left", "top_bottom", "bottom_top")


def side_data(picture: Any, kind: Any) -> bytes | None:
    """Return side data of one kind, None if there is none."""
    try:
        data: Any = picture.side_data.get(kind)
    except ValueError:  # PyAV reads all or none, and does not know every kind: EXIF of photographs is one
        return None
    return None if data is None else bytes(data)


def stereo_mode(picture: Any) -> str | None:
    """Return the packing of two views in the picture, as named by Matroska; None for one view."""
    data = side_data(picture, SideData.STEREO3D)
    if data is None or len(data) < 8:
        return None
    packing, flags = struct.unpack("=2i", data[:8])
    names = STEREO_MODES.get(packing)
    return names[flags & 1] if names else None


def holds_stereo(muxer: str, mode: str) -> bool:
    """Return whether PyAV can write a stereo mode to a container: as metadata of the stream, only in
    Matroska."""
    return muxer == "matroska" or (muxer == "webm" and mode in WEBM_STEREO)


def has_captions(picture: Any) -> bool:
    """Return whether a frame has closed captions (CEA-608 or 708)."""
    return side_data(picture, SideData.A53_CC) is not None


def marks_not_kept(picture: Any) -> Iterator[str]:
    """Return descriptions of side data of the first frame that no output can keep."""
    if side_data(picture, SideData.SPHERICAL) is not None:
        yield "the mark of a 360-degree video (players show it flat; a metadata injector sets it again)"
    if side_data(picture, SideData.DOVI_METADATA) is not None:
        yield "Dolby Vision's metadata (the picture is that of its base layer)"
    if side_data(picture, SideData.DYNAMIC_HDR_PLUS) is not None:
        yield "HDR10+ metadata"


def display_matrix(picture: Any) -> tuple[int, ...] | None:
    """Return the display matrix of a frame, 9 integers; None for one that is shown as it is stored."""
    data = side_data(picture, SideData.DISPLAYMATRIX)
    if data is not None:
        return struct.unpack("=9i", data)
    return matrix_of(round(picture.rotation / 90) % 4) if picture.rotation else None


def mastering(picture: Any) -> Mastering | None:
    """Return the data on the mastering display and on the light of the content; None if there is none."""
    return Mastering.unpack(
        side_data(picture, SideData.MASTERING_DISPLAY_METADATA),
        side_data(picture, SideData.CONTENT_LIGHT_LEVEL),
    )


def is_dolby_vision_5(metadata: bytes | None) -> bool:
    """Return whether FFmpeg's AVDOVIMetadata is that of profile 5.

    Its base layer is in a color space of its own (IPTPQc2), which looks purple and green without Dolby's
    mapping. Profile 5 is recognized by version 0 of its RPU and by full range.
    """
    if metadata is None or len(metadata) < 8:
        return False
    (header,) = struct.unpack_from("=Q", metadata)
    if header + 11 > len(metadata):
        return False
    return bool(metadata[header + 4] == 0 and metadata[header + 10] == 1)
