"""Everything of a file besides its picture: sound, subtitles, covers, attachments, data, chapters, metadata.

Packets are copied byte for byte from a second demuxer, interleaved with the video, so that a reader of frames
stays a plain iterator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.rational import AVRational
from av.stream import Discard

from mst_deploy.errors import InputError, OutputError
from mst_deploy.video.demuxing import is_cover, open_input, packets_of
from mst_deploy.video.info import VideoInfo
from mst_deploy.video.muxer_support import add_copy, can_hold, codec_name, describe, takes_encoded
from mst_deploy.video.side_data import holds_stereo
from mst_deploy.video.sound import USUAL_SOUND, SoundEncoder
from mst_deploy.video.subtitles import FORM, TEXT, SubtitleRewriter

OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Metadata keys that a muxer writes about the file itself; those of the source would be wrong."""
OF_THE_CODING = (
    "bps",
    "number_of_",
    "_statistics_",
    "duration",
    "encoder",
    "vendor_id",
    "variant_bitrate",
    "alpha_mode",
    "stereo_mode",
)
"""Prefixes of metadata keys about the encoding of the source's picture."""
PICTURES_ONLY = {"gif", "webp", "image2", "yuv4mpegpipe"}
"""Muxers that hold only one stream of pictures."""
LOOK_BACK = 60
"""Seconds before a cut in which subtitles that are still shown may begin."""
EMPTY_TEXT = b"\0\0"
"""Data with which mp4 fills the pauses between subtitles; its muxer adds it again."""
GONE_BACK = Fraction(1, 10)
"""Largest step back of a packet's time, in seconds, that counts as rounding."""


@dataclass
class StreamRoute:
    """Route of the packets of one stream."""

    stream: Any
    rewrite: Callable[[Any], list[Any]] | None = None
    """Conversion to packets of another form; for sound it is flushed with None at the end."""
    last: int | None = None
    """Decoding time of the packet before, in units of ``stream.time_base``."""
    text: bool = False
    """Whether these are subtitles, which may overlap a cut and may begin together."""
    cover: bool = False
    """Whether this is a cover: one picture without a time."""
    adts: bool = False
    """Whether every packet begins with a header of AAC (ISO/IEC 13818-7, 6.2), as in transport streams."""


class PassthroughStreams:
    """Copies everything besides the picture into an output container.

    Chapters and metadata are set at once; packets follow with :meth:`copy_until`. ``not_kept`` describes what
    the container cannot hold, ``damaged`` counts packets with invalid times, ``invalid`` those that the muxer
    refuses for their content.
    """

    def __init__(
        self, source: VideoInfo, output: Any, muxer: str, *, audio: str | None = None, subtitles: str = "copy"
    ) -> None:
        self.source, self.output, self.muxer = source, output, muxer
        self.audio, self.subtitles = audio, subtitles
        self.not_kept: list[str] = []
        self.notes: list[str] = []
        self.damaged = self.invalid = 0
        self.routes: dict[int, StreamRoute] = {}
        self.held: Any = None
        if source.pipe is not None and not source.pipe.container.input_was_opened:
            raise InputError(f"{source.path} was closed, and can be read only once; write before that")
        self.input = source.pipe.container if source.pipe else open_input(source.path, rate=source.rate)
        try:
            self._describe()
            for stream in self.input.streams:
                if stream.index != source.stream_index:
                    self._add(stream)
            self.demuxed = self._demuxed()
        except BaseException:
            self.close()
            raise

    def describe_picture(self, stream: Any) -> None:
        """Give the output's video stream the language, title and flags of the source's."""
        original = self.input.streams[self.source.stream_index]
        words = {k: v for k, v in original.metadata.items() if not k.lower().startswith(OF_THE_CODING)}
        if self.source.cut is not None and self.source.cut.skips and words.pop("timecode", None):
            self.not_kept.append("the time code (it counts from a start that was cut off)")
        mode = self.source.stereo_mode
        if mode is not None and holds_stereo(self.muxer, mode):
            words["stereo_mode"] = mode
        elif mode is not None:
            self.not_kept.append(f"the mark of a stereo picture ({mode}; only .mkv and .webm are given it)")
        stream.metadata.update(words)
        stream.disposition = original.disposition

    @property
    def damage(self) -> tuple[str, ...]:
        """Return descriptions of what could not be copied because of damage."""
        counts = (
            (self.damaged, "had times that make no sense"),
            (self.invalid, "were damaged and are left out"),
        )
        return tuple(f"{count} packet(s) of sound or subtitles {what}" for count, what in counts if count)

    def copy_until(self, time: Fraction | None) -> None:
        """Mux every packet that starts before ``time`` (output seconds); None means all remaining ones."""
        while (packet := self.held or self._next()) is not None:
            self.held = packet
            if time is not None and _start(packet) >= time:
                return
            self.held = None
            self._mux(packet)

    def finish(self, until: Fraction | None = None) -> None:
        """Mux the remaining packets before ``until`` (output seconds) and flush the encoders of sound."""
        self.copy_until(until)
        for route in self.routes.values():
            if isinstance(route.rewrite, SoundEncoder):
                self._mux_all(route.rewrite(None), route)

    def close(self) -> None:
        """Close the second demuxer."""
        if self.source.pipe is None:
            self.input.close()

    def _describe(self) -> None:
        if self.muxer in PICTURES_ONLY:
            return
        words = {k: v for k, v in self.input.metadata.items() if k.lower() not in OF_THE_FILE}
        self.output.metadata.update(words)
        chapters = self.input.chapters()
        if self.muxer == "webm" and chapters:
            self.not_kept.append("chapters (.webm files hold none)")
            return
        self.output.set_chapters(_cut_chapters(chapters, self.source))

    def _add(self, stream: Any) -> None:
        """Add the route of one stream; raise OutputError or record what the container cannot hold."""
        form = FORM.get(self.muxer)
        if self.muxer in PICTURES_ONLY:
            self.not_kept.append(f"{describe(stream)} ({self.muxer} holds pictures only)")
        elif _comes_by_itself(stream, self.input):
            return
        elif stream.type == "attachment":
            self._attach(stream.name or "attachment", stream.mimetype, stream.data, stream)
        elif is_cover(stream) and self.muxer == "matroska":
            self._attach_cover(stream)
        elif stream.type == "audio":
            self._add_sound(stream)
        elif stream.type == "subtitle" and self.subtitles == "none":
            self.not_kept.append(f"{describe(stream)} (left out)")
        elif can_hold(self.muxer, stream):
            made = add_copy(self.output, stream)
            self.routes[stream.index] = StreamRoute(
                made, text=stream.type == "subtitle", cover=is_cover(stream)
            )
        elif stream.type == "subtitle" and form and _is_text(stream):
            self._rewrite(stream, form)
        elif stream.type == "subtitle" and can_hold("matroska", stream):
            raise OutputError(
                f"{self.muxer} files cannot hold {describe(stream)}; write to a .mkv file instead, or leave "
                "subtitles out with [option:subtitles] none"
            )
        else:
            self.not_kept.append(f"{describe(stream)} ({self.muxer} cannot hold it)")

    def _add_sound(self, stream: Any) -> None:
        """Copy, reencode or leave out a sound stream. Raises OutputError where an explicit choice cannot be
        met."""
        wanted = self.audio
        if wanted == "none":
            self.not_kept.append(f"{describe(stream)} (left out)")
            return
        if wanted in (None, "copy", codec_name(stream)) and can_hold(self.muxer, stream):
            adts = codec_name(stream) == "aac" and not stream.codec_context.extradata
            self.routes[stream.index] = StreamRoute(add_copy(self.output, stream), adts=adts)
            if self.muxer == "mp4" and (codec_name(stream) or "").startswith("pcm"):
                self.notes.append(
                    f"{describe(stream)} is written as ipcm, which few players take in an mp4; a .mov file, "
                    "or [option:audio] aac, avoids it"
                )
            return
        if not _decodes(stream):
            self.not_kept.append(f"{describe(stream)} (it can be neither copied nor decoded)")
            return
        usual = USUAL_SOUND[self.muxer]
        held = can_hold("matroska", stream)
        if wanted == "copy" or (wanted is None and held):
            instead = "write to a .mkv file instead, or encode" if held else "encode"
            raise OutputError(
                f"{self.muxer} files cannot hold {describe(stream)}; {instead} the sound with "
                f"[option:audio] {usual}"
            )
        codec = wanted or usual
        if not takes_encoded(self.muxer, stream, codec):
            raise OutputError(
                f"{self.muxer} files cannot hold {describe(stream)} encoded as {codec}; use "
                f"[option:audio] {usual}"
            )
        encoder = SoundEncoder(stream, self.output, codec)
        encoder.stream.metadata.update(stream.metadata)
        encoder.stream.disposition = stream.disposition
        self.routes[stream.index] = StreamRoute(encoder.stream, encoder)
        self.not_kept.append(f"the codec of {describe(stream)} (encoded as {codec})")

    def _rewrite(self, stream: Any, form: str) -> None:
        made = self.output.add_mux_stream(form)
        made.time_base = stream.time_base
        made.metadata.update(stream.metadata)
        made.disposition = stream.disposition
        self.routes[stream.index] = StreamRoute(made, SubtitleRewriter(stream, form), text=True)
        self.not_kept.append(f"the form of {describe(stream)} (written as {form})")

    def _attach(self, name: str, mimetype: str | None, data: bytes, stream: Any) -> None:
        if self.muxer != "matroska":
            self.not_kept.append(f"attachment {name} (only .mkv holds attachments)")
            return
        made = self.output.add_attachment(name, mimetype or "application/octet-stream", data)
        made.metadata.update(stream.metadata)

    def _attach_cover(self, stream: Any) -> None:
        """Attach a cover to Matroska, which keeps covers as attachments called cover.*"""
        if self.source.pipe is not None:
            self.not_kept.append(f"{describe(stream)} (a cover cannot be copied from a pipe)")
            return
        kind = "png" if stream.codec_context.name == "png" else "jpg"
        name = stream.metadata.get("filename") or f"cover.{kind}"
        mimetype = stream.metadata.get("mimetype") or f"image/{'png' if kind == 'png' else 'jpeg'}"
        with open_input(self.source.path) as container:
            picture = next(container.demux(container.streams[stream.index]))
            self._attach(name, mimetype, bytes(picture), stream)

    def _next(self) -> Any:
        """Return the next selected packet in the order of the file, on the clock of the output; None if there
        is none now."""
        while (packet := self._read()) is not None:
            route = self.routes.get(packet.stream_index)
            if route is None or not packet.size or (route.text and bytes(packet) == EMPTY_TEXT):
                continue
            if route.cover:
                packet.pts = packet.dts = 0
                return packet
            if (packet.pts is not None or packet.dts is not None) and self._moved(packet, route):
                return packet
        return None

    def _read(self) -> Any:
        if self.source.pipe is None:
            return next(self.demuxed, None) if self.routes else None
        return self.source.pipe.packets.popleft() if self.source.pipe.packets else None

    def _demuxed(self) -> Iterator[Any]:
        for stream in self.input.streams:
            if stream.index not in self.routes:
                stream.discard = Discard.all
        try:
            if self.source.cut is not None and self.source.cut.start - self.source.cut.origin > LOOK_BACK:
                self.input.seek(int((self.source.cut.start - LOOK_BACK) * av.time_base))
            yield from packets_of(self.input, *(self.input.streams[index] for index in self.routes))
        except av.FFmpegError as error:
            raise InputError(
                f"the sound or subtitles of {self.source.path} cannot be read to the end ({error.strerror}); "
                "repair the file, or cut it before that point with [option:end]"
            ) from error

    def _moved(self, packet: Any, route: StreamRoute) -> bool:
        """Move a packet to the output's clock; return False if it lies outside of the selected part."""
        cut = self.source.cut
        if cut is None:
            return True
        base, start = packet.time_base, _start(packet)
        if route.text and start < cut.start:
            late = cut.start - start
            if packet.duration * base <= late:
                return False
            packet.duration -= int(late / base)  # still shown when the cut begins
            packet.pts = packet.dts = 0
            return True
        if not cut.holds(start) and (cut.skips or start >= cut.start):
            return (
                False  # what comes before the start of an uncut file is sound for the decoder to begin with
            )
        shift = cut.shift(base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        return True

    def _mux(self, packet: Any) -> None:
        route = self.routes[packet.stream_index]
        self._mux_all(route.rewrite(packet) if route.rewrite else [packet], route)

    def _mux_all(self, packets: list[Any], route: StreamRoute) -> None:
        self.output.start_encoding()  # the muxer's time bases are known only with its header
        for packet in packets:
            if route.adts and not has_sync_word(
                bytes(packet)
            ):  # by the first one muxers know the form of all
                self.invalid += 1
                continue
            packet.rescale_ts(AVRational(route.stream.time_base))
            if not self._in_order(packet, route):
                self.damaged += 1
                continue
            packet.stream = route.stream
            try:
                self.output.mux(packet)
            except (av.InvalidDataError, av.PatchWelcomeError):  # of AAC with a damaged header, for example
                self.invalid += 1

    def _in_order(self, packet: Any, route: StreamRoute) -> bool:
        """Repair times that rounding made decrease, as muxers need increasing ones; return False for a packet
        out of order."""
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.pts is not None and packet.pts < packet.dts:
            packet.pts = packet.dts
        if route.last is not None and packet.dts <= route.last and not route.text:
            if (route.last - packet.dts) * route.stream.time_base > GONE_BACK:
                return False
            packet.dts = route.last + 1
            packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        route.last = packet.dts
        return True


def has_sync_word(data: bytes) -> bool:
    """Return whether a packet of AAC begins as its header does."""
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xF0 == 0xF0


def _decodes(stream: Any) -> bool:
    """Return whether sound can be decoded: the decoder is available, and the stream has the parameters that
    it needs."""
    context = stream.codec_context
    return (
        context is not None
        and context.sample_rate > 0
        and context.layout.nb_channels > 0
        and context.format is not None
    )


def _start(packet: Any) -> Fraction:
    time: Fraction = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
    return time


def _is_text(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in TEXT


def _comes_by_itself(stream: Any, container: Any) -> bool:
    """Return whether a data track is written anew by the muxer: chapter names and time codes."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or bool(container.chapters() and stream.name == "bin_data")


def _cut_chapters(chapters: list[dict[str, Any]], source: VideoInfo) -> list[dict[str, Any]]:
    """Return the chapters of the selected part, on its clock."""
    cut = source.cut
    if cut is None:
        return chapters
    kept = []
    for chapter in chapters:
        base = chapter["time_base"]
        start, end = chapter["start"] * base, chapter["end"] * base
        if end <= cut.start or (cut.end is not None and start >= cut.end):
            continue
        last = end if cut.end is None else min(end, cut.end)
        times = {"start": int(max(start - cut.start, 0) / base), "end": int((last - cut.start) / base)}
        kept.append({**chapter, **times})
    return kept
