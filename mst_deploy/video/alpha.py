"""Transparency: which frames have it, and decoders that give it."""

from __future__ import annotations

from typing import Any

import av

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of a second stream in the same packets, which FFmpeg's own pass over."""


def alpha_decoder(stream: Any) -> Any:
    """A decoder for a stream that says of itself that it has an alpha channel beside its pictures.

    None where the stream's own decoder does, or where this build of FFmpeg has none.
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
    """Whether the pixel format has an alpha channel."""
    return any(component.is_alpha for component in picture.format.components) or picture.format.name == "pal8"


def is_transparent(first: av.VideoFrame) -> bool:
    """Whether frames like the first are transparent. GIF's always could be, so there the pixels decide."""
    if not has_alpha(first):
        return False
    if first.format.name not in ("bgra", "rgba", "pal8"):
        return True
    return int(first.reformat(format="rgba").to_ndarray()[:, :, 3].min()) < 255
