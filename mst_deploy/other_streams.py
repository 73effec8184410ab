"""Everything of a file beside its picture: sound, subtitles, covers, attachments, data, chapters, words.

Packets are copied byte for byte from a second demuxer, in step with the video, so that a reader of
frames stays a plain iterator. What a container cannot hold is found by asking FFmpeg's muxer.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Discard, Disposition

from mst_deploy.errors import OutputError
from mst_deploy.video import VideoInfo, open_input

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's name of the container, by suffix."""
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Words that a muxer writes about the file itself; those of the source would be wrong."""
OF_THE_CODING = ("bps", "number_of_", "_statistics_", "duration", "encoder", "vendor_id", "variant_bitrate")
"""Words (as beginnings) about how the source's picture was coded."""


class OtherStreams:
    """Copies what goes with the picture into an output container.

    Chapters and metadata are set at once; packets follow with :meth:`copy_until`.
    """

    def __init__(self, source: VideoInfo, output: Any, muxer: str) -> None:
        self.source, self.output, self.muxer = source, output, muxer
        self.input = open_input(source.path)
        try:
            self.streams: dict[int, Any] = {}
            self.not_kept: list[str] = []
            self._describe()
            for stream in self.input.streams:
                if stream.index != source.stream_index:
                    self._add(stream)
        except BaseException:
            self.input.close()
            raise
        for stream in self.input.streams:
            if stream.index not in self.streams:
                stream.discard = Discard.all
        self.packets = self._packets() if self.streams else iter(())
        self.held: Any = None

    def describe_picture(self, stream: Any) -> None:
        """Give the output's video stream the language, title and flags of the source's."""
        original = self.input.streams[self.source.stream_index]
        stream.metadata.update(_picture_words(original.metadata))
        stream.disposition = original.disposition

    def copy_until(self, time: Fraction | None) -> None:
        """Mux every packet that starts before ``time`` (seconds); None means all that are left."""
        while (packet := self.held or next(self.packets, None)) is not None:
            self.held = packet
            start = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
            if time is not None and start >= time:
                return
            self.held = None
            packet.stream = self.streams[packet.stream.index]
            self.output.mux(packet)

    def close(self) -> None:
        """Close the second demuxer."""
        self.input.close()

    def _describe(self) -> None:
        words = {k: v for k, v in self.input.metadata.items() if k.lower() not in OF_THE_FILE}
        self.output.metadata.update(words)
        self.output.set_chapters(self.input.chapters())

    def _add(self, stream: Any) -> None:
        """Make room for one stream; raise or note what the container cannot hold."""
        if stream.type == "attachment":
            self._attach(stream.name or "attachment", stream.mimetype, stream.data, stream)
        elif is_cover(stream) and self.muxer == "matroska":
            self._attach_cover(stream)
        elif can_hold(self.muxer, stream):
            self.streams[stream.index] = _added(self.output, stream)
        elif stream.type in ("audio", "subtitle"):
            raise OutputError(
                f"{Path(self.output.name).suffix} files cannot hold {describe(stream)}; "
                "write to a .mkv file instead"
            )
        elif not _comes_by_itself(stream, self.input):
            self.not_kept.append(f"{describe(stream)} ({self.muxer} cannot hold it)")

    def _attach(self, name: str, mimetype: str | None, data: bytes, stream: Any) -> None:
        if self.muxer != "matroska":
            self.not_kept.append(f"attachment {name} (only .mkv holds attachments)")
            return
        made = self.output.add_attachment(name, mimetype or "application/octet-stream", data)
        made.metadata.update(stream.metadata)

    def _attach_cover(self, stream: Any) -> None:
        """Matroska keeps covers as attachments called cover.*"""
        kind = "png" if stream.codec_context.name == "png" else "jpg"
        name = stream.metadata.get("filename") or f"cover.{kind}"
        mimetype = stream.metadata.get("mimetype") or f"image/{'png' if kind == 'png' else 'jpeg'}"
        with open_input(self.source.path) as container:
            picture = next(container.demux(container.streams[stream.index]))
        self._attach(name, mimetype, bytes(picture), stream)

    def _packets(self) -> Iterator[Any]:
        for packet in self.input.demux(*(self.input.streams[index] for index in self.streams)):
            if packet.size and (packet.pts is not None or packet.dts is not None):
                yield packet


def can_hold(muxer: str, stream: Any) -> bool:
    """Whether FFmpeg's muxer takes a stream: tried on a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as container:
            _added(container, stream)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def describe(stream: Any) -> str:
    """A stream in words: ``subtitle stream 3 (hdmv_pgs_subtitle, eng)``."""
    codec = stream.codec_context.name if stream.codec_context else getattr(stream, "name", None)
    words = [word for word in (codec, stream.metadata.get("language")) if word]
    return f"{stream.type} stream {stream.index} ({', '.join(words) or 'of unknown kind'})"


def is_cover(stream: Any) -> bool:
    """Whether a stream is a still cover picture, as music files have."""
    return bool(stream.disposition & Disposition.attached_pic)


def _added(output: Any, stream: Any) -> Any:
    made = output.add_stream_from_template(stream, opaque=True)
    made.metadata.update(stream.metadata)
    made.disposition = stream.disposition
    return made


def _comes_by_itself(stream: Any, container: Any) -> bool:
    """Data tracks that a muxer makes anew from what was copied: chapter names and time codes in mp4."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or bool(container.chapters() and stream.name == "bin_data")


def _picture_words(words: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in words.items() if not k.lower().startswith(OF_THE_CODING)}
