"""Text subtitles in the form that a container takes, through FFmpeg's decoders and encoders."""

from __future__ import annotations

from typing import Any, cast

import av
from av.packet import Packet

TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
"""Codecs of text subtitles; others are pictures and cannot be rewritten."""
FORM = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
"""Text subtitle codec of each muxer."""


class SubtitleRewriter:
    """Converter of text subtitles; times are kept, and the formatting that both codecs support."""

    def __init__(self, stream: Any, form: str) -> None:
        self.decoder: Any = stream.codec_context
        self.decoder.open(strict=False)
        self.encoder = cast(Any, av.CodecContext.create(form, "w"))
        self.encoder.time_base = stream.time_base
        self.encoder.subtitle_header = self.decoder.subtitle_header
        self.encoder.open()

    def __call__(self, packet: Any) -> list[Any]:
        """Return the converted packet, or none for an empty one (mp4 fills pauses with empty ones)."""
        shown = self.decoder.decode2(packet)
        if shown is None or not len(shown):
            return []
        made = Packet(bytes(self.encoder.encode_subtitle(shown)))
        made.pts = made.dts = packet.pts
        made.duration, made.time_base = packet.duration, packet.time_base
        return [made]
