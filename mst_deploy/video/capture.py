"""The kinds of live sources: a test picture, a file at its own pace, network streams, cameras, screens.

A live source does not wait: it yields pictures when they arrive, with the time of their arrival.
A new kind is one class with the members of ``LiveSource`` and one entry of ``LIVE_SOURCES``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mst_deploy.errors import InvalidArgument
from mst_deploy.video.counter_bars import COUNT, draw_counter
from mst_deploy.video.info import Image
from mst_deploy.video.live_sound import RATE, FileSound, Samples, Sound
from mst_deploy.video.live_source import (
    CaptureOptions,
    LiveSource,
    LiveSourceBase,
    Picture,
    hidden,
    live_info,
    scheme_of,
)
from mst_deploy.video.live_streams import NETWORK, open_device, open_network, open_pipe
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader

TEST = re.compile(r"test(?::(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?)?", re.ASCII)
AHEAD = 0.2
"""Seconds by which sound is read ahead of its picture."""
KINDS = (
    "camera[:N or :NAME], screen[:N], udp:// tcp:// rtmp:// rtsp:// http://, a file, - (standard input), "
    "test[:WxH@FPS]"
)


class TestPattern(LiveSourceBase):
    """A moving gradient below a frame counter (``counter_bars``), at an exact rate, with a click each second.

    Frame 0 and the first click are at the same time.

    A frame that could not be delivered in time is skipped, as a camera's would be: numbers follow the clock.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, name: str = "test", options: CaptureOptions | None = None) -> None:
        """Parse ``test``, ``test:WxH`` or ``test:WxH@FPS``; the default is 640x360 at 25. Raises
        InvalidArgument."""
        super().__init__()
        self.on_sound = options.on_sound if options else None
        found = TEST.fullmatch(name)
        if found is None:
            raise InvalidArgument(f"cannot use {name!r} as a source: write test, test:WxH or test:WxH@FPS")
        width, height = int(found[1] or 640), int(found[2] or 360)
        rate = Fraction(found[3] or 25)
        if not (0 < width <= 16384 and 0 < height <= 16384 and 0 < rate <= 1000):
            raise InvalidArgument(f"cannot use {name!r}: a size of 1 to 16384 and a rate up to 1000, please")
        self.info = live_info(name, width, height, rate, ("pcm",) if self.on_sound else ())
        self.shown: dict[int, float] = {}
        """Capture times of the latest 4096 counters, in seconds of ``time.monotonic``."""
        draw_counter(np.empty((height, width, 3), np.uint8), 0)  # too small a picture fails now

    def pictures(self) -> Generator[Picture, None, None]:
        """Yield pictures; their capture time is the time at which they were due."""
        started, number = time.monotonic(), 0
        interval = float(1 / self.info.rate)
        ready = 0
        while not self.stopped.is_set():
            number = max(number, int((time.monotonic() - started) / interval))
            due = started + number * interval
            if self.stopped.wait(max(0.0, due - time.monotonic())):
                return
            image = self.image(number)
            self.shown[number % COUNT] = due
            if len(self.shown) > 4096:
                del self.shown[next(iter(self.shown))]
            if self.on_sound:
                until = round((number * interval + AHEAD) * RATE)
                self.on_sound(Sound(started + ready / RATE, clicks(ready, until)))
                ready = until
            yield Picture(due, image)
            number += 1

    def image(self, number: int) -> Image:
        """Return the picture (H, W, 3) uint8 of a number."""
        height, width = self.info.height, self.info.width
        row = np.add.outer(np.arange(width) * 255 // width + 4 * number, np.array([0, 85, 170])) % 256
        image = np.broadcast_to(row.astype(np.uint8), (height, width, 3)).copy()
        draw_counter(image, number)
        return image


class FilePlayer(LiveSourceBase):
    """A file played at its own rate. Late frames are yielded at once; their capture time is when they were
    due."""

    def __init__(self, name: str, options: CaptureOptions | None = None) -> None:
        super().__init__()
        options = options or CaptureOptions()
        self.path, self.loop, self.on_sound = Path(name), options.loop, options.on_sound
        self.reader = VideoReader(self.path, ReadOptions())
        self.info = self.reader.info
        self.sound: FileSound | None = None

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
                self._hear(started, offset)
                yield Picture(started + offset, frame.image)
            if not self.loop or end <= 0:
                return
            started += end
            self.reader.__exit__()
            self.reader = VideoReader(self.path, ReadOptions())
            self._close_sound()

    def _hear(self, started: float, seconds: float) -> None:
        """Read the sound up to a little after the picture at ``seconds``."""
        if self.on_sound is None or not self.info.audio:
            return
        if self.sound is None:
            self.sound = FileSound(self.path)
        for moment, samples in self.sound.until(seconds + AHEAD):
            self.on_sound(Sound(started + moment, samples))

    def _close_sound(self) -> None:
        if self.sound is not None:
            self.sound.close()
            self.sound = None

    def close(self) -> None:
        self.reader.__exit__()
        self._close_sound()


def clicks(begin: int, end: int) -> Samples:
    """Return the samples from ``begin`` to ``end`` of a click of 20 ms, 1 kHz, at the beginning of each
    second."""
    at = np.arange(begin, end)
    phase = at % RATE
    wave = 0.5 * np.sin(2 * np.pi * 1000 * phase / RATE) * (phase < RATE // 50)
    return np.asarray(np.stack([wave, wave]), np.float32)


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
    LiveSourceSpec("pipe", lambda name: name == "-", open_pipe),
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
