"""Live sinks that encode: H.264 into network streams and files, with settings of low latency."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.video.color import SDR_TAGS
from mst_deploy.video.info import Frame, Image
from mst_deploy.video.live_sink import LiveSinkBase, SinkSettings
from mst_deploy.video.live_sound import Sound, SoundEncoder
from mst_deploy.video.live_source import LIVE_CLOCK, hidden, scheme_of
from mst_deploy.video.sinks import interrupted_name

PIPE = "-"
"""Name of the standard output."""
BLOCKED = 5.0
"""Seconds without progress to a TCP peer after which the stream counts as broken."""
DATAGRAM = 7 * 188
"""Bytes of a UDP datagram: whole transport packets, below the usual limit of networks."""
AT_ONCE = {"max_interleave_delta": "500000"}
"""Microseconds that a picture may wait in the multiplexer for the sound after it."""
NETWORK_OPTIONS = {
    "udp": {"flush_packets": "1", "omit_video_pes_length": "0", **AT_ONCE},
    "tcp": {"flush_packets": "1", "omit_video_pes_length": "0", **AT_ONCE},
    "rtmp": {"flvflags": "no_duration_filesize", "flush_packets": "1", **AT_ONCE},
    "rtsp": {"rtsp_transport": "tcp", **AT_ONCE},
}
"""Options of the muxer, by the scheme of an address. With the length of a video packet in its header, the
receiver need not wait for the beginning of the next one to know its end: one frame less delay."""
STREAMS = {"udp": "mpegts", "tcp": "mpegts", "rtmp": "flv", "rtsp": "rtsp"}
"""FFmpeg's muxer, by the scheme of an address."""
FILES = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""FFmpeg's muxer, by the suffix of a file."""
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
"""mp4 in parts of one key frame interval: after a crash the file is playable."""


class EncodedSink(LiveSinkBase):
    """H.264 through PyAV with settings of low latency and a key frame each second."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(hidden(name), settings)
        self.last, self.next_key, self.captured = -1, 0, 0.0
        self.file: Path | None = None
        self.socket: SocketWriter | None = None
        scheme = scheme_of(name)
        target: Any = name
        if name == PIPE:
            self.name, target = "standard output", StandardOutput()
            muxer, options = "mpegts", NETWORK_OPTIONS["tcp"]
        elif scheme:
            muxer, options = STREAMS[scheme], NETWORK_OPTIONS[scheme]
        else:
            self.file = Path(name)
            muxer = FILES[self.file.suffix.lower()]
            if self.file.exists() and not settings.force:
                raise OutputError(
                    f"{name} already exists; overwrite it with [option:force], or use another name"
                )
            if not self.file.parent.is_dir():
                raise OutputError(f"the folder {self.file.parent} does not exist; make it first")
            target = str(interrupted_name(self.file))
            options = {"flush_packets": "1"} | (FRAGMENTS if muxer in ("mp4", "mov") else {})
        try:
            if scheme in ("udp", "tcp"):
                target = self.socket = SocketWriter(name)
            self.container: Any = av.open(target, "w", format=muxer, options=options)
            self.stream = self._stream()
            self.sound = SoundEncoder(self.container) if settings.sound else None
            self.container.start_encoding()
        except InvalidArgument:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot open {self.name} ({_reason(error)}); {_peer_help(scheme)}") from error
        self.reformatter = VideoReformatter()
        if scheme in ("udp", "tcp"):
            self.hint = f"see it with: ffplay -fflags nobuffer {self.name}"

    def _stream(self) -> Any:
        width, height, rate = self.settings.width, self.settings.height, self.settings.rate
        stream: Any = self.container.add_stream("libx264", rate=rate.limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, LIVE_CLOCK)
        context = stream.codec_context
        context.time_base = stream.time_base
        context.max_b_frames, context.gop_size = 0, max(1, round(2 * rate))
        context.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "21"}
        SDR_TAGS.apply(context)
        return stream

    def write(self, frame: Frame) -> None:
        self.captured = time.monotonic() if frame.captured is None else frame.captured
        super().write(frame)

    def send(self, image: Image, pts: int) -> None:
        picture = self.reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuv420p",
            src_colorspace=SDR_TAGS.scaler_matrix,
            dst_colorspace=SDR_TAGS.scaler_matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=SDR_TAGS.range,
            interpolation=Interpolation.BILINEAR,
        )
        SDR_TAGS.apply(picture)
        self.last = max(pts, self.last + 1)  # muxers want times that grow
        picture.pts, picture.time_base = self.last, Fraction(1, LIVE_CLOCK)
        if self.last >= self.next_key:  # by the clock: few frames may come, and players join at key frames
            picture.pict_type = PictureType.I
            self.next_key = self.last + LIVE_CLOCK
        if self.sound is not None:
            self._mux(self.sound.packets_until(self.last / LIVE_CLOCK, self.captured))
        self._mux(self.stream.encode(picture))

    def hear(self, sound: Sound) -> None:
        """Take sound, from any thread; it is sent with the pictures of its time."""
        if self.sound is not None:
            self.sound.hear(sound)

    def _mux(self, packets: Iterable[Any]) -> None:
        try:
            for packet in packets:
                self.container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.name} takes nothing more ({_reason(error)})") from error

    def finish(self) -> None:
        """Flush the encoder and close; a file gets its name, one without a frame is removed."""
        if self.container is None:
            return
        container, self.container = self.container, None
        try:
            with suppress(av.EOFError):
                if self.sound is not None and self.last >= 0:
                    for packet in self.sound.rest(self.last / LIVE_CLOCK, self.captured):
                        container.mux(packet)
                for packet in self.stream.encode(None):
                    container.mux(packet)
            container.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.name} could not be ended properly ({_reason(error)})") from error
        finally:
            if self.socket is not None:
                self.socket.close()
        if self.file is not None and self.written:
            interrupted_name(self.file).replace(self.file)
        elif self.file is not None:  # no video: nothing that would play
            interrupted_name(self.file).unlink()

    def abandon(self, error: BaseException) -> None:
        """Close, and leave a file under the name of an interrupted one, unless it has no frame."""
        if self.container is not None:
            container, self.container = self.container, None
            with suppress(Exception):
                container.close()
            if self.file is not None and not self.written:
                interrupted_name(self.file).unlink(missing_ok=True)
            if self.socket is not None:
                self.socket.close()


class StandardOutput:
    """The standard output, unbuffered."""

    def write(self, data: bytes) -> int:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return len(data)


class SocketWriter:
    """A UDP or TCP socket as a file that can be written: FFmpeg's own would block all threads while it
    connects, and has no timeout."""

    def __init__(self, address: str) -> None:
        """Connect to ``udp://HOST:PORT`` or ``tcp://HOST:PORT``. Raises InvalidArgument, OSError."""
        parts = urlsplit(address)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not port:
            raise InvalidArgument(f"cannot use {address!r} as an address: write {parts.scheme}://HOST:PORT")
        self.datagrams = parts.scheme.lower() == "udp"
        if self.datagrams:
            family, _, _, _, peer = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self.socket = socket.socket(family, socket.SOCK_DGRAM)
            self.peer: Any = peer
        else:
            self.socket = socket.create_connection((host, port), timeout=BLOCKED)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> int:
        """Send bytes; over UDP they are lost if nobody receives them. Raises OSError."""
        if self.datagrams:
            for start in range(0, len(data), DATAGRAM):
                with suppress(ConnectionRefusedError):
                    self.socket.sendto(data[start : start + DATAGRAM], self.peer)
        else:
            self.socket.sendall(data)
        return len(data)

    def close(self) -> None:
        self.socket.close()


def _peer_help(scheme: str) -> str:
    if scheme:
        return "check the address, and that the other end listens"
    return "check the folder and the space left"


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
