"""Transparency: detection, and decoders that keep it."""

from __future__ import annotations

from typing import Any

import av

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the alpha stream in the same packets, which FFmpeg's own decoders ignore."""


def alpha_decoder(stream: Any) -> Any:
    """Return a decoder for a stream that is tagged as having an alpha channel in separate data.

    None where the stream's own decoder keeps alpha, or where this build of FFmpeg has no such decoder.
    """
    name = WITH_ALPHA.get(stream.codec_context.name)
    words = {key.lower(): value for key, value in stream.metadata.items()}
    if name is None or words.get("alpha_mode") != "1":
        return None
    try:
        return av.CodecContext.create(name, "r")
    except (av.FFmpegError, ValueError):
        return None


def has_alpha(picture: av.VideoFrame) -> bool:
    """Return whether the pixel format has an alpha channel."""
    return any(component.is_alpha for component in picture.format.components) or picture.format.name == "pal8"


def is_transparent(first: av.VideoFrame) -> bool:
    """Return whether frames like the first are transparent; for GIF, which always has an alpha channel, by
    its pixels."""
    if not has_alpha(first):
        return False
    if first.format.name not in ("bgra", "rgba", "pal8"):
        return True
    return int(first.reformat(format="rgba").to_ndarray()[:, :, 3].min()) < 255
