"""Reencoding of sound, where a container cannot hold the source's codec or on request."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

from mst_deploy.video.options import SOUND_CODECS

USUAL_SOUND = {"mp4": "aac", "mov": "aac", "matroska": "flac", "webm": "opus"}
"""Codec by muxer for sound that cannot be copied."""
OPUS_RATES = (48000, 24000, 16000, 12000, 8000)
BITS_PER_SECOND = {"aac": 96_000, "opus": 80_000}
"""Bit rate per channel, above the threshold of transparency (ITU-R BS.1116 tests of both codecs)."""


class SoundEncoder:
    """Decoder and encoder of one sound stream; gaps become silence."""

    def __init__(self, source: Any, output: Any, codec: str) -> None:
        self.decoder: Any = source.codec_context
        context: Any = av.CodecContext.create(SOUND_CODECS[codec], "w")
        rate = int(self.decoder.sample_rate)
        if codec == "opus":
            rate = next((each for each in OPUS_RATES if each == rate), OPUS_RATES[0])
        self.stream: Any = output.add_stream(SOUND_CODECS[codec], rate=rate)
        coder = self.stream.codec_context
        channels = int(self.decoder.layout.nb_channels)
        coder.layout = _named_layout(channels) or self.decoder.layout.name
        formats = [each.name for each in context.codec.audio_formats or ()]
        deep = self.decoder.format.bytes > 2
        if codec == "flac":
            coder.format = "s32" if deep and "s32" in formats else "s16"
        elif formats:
            coder.format = formats[0]
        coder.time_base = self.stream.time_base = Fraction(1, rate)
        if codec in BITS_PER_SECOND:
            coder.bit_rate = BITS_PER_SECOND[codec] * channels
        self.graph: Any = None
        self.end: int | None = None
        """End of the last packet, in samples; the last packets of some encoders have no time."""

    def __call__(self, packet: Any | None) -> list[Any]:
        """Return the packets that are ready after one more; None flushes decoder and encoder."""
        try:
            frames = self.decoder.decode(packet)
        except av.FFmpegError:  # a damaged packet: its place becomes silence
            frames = []
        made = [coded for frame in frames for coded in self._encoded(frame)]
        if packet is None:
            if self.graph is not None:
                self.graph.push(None)
                made += self._pulled()
            made += self.stream.encode(None)
        for each in made:
            if each.pts is None:
                each.pts = each.dts = self.end
            self.end = None if each.pts is None else each.pts + (each.duration or 0)
        return made

    def _encoded(self, frame: Any) -> list[Any]:
        if self.graph is None:
            self.graph = self._filters(frame)
        self.graph.push(frame)
        return self._pulled()

    def _pulled(self) -> list[Any]:
        made: list[Any] = []
        while True:
            try:
                frame = self.graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return made
            made += self.stream.encode(frame)

    def _filters(self, frame: Any) -> Any:
        """Build the filters to sample rate, channel layout and frame size of the encoder; gaps in the times
        are filled."""
        coder = self.stream.codec_context
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base,
        )
        wanted = (
            f"sample_fmts={coder.format.name}:sample_rates={coder.sample_rate}:"
            f"channel_layouts={coder.layout.name}"
        )
        steps = [source, graph.add("aresample", "async=1"), graph.add("aformat", wanted)]
        graph.link_nodes(*steps, graph.add("abuffersink")).configure()
        return graph


def _named_layout(channels: int) -> str | None:
    """Return the usual layout of a number of channels, which all encoders take."""
    return {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}.get(channels)
