"""Sound of live video: read with its time on the clock of the pictures, written in step with them.

Pictures and sound of a source share one clock, so they keep their offset whatever stylizing takes: the sound
of a moment is sent with the picture of that moment. It is encoded anew (AAC), because a copy could have a
codec that the receiver does not take, and gaps, for which every multiplexer would hold back pictures.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mst_deploy.video.demuxing import open_input, picture_stream

Samples = NDArray[np.float32]
"""(2, N) float32, left and right, -1..1, ``RATE`` a second."""
RATE = 48000
CHUNK = 1024  # samples of one AAC frame, and of the encoder's delay
BEYOND = 4 * CHUNK
"""Samples after the time of a picture that are encoded before it: the encoder keeps two frames, and a
multiplexer sends a picture once it has sound after it."""
TOLERANCE = RATE // 100
"""Samples by which sound may be off its time before it is moved: 10 ms."""
GONE = RATE // 2
"""Samples without sound, before the time of a picture, after which silence takes its place."""
LONGEST = 10.0
"""Seconds of sound that wait for a sink that is blocked."""
WINDOW = 5.0
"""Seconds of arrivals that determine how a source's times lie on the clock of this machine."""
LATE = 2.0
"""Seconds behind the newest arrivals at which a source has paused or begun anew."""


@dataclass(frozen=True)
class Sound:
    """A piece of sound."""

    captured: float
    """Time of its first sample, in seconds of ``time.monotonic``, as that of pictures."""
    samples: Samples = field(repr=False)


OnSound = Callable[[Sound], None]


class SourceClock:
    """Maps times of a stream to ``time.monotonic``, by the least delayed arrival of the last seconds.

    Thus irregular arrival moves neither pictures nor sound, and a source whose clock is a little faster or
    slower is followed.
    """

    def __init__(self) -> None:
        self.least: deque[tuple[float, float]] = deque()  # arrivals, and offsets that grow

    def captured(self, time: float, arrived: float) -> float:
        """Return when a picture of a time was captured, given that it arrived at ``arrived``; both in
        seconds."""
        offset = arrived - time
        if self.least and offset - self.least[0][1] > LATE:
            self.least.clear()
        while self.least and self.least[-1][1] >= offset:
            self.least.pop()
        self.least.append((arrived, offset))
        while self.least[0][0] < arrived - WINDOW:
            self.least.popleft()
        return time + self.least[0][1]

    def at(self, time: float) -> float | None:
        """Return when sound of a time was captured; None before the first picture."""
        return time + self.least[0][1] if self.least else None


class SoundDecoder:
    """Decodes packets of one stream to ``Samples``."""

    def __init__(self) -> None:
        self.resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)

    def __call__(self, packet: Any) -> Iterator[tuple[float, Samples]]:
        """Yield pieces with their times in seconds of the stream. Damaged packets have none."""
        with suppress(av.FFmpegError, ValueError):
            for frame in packet.decode():
                if frame.pts is None:
                    continue
                for piece in self.resampler.resample(frame):
                    yield piece.time or 0.0, np.asarray(piece.to_ndarray(), np.float32)


class FileSound:
    """The first sound stream of a file, read as far as it is played."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises InputError."""
        self.container = open_input(path)
        picture = picture_stream(self.container, path)
        self.zero = float((picture.start_time or 0) * (picture.time_base or 0))
        streams = self.container.streams.audio
        self.packets = iter(self.container.demux(streams[0])) if streams else iter(())
        self.decoder = SoundDecoder()
        self.read = -1.0

    def until(self, seconds: float) -> Iterator[tuple[float, Samples]]:
        """Yield the pieces up to a time; times are in seconds from the first picture."""
        while self.read <= seconds:
            packet = next(self.packets, None)
            if packet is None:
                return
            for time, samples in self.decoder(packet):
                self.read = time - self.zero
                yield self.read, samples

    def close(self) -> None:
        self.container.close()


class SoundEncoder:
    """AAC in step with pictures: late, missing and doubled sound becomes silence or is left out.

    :meth:`hear` may be called from any thread, the rest from the thread of the sink.
    """

    def __init__(self, container: Any) -> None:
        self.stream: Any = container.add_stream("aac", rate=RATE, layout="stereo")
        self.stream.bit_rate = 128_000
        self.stream.time_base = Fraction(1, RATE)
        self.heard: deque[Sound] = deque()
        self.lock = threading.Lock()
        self.pending: list[Samples] = []
        self.begin = CHUNK  # sample, from the first picture, at which what is pending begins
        self.end = CHUNK  # sample after it; the encoder's delay makes the first time 0
        self.silent = False  # whether silence takes the place of sound that does not come

    def hear(self, sound: Sound) -> None:
        """Take a piece of sound; the oldest is left out where a sink has been blocked for long."""
        with self.lock:
            self.heard.append(sound)
            while sound.captured - self.heard[0].captured > LONGEST:
                self.heard.popleft()

    def packets_until(self, seconds: float, captured: float) -> Iterator[Any]:
        """Yield the packets that belong before a picture: its time in the sink, and its time of capture.

        A packet or two of later sound come as well where it is there; see ``BEYOND``.
        """
        self._take(captured - seconds)
        target = round(seconds * RATE)
        self.silent = self.silent or self.end < target - GONE
        if self.silent and self.end < target + BEYOND + CHUNK:
            self._append(np.zeros((2, target + BEYOND + CHUNK - self.end), np.float32))
        yield from self._encoded(target + BEYOND)

    def rest(self, seconds: float, captured: float) -> Iterator[Any]:
        """Yield the last packets, up to a time in the sink."""
        self._take(captured - seconds)
        yield from self._encoded(round(seconds * RATE))
        yield from self.stream.encode(None)

    def _take(self, zero: float) -> None:
        with self.lock:
            heard, self.heard = list(self.heard), deque()
        for sound in heard:
            samples = sound.samples
            off = round((sound.captured - zero) * RATE) - self.end
            if off > TOLERANCE:
                self._append(np.zeros((2, min(off, 60 * RATE)), np.float32))
            elif off < -TOLERANCE:
                samples = samples[:, -off:]
            self.silent = self.silent and not samples.shape[1]
            self._append(samples)

    def _append(self, samples: Samples) -> None:
        if samples.shape[1]:
            self.pending.append(samples)
            self.end += samples.shape[1]

    def _encoded(self, until: int) -> Iterator[Any]:
        if self.end - self.begin < CHUNK:
            return
        samples = np.concatenate(self.pending, axis=1)
        while samples.shape[1] >= CHUNK and self.begin <= until:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, :CHUNK]), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts, frame.time_base = RATE, self.begin, Fraction(1, RATE)
            samples, self.begin = samples[:, CHUNK:], self.begin + CHUNK
            yield from self.stream.encode(frame)
        self.pending = [samples]
