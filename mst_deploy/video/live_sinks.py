"""Live sinks: network streams, a file, a window, a virtual camera, MJPEG over HTTP, nothing.

The size of a sink is fixed; frames of another size are scaled to it. Each sink is used by one thread. A new
kind is one class with the members of ``FrameSink`` and one entry of ``LIVE_SINKS``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.errors import InvalidArgument, MissingDependency, OutputError
from mst_deploy.images import letterboxed
from mst_deploy.video.capture import LIVE_CLOCK, SinkClosed, hidden, scheme_of
from mst_deploy.video.color import SDR_TAGS
from mst_deploy.video.info import Frame, Image, WriteReport
from mst_deploy.video.sinks import FrameSink, interrupted_name

BLOCKED = 5.0
"""Seconds without progress to a TCP peer after which the stream counts as broken."""
DATAGRAM = 7 * 188
"""Bytes of a UDP datagram: whole transport packets, below the usual limit of networks."""
NETWORK_OPTIONS = {
    "udp": {"flush_packets": "1", "omit_video_pes_length": "0"},
    "tcp": {"flush_packets": "1", "omit_video_pes_length": "0"},
    "rtmp": {"flvflags": "no_duration_filesize", "flush_packets": "1"},
    "rtsp": {"rtsp_transport": "tcp"},
}
"""Options of the muxer, by the scheme of an address. With the length of a video packet in its header, the
receiver need not wait for the beginning of the next one to know its end: one frame less delay."""
STREAMS = {"udp": "mpegts", "tcp": "mpegts", "rtmp": "flv", "rtsp": "rtsp"}
"""FFmpeg's muxer, by the scheme of an address."""
FILES = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""FFmpeg's muxer, by the suffix of a file."""
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
"""mp4 in parts of one key frame interval: after a crash the file is playable."""
KINDS = (
    "window, virtual-camera[:DEVICE], udp:// tcp:// rtmp:// rtsp://, a file (.mp4, .mov, .mkv, .ts), "
    "mjpeg:[HOST:]PORT, null"
)
VIRTUAL_CAMERA_HELP = (
    "there is no virtual camera; on Linux make one with: sudo modprobe v4l2loopback exclusive_caps=1 "
    "card_label=mst; on Windows and macOS install OBS and start its virtual camera once"
)
PLAYERS = {
    "ffplay": "ffplay -hide_banner -loglevel error -fflags nobuffer -flags low_delay -framedrop "
    "-probesize 32 -f rawvideo -pixel_format rgb24 -video_size {width}x{height} -framerate {rate} "
    "-window_title mst -i -",
    "mpv": "mpv -really-quiet -profile=low-latency -untimed -cache=no -title=mst -demuxer=rawvideo "
    "-demuxer-rawvideo-w={width} -demuxer-rawvideo-h={height} -demuxer-rawvideo-fps={rate} "
    "-demuxer-rawvideo-mp-format=rgb24 -",
}
"""Programs that show raw frames from their standard input, best first."""


@dataclass(frozen=True)
class SinkSettings:
    """Settings of every sink."""

    width: int
    """Width in pixels, even; ``height`` likewise."""
    height: int
    rate: Fraction
    """Nominal frames per second; frames have their own times."""
    force: bool = False
    """Whether to overwrite an existing file."""


class _Base:
    """Base class of live sinks: the interface of a ``FrameSink``."""

    done, complete = 0, False
    hint = ""
    """Hint on how to see the result, one line."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        self.name, self.settings, self.written = name, settings, 0
        self.report = WriteReport()

    def write(self, frame: Frame) -> None:
        """Scale a frame to the size of the sink and write it. Raises OutputError, SinkClosed."""
        image = letterboxed(frame.image, self.settings.width, self.settings.height)
        self.send(np.ascontiguousarray(image), frame.pts)
        self.written += 1

    def send(self, image: Image, pts: int) -> None:
        """Take a picture (H, W, 3) of the sink's size; ``pts`` in units of 1 / ``LIVE_CLOCK`` s."""

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def keep(self) -> str:
        self.finish()
        return ""

    def abandon(self, error: BaseException) -> None:
        with suppress(Exception):
            self.finish()


class NullSink(_Base):
    """A sink that discards frames."""


class EncodedSink(_Base):
    """H.264 through PyAV with settings of low latency and a key frame each second."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(hidden(name), settings)
        self.last, self.next_key = -1, 0
        self.file: Path | None = None
        self.socket: SocketWriter | None = None
        scheme = scheme_of(name)
        target: Any = name
        if scheme:
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
        self._mux(picture)

    def _mux(self, picture: Any) -> None:
        try:
            for packet in self.stream.encode(picture):
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


class WindowSink(_Base):
    """A window of ffplay or mpv, which receive raw frames. Closing the window ends the sink."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(name, settings)
        player = find_player()
        if player is None:
            raise OutputError(
                "a window needs ffplay (part of FFmpeg) or mpv; install one of them, "
                "or use another sink: mjpeg:8000 shows the result in a browser"
            )
        line = PLAYERS[player].format(
            width=settings.width, height=settings.height, rate=f"{float(settings.rate):g}"
        )
        self.player = player
        self.process = subprocess.Popen(
            line.split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )  # Ctrl-C is ours alone, so that the window is closed after the last frame

    def send(self, image: Image, pts: int) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(image.tobytes())
            self.process.stdin.flush()
        except OSError:
            code = self.process.wait()
            said = self.process.stderr.read().decode(errors="replace").strip() if self.process.stderr else ""
            self.finish()
            if code:
                raise OutputError(
                    f"{self.player} has ended ({said.splitlines()[-1] if said else code})"
                ) from None
            raise SinkClosed("the window was closed") from None

    def finish(self) -> None:
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.terminate()
            self.process.wait(2)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class VirtualCameraSink(_Base):
    """A camera that other programs can choose, through pyvirtualcam."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(name, settings)
        try:
            import pyvirtualcam
        except ModuleNotFoundError as error:
            raise MissingDependency("pyvirtualcam", "live", "virtual-camera") from error
        device = name.partition(":")[2] or None
        try:
            self.camera: Any = pyvirtualcam.Camera(
                settings.width, settings.height, float(settings.rate), device=device
            )
        except (RuntimeError, OSError, ValueError) as error:
            first = str(error).strip().splitlines()
            raise OutputError(f"{VIRTUAL_CAMERA_HELP} ({first[0] if first else name})") from error
        self.hint = f"choose the camera {self.camera.device} in the other program (OBS: Sources, +, camera)"

    def send(self, image: Image, pts: int) -> None:
        try:
            self.camera.send(image)
        except (RuntimeError, OSError) as error:
            raise OutputError(f"the virtual camera takes nothing more ({error})") from error

    def finish(self) -> None:
        self.camera.close()


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


@dataclass(frozen=True)
class LiveSinkSpec:
    """One kind of live sink."""

    name: str
    accepts: Callable[[str], bool]
    """Function that returns whether a name given by the user means this kind."""
    opener: str
    """Name of the function in the module: (name, SinkSettings) -> FrameSink."""
    module: str = __name__
    """Name of the module, imported when the kind is used."""


LIVE_SINKS = [
    LiveSinkSpec("null", lambda name: name == "null", "NullSink"),
    LiveSinkSpec("window", lambda name: name == "window", "WindowSink"),
    LiveSinkSpec("camera", lambda name: name.partition(":")[0] == "virtual-camera", "VirtualCameraSink"),
    LiveSinkSpec(
        "mjpeg", lambda name: name.partition(":")[0] == "mjpeg", "MjpegSink", "mst_deploy.video.mjpeg"
    ),
    LiveSinkSpec("network", lambda name: scheme_of(name) in STREAMS, "EncodedSink"),
    LiveSinkSpec("file", lambda name: not scheme_of(name) and suffix_of(name) in FILES, "EncodedSink"),
]
"""Kinds in the order in which they are tried; the first that accepts a name opens it. Names are text: a path
would lose slashes."""


def live_sink_spec(name: str) -> LiveSinkSpec:
    """Return the kind of sink that a name means. Raises InvalidArgument."""
    for spec in LIVE_SINKS:
        if spec.accepts(name):
            return spec
    raise InvalidArgument(f"cannot use {hidden(name)!r} as a sink; known are: {KINDS}")


def open_live_sink(name: str, settings: SinkSettings) -> FrameSink:
    """Open the sink of a name. Raises OutputError, InvalidArgument, MissingDependency."""
    spec = live_sink_spec(name)
    return cast(FrameSink, getattr(import_module(spec.module), spec.opener)(name, settings))


def suffix_of(name: str) -> str:
    """Return the suffix in lower case: ``.mp4`` for ``clips/Out.MP4``."""
    return Path(name).suffix.lower()


def find_player() -> str | None:
    """Return the program that can show a window here; None without such a program or a display."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return next((player for player in PLAYERS if shutil.which(player)), None)


def _peer_help(scheme: str) -> str:
    if scheme:
        return "check the address, and that the other end listens"
    return "check the folder and the space left"


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
