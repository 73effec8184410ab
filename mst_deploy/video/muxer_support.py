"""Which streams the muxer of a container takes: found by trying FFmpeg's muxers on files in memory."""

from __future__ import annotations

import io
from typing import Any

import av

from mst_deploy.video.demuxing import open_input
from mst_deploy.video.info import VideoInfo
from mst_deploy.video.sound import SoundEncoder


def can_hold(muxer: str, stream: Any) -> bool:
    """Return whether FFmpeg's muxer takes a stream, by trying it on a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as container:
            add_copy(container, stream)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def takes_encoded(muxer: str, stream: Any, codec: str) -> bool:
    """Return whether FFmpeg's muxer takes the sound of a stream in another codec."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as container:
            SoundEncoder(stream, container, codec)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def add_copy(output: Any, stream: Any) -> Any:
    """Add a stream for the packets of another, with its metadata and flags; return it."""
    made = output.add_stream_from_template(stream, opaque=True)
    made.metadata.update(stream.metadata)
    made.disposition = stream.disposition
    return made


def codec_name(stream: Any) -> str | None:
    """Return FFmpeg's name of the codec; None for a stream without one, such as an attachment."""
    return stream.codec_context.name if stream.codec_context else None


def describe(stream: Any) -> str:
    """Describe a stream for people: ``subtitle stream 3 (hdmv_pgs_subtitle, eng)``."""
    codec = codec_name(stream) or getattr(stream, "name", None)
    words = [word for word in (codec, stream.metadata.get("language")) if word]
    return f"{stream.type} stream {stream.index} ({', '.join(words) or 'of unknown kind'})"


def fits(source: VideoInfo, muxer: str, audio: str | None = None, subtitles: str = "copy") -> bool:
    """Return whether a container holds every stream besides the picture as it is, or as requested."""
    encoded = audio not in (None, "copy")
    with open_input(source.path, rate=source.rate) as container:
        return all(
            stream.type == "data"
            or (stream.type == "audio" and encoded)
            or (stream.type == "subtitle" and subtitles == "none")
            or (stream.type != "attachment" and can_hold(muxer, stream))
            for stream in container.streams
            if stream.index != source.stream_index
        )
