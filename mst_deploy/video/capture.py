"""Live sources: a test picture, a file at its own pace, network streams, cameras, screens.

A live source does not wait: it yields pictures when they arrive, with the time of their arrival. A picture is
decoded (H.264 must see every packet) but not converted to RGB, so that dropping it costs no more.

A new kind is one class with the members of ``LiveSource`` and one entry of ``LIVE_SOURCES``.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.video.color import SDR_TAGS, read_tags
from mst_deploy.video.counter_bars import COUNT, draw_counter
from mst_deploy.video.demuxing import picture_stream
from mst_deploy.video.info import Frame, Image, ReadOptions, VideoInfo
from mst_deploy.video.reader import VideoReader

LIVE_CLOCK = 90000
"""Time base of live frames: units per second."""
ANSWER = 10.0
"""Timeout in seconds for the first picture of a network source."""
SILENCE = 4.0
"""Seconds without a packet after which a network source or a camera counts as gone."""
PAUSE = 0.2  # seconds between two tries to open a source that is gone
TEST = re.compile(r"test(?::(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?)?", re.ASCII)
NETWORK = ("udp", "rtmp", "rtsp", "http", "https", "tcp")
LOW_DELAY = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "200000",
    "analyzeduration": "500000",
    "fpsprobesize": "1",  # not twenty frames, which take long when few come
}
KINDS = "camera[:N or :NAME], screen[:N], udp:// tcp:// rtmp:// rtsp:// http://, a file, test[:WxH@FPS]"
Note = Callable[[str], None]
SYSTEM: str = sys.platform


@dataclass(frozen=True)
class Picture:
    """A picture of a live source."""

    captured: float
    """Time of capture, in seconds of ``time.monotonic``."""
    content: Any = field(repr=False)
    """(H, W, 3) uint8 RGB, or PyAV's frame, not yet converted."""

    def rgb(self) -> Image:
        """Convert to (H, W, 3) uint8 RGB."""
        if isinstance(self.content, np.ndarray):
            return self.content
        picture, color = self.content, read_tags(self.content, Path("the source"))
        rgb = VideoReformatter().reformat(
            picture,
            format="rgb24",
            src_colorspace=color.scaler_matrix,
            dst_colorspace=color.scaler_matrix,
            src_color_range=color.range,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


class SinkClosed(Exception):
    """Raised by a sink that its user has closed: not an error; it takes no more frames."""


@dataclass(frozen=True)
class CaptureOptions:
    """Options of live sources."""

    loop: bool = False
    """Whether a file begins again at its end."""
    retry: float = 30.0
    """Seconds to wait for a source that has disappeared, or a network source that does not answer yet."""
    on_note: Note = lambda text: None
    """Callback for notes to the user, called from the capture thread."""


class LiveSource(Protocol):
    """A source of live pictures, to be read once, in one thread. Also a ``FrameSource``."""

    @property
    def info(self) -> VideoInfo:
        """Return size and rate, as far as they are known before the first picture."""
        ...

    def problems(self) -> tuple[str, ...]: ...

    def pictures(self) -> Generator[Picture, None, None]:
        """Yield pictures as they arrive, until the source ends or is stopped. Raises InputError."""
        ...

    def stop(self) -> None:
        """Stop :meth:`pictures` soon; may be called from another thread."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class _Base:
    """Base class of live sources: the interface of a ``FrameSource``."""

    info: VideoInfo

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def problems(self) -> tuple[str, ...]:
        return ()

    def pictures(self) -> Generator[Picture, None, None]:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        """Free the resources of the source."""

    def __iter__(self) -> Iterator[Frame]:
        first: float | None = None
        for picture in self.pictures():
            first = picture.captured if first is None else first
            pts = round((picture.captured - first) * LIVE_CLOCK)
            yield Frame(picture.rgb(), pts, 0, picture.captured)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.close()


class TestPattern(_Base):
    """A moving gradient below a frame counter (``counter_bars``), at an exact rate.

    A frame that could not be delivered in time is skipped, as a camera's would be: numbers follow the clock.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, name: str = "test", options: CaptureOptions | None = None) -> None:
        """Parse ``test``, ``test:WxH`` or ``test:WxH@FPS``; the default is 640x360 at 25. Raises
        InvalidArgument."""
        super().__init__()
        del options
        found = TEST.fullmatch(name)
        if found is None:
            raise InvalidArgument(f"cannot use {name!r} as a source: write test, test:WxH or test:WxH@FPS")
        width, height = int(found[1] or 640), int(found[2] or 360)
        rate = Fraction(found[3] or 25)
        if not (0 < width <= 16384 and 0 < height <= 16384 and 0 < rate <= 1000):
            raise InvalidArgument(f"cannot use {name!r}: a size of 1 to 16384 and a rate up to 1000, please")
        self.info = live_info(name, width, height, rate)
        self.shown: dict[int, float] = {}
        """Capture times of the latest 4096 counters, in seconds of ``time.monotonic``."""
        draw_counter(np.empty((height, width, 3), np.uint8), 0)  # too small a picture fails now

    def pictures(self) -> Generator[Picture, None, None]:
        """Yield pictures; their capture time is the time at which they were due."""
        started, number = time.monotonic(), 0
        interval = float(1 / self.info.rate)
        while not self.stopped.is_set():
            number = max(number, int((time.monotonic() - started) / interval))
            due = started + number * interval
            if self.stopped.wait(max(0.0, due - time.monotonic())):
                return
            image = self.image(number)
            self.shown[number % COUNT] = due
            if len(self.shown) > 4096:
                del self.shown[next(iter(self.shown))]
            yield Picture(due, image)
            number += 1

    def image(self, number: int) -> Image:
        """Return the picture (H, W, 3) uint8 of a number."""
        height, width = self.info.height, self.info.width
        row = np.add.outer(np.arange(width) * 255 // width + 4 * number, np.array([0, 85, 170])) % 256
        image = np.broadcast_to(row.astype(np.uint8), (height, width, 3)).copy()
        draw_counter(image, number)
        return image


class FilePlayer(_Base):
    """A file played at its own rate. Late frames are yielded at once; their capture time is when they were
    due."""

    def __init__(self, name: str, options: CaptureOptions | None = None) -> None:
        super().__init__()
        self.path, self.loop = Path(name), options is not None and options.loop
        self.reader = VideoReader(self.path, ReadOptions())
        self.info = self.reader.info

    def problems(self) -> tuple[str, ...]:
        return self.reader.problems()

    def pictures(self) -> Generator[Picture, None, None]:
        started = time.monotonic()
        while True:
            end = 0.0
            first: int | None = None
            for frame in self.reader:
                first = frame.pts if first is None else first
                offset = float((frame.pts - first) * self.info.time_base)
                end = offset + float(frame.duration * self.info.time_base or 1 / self.info.rate)
                if self.stopped.wait(max(0.0, started + offset - time.monotonic())):
                    return
                yield Picture(started + offset, frame.image)
            if not self.loop or end <= 0:
                return
            started += end
            self.reader.__exit__()
            self.reader = VideoReader(self.path, ReadOptions())

    def close(self) -> None:
        self.reader.__exit__()


class _Demuxed(_Base):
    """A source without an end that FFmpeg reads: a network stream or a device."""

    def __init__(self, name: str, address: str, how: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        try:
            self.container = av.open(address, timeout=(ANSWER, SILENCE), metadata_errors="replace", **how)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(_does_not_open(name, error)) from error
        try:
            self.stream = picture_stream(self.container, Path(name))
            self.stream.thread_type = "SLICE"  # threads of frames hold each one back
            context = self.stream.codec_context
            rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
            self.info = live_info(name, context.width, context.height, rate)
            if not context.width:
                raise InputError(f"{name} sends video whose size is unknown; give it time, or check it")
        except BaseException:
            self.container.close()
            raise

    def pictures(self) -> Generator[Picture, None, None]:
        """Yield pictures with the time of their arrival. Raises InputError when the stream breaks off."""
        try:
            for packet in self.container.demux(self.stream):
                arrived = time.monotonic()
                if self.stopped.is_set():
                    return
                with suppress(av.InvalidDataError):  # begins between two key frames, or lost a packet
                    for picture in packet.decode():
                        yield Picture(arrived, picture)
        except (av.FFmpegError, OSError) as error:
            if not self.stopped.is_set():
                raise InputError(f"{self.name} sends nothing more ({_reason(error)})") from error

    def close(self) -> None:
        self.container.close()


class Returning(_Base):
    """A source that is reopened when it breaks off, for ``retry`` seconds at most."""

    def __init__(self, name: str, opened: Callable[[], LiveSource], options: CaptureOptions) -> None:
        super().__init__()
        self.name, self.opened, self.options = name, opened, options
        self.source = self._wait_for(InputError(f"{name} does not answer"))
        self.info = self.source.info

    def problems(self) -> tuple[str, ...]:
        return self.source.problems()

    def pictures(self) -> Generator[Picture, None, None]:
        while not self.stopped.is_set():
            gone = InputError(f"{self.name} has ended")
            try:
                with closing(self.source.pictures()) as pictures:
                    yield from pictures
            except InputError as error:
                gone = error
            if self.stopped.is_set():
                return
            self.source.__exit__()
            self.options.on_note(f"{gone}; waiting up to {self.options.retry:g} s for it to come back")
            try:
                self.source = self._wait_for(gone)
            except InputError:
                if self.stopped.is_set():
                    return
                raise
            self.options.on_note(f"{self.name} is back")

    def _wait_for(self, gone: InputError) -> LiveSource:
        until = time.monotonic() + self.options.retry
        while True:
            try:
                return self.opened()
            except InputError as error:
                if time.monotonic() >= until or self.stopped.is_set():
                    raise InputError(f"{gone}, and did not come back: {error}") from error
            if self.stopped.wait(PAUSE):
                raise gone

    def stop(self) -> None:
        super().stop()
        self.source.stop()

    def close(self) -> None:
        self.source.__exit__()


def open_network(name: str, options: CaptureOptions) -> LiveSource:
    """Open a stream at an address with little delay, again if it breaks off. Raises InputError."""
    return Returning(hidden(name), lambda: open_stream(name), options)


def open_stream(name: str, *, whole_frames: bool = False) -> LiveSource:
    """Open a stream at an address once. Raises InputError.

    ``whole_frames`` says that every transport packet is known to hold one whole frame, as in streams of this
    project's sinks: then a frame is decoded when it is there, not when the next one begins.
    """
    how = dict(LOW_DELAY)
    if whole_frames:
        how["fflags"] += "+noparse"
    scheme = urlsplit(name).scheme
    if scheme == "rtsp":
        how["rtsp_transport"] = "tcp"
    if scheme == "udp":
        how |= {"overrun_nonfatal": "1", "fifo_size": "5000", "reuse": "1"}
    muxer = {"format": "mpegts"} if scheme in ("udp", "tcp") else {}
    return _Demuxed(hidden(name), name, {"options": how, **muxer})


def open_device(name: str, options: CaptureOptions) -> LiveSource:
    """Open a camera or a screen by its number or name. Raises InputError."""
    address, how = device_address(name)
    first = [_Demuxed(name, address, how)]  # a device that is not there at the start is not waited for
    return Returning(name, lambda: first.pop() if first else _Demuxed(name, address, how), options)


@dataclass(frozen=True)
class Device:
    """A camera or a screen of this machine."""

    kind: str
    """``camera`` or ``screen``."""
    address: str
    """Address in FFmpeg's syntax."""
    name: str


DRIVERS = {
    "linux": ("v4l2", "x11grab"),
    "darwin": ("avfoundation", "avfoundation"),
    "win32": ("dshow", "gdigrab"),
}
"""FFmpeg's names of the input devices for cameras and screens, by system."""


def devices(root: Path = Path("/sys/class/video4linux")) -> list[Device]:
    """List the cameras and screens of this machine."""
    found: list[Device] = []
    if SYSTEM == "linux":
        import os

        for entry in sorted(root.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
            with suppress(OSError):
                found.append(
                    Device("camera", f"/dev/{entry.name}", (entry / "name").read_text("utf-8").strip())
                )
        if display := os.environ.get("DISPLAY"):
            found.append(Device("screen", display, f"display {display}"))
        return found
    camera, _ = DRIVERS.get(SYSTEM, ("", ""))
    with suppress(ValueError, OSError, AttributeError):
        for each in av.enumerate_input_devices(camera):
            if "video" in each.media_types or not each.media_types:
                kind = "screen" if "screen" in each.description.lower() else "camera"
                found.append(Device(kind, each.name, each.description))
    if SYSTEM == "win32":
        found.append(Device("screen", "desktop", "desktop"))
    return found


def device_address(name: str) -> tuple[str, dict[str, Any]]:
    """Return FFmpeg's address and options for ``camera[:N|:NAME]`` or ``screen[:N]``. Raises InputError."""
    kind, _, wanted = name.partition(":")
    known = [device for device in devices() if device.kind == kind]
    if SYSTEM not in DRIVERS:
        raise InputError(f"cannot open {name}: cameras and screens of {SYSTEM} are not supported")
    driver = DRIVERS[SYSTEM][kind == "screen"]
    chosen: Device | None = None
    if (wanted.isascii() and wanted.isdigit()) or not wanted:
        number = int(wanted or 0)
        chosen = known[number] if number < len(known) else None
    else:
        matches = [device for device in known if device.name == wanted] or [
            device for device in known if wanted.lower() in device.name.lower()
        ]
        chosen = matches[0] if matches else None
    if chosen is None:
        if not known:
            raise InputError(f"cannot open {name}: no {kind} was found on this machine")
        there = ", ".join(f"{number} {device.name!r}" for number, device in enumerate(known))
        raise InputError(f"no {kind} called {wanted or 0!r}; there are: {there}")
    try:
        av.ContainerFormat(driver, "r")
    except ValueError as error:
        raise InputError(f"cannot open {name}: this build of PyAV has no {driver}") from error
    address = f"video={chosen.name}" if driver == "dshow" else chosen.address
    return address, {"format": driver, "options": {"framerate": "30"} if kind == "screen" else {}}


@dataclass(frozen=True)
class LiveSourceSpec:
    """One kind of live source."""

    name: str
    accepts: Callable[[str], bool]
    opener: Callable[[str, CaptureOptions], LiveSource]


LIVE_SOURCES = [
    LiveSourceSpec("test", lambda name: name.partition(":")[0] == "test", TestPattern),
    LiveSourceSpec("device", lambda name: name.partition(":")[0] in ("camera", "screen"), open_device),
    LiveSourceSpec("network", lambda name: scheme_of(name) in NETWORK, open_network),
    LiveSourceSpec("file", lambda name: not scheme_of(name), FilePlayer),
]
"""Kinds in the order in which they are tried; the first that accepts a name opens it. Names are text: a path
would lose slashes."""


def open_live_source(name: str, options: CaptureOptions | None = None) -> LiveSource:
    """Open the source of a name. Raises InputError, InvalidArgument."""
    for spec in LIVE_SOURCES:
        if spec.accepts(name):
            return spec.opener(name, options or CaptureOptions())
    if scheme_of(name) == "srt":
        raise InvalidArgument(
            "srt:// is not in PyAV; bridge it with: ffmpeg -i srt://... -c copy -f mpegts udp://127.0.0.1:9000"
        )
    raise InvalidArgument(f"cannot use {hidden(name)!r} as a live source; known are: {KINDS}")


def scheme_of(name: str) -> str:
    """Return the scheme of an address, such as ``udp`` for ``udp://...``; "" for a name that is no
    address."""
    scheme, sign, _ = name.partition("://")
    return scheme.lower() if sign else ""


def hidden(name: str) -> str:
    """Return an address without the password that may be in it."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", name)


def live_info(name: str, width: int, height: int, rate: Fraction) -> VideoInfo:
    """Describe a live picture: BT.709, upright, square pixels, without sound."""
    return VideoInfo(
        path=Path(name),
        width=width,
        height=height,
        time_base=Fraction(1, LIVE_CLOCK),
        rate=rate,
        frames=0,
        quarter_turns=0,
        display_matrix=None,
        sample_aspect_ratio=Fraction(1),
        color=SDR_TAGS,
        audio=(),
        not_kept=(),
        clock=LIVE_CLOCK,
    )


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _does_not_open(name: str, error: BaseException) -> str:
    reason = _reason(error)
    if isinstance(error, av.error.ExitError):
        return f"{name} does not answer ({ANSWER:g} s); check the address and that something is sent there"
    if "busy" in reason.lower():
        return f"{name} is in use by another program; close that first"
    return f"cannot open {name} ({reason}); check the address, and that it is sent or plugged in"
