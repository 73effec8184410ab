"""Live sources that FFmpeg demuxes: network streams, cameras, screens. One that breaks off is reopened."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av

from mst_deploy.errors import InputError
from mst_deploy.video.demuxing import picture_stream
from mst_deploy.video.devices import device_address
from mst_deploy.video.live_sound import OnSound, Sound, SoundDecoder, SourceClock
from mst_deploy.video.live_source import (
    CaptureOptions,
    LiveSource,
    LiveSourceBase,
    Picture,
    hidden,
    live_info,
)

ANSWER = 10.0
"""Timeout in seconds for the first picture of a network source."""
SILENCE = 4.0
"""Seconds without a packet after which a network source or a camera counts as gone."""
PAUSE = 0.2  # seconds between two tries to open a source that is gone
NETWORK = ("udp", "rtmp", "rtsp", "http", "https", "tcp")
LOW_DELAY = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "200000",
    "analyzeduration": "500000",
    "fpsprobesize": "1",  # not twenty frames, which take long when few come
}


class _Demuxed(LiveSourceBase):
    """A source without an end that FFmpeg reads: a network stream or a device."""

    def __init__(self, name: str, address: str, how: dict[str, Any], on_sound: OnSound | None = None) -> None:
        super().__init__()
        self.name, self.on_sound = name, on_sound
        self.clock, self.decoder = SourceClock(), SoundDecoder()
        try:
            self.container = av.open(address, timeout=(ANSWER, SILENCE), metadata_errors="replace", **how)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(_does_not_open(name, error)) from error
        try:
            self.stream = picture_stream(self.container, Path(name))
            self.stream.thread_type = "SLICE"  # threads of frames hold each one back
            context = self.stream.codec_context
            rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
            self.sound = next(iter(self.container.streams.audio), None) if on_sound else None
            codecs = (self.sound.codec_context.name,) if self.sound else ()
            self.info = live_info(name, context.width, context.height, rate, codecs)
            if not context.width:
                raise InputError(f"{name} sends video whose size is unknown; give it time, or check it")
        except BaseException:
            self.container.close()
            raise

    def pictures(self) -> Generator[Picture, None, None]:
        """Yield pictures as they arrive; sound goes to the callback. Raises InputError when the stream breaks
        off.

        Their times of capture are those of the stream, laid on the arrival of the least delayed ones.
        """
        try:
            streams = [self.stream] if self.sound is None else [self.stream, self.sound]
            for packet in self.container.demux(*streams):
                arrived = time.monotonic()
                if self.stopped.is_set():
                    return
                if packet.stream is self.sound:
                    self._hear(packet)
                    continue
                with suppress(av.InvalidDataError):  # begins between two key frames, or lost a packet
                    for picture in packet.decode():
                        shown = picture.time
                        captured = arrived if shown is None else self.clock.captured(shown, arrived)
                        yield Picture(captured, picture)
        except (av.FFmpegError, OSError) as error:
            if not self.stopped.is_set():
                silent = isinstance(error, av.error.ExitError)  # PyAV's own timeout
                reason = f"nothing for {SILENCE:g} s" if silent else _reason(error)
                raise InputError(f"{self.name} sends nothing more ({reason})") from error

    def _hear(self, packet: Any) -> None:
        assert self.on_sound is not None
        for moment, samples in self.decoder(packet):
            captured = self.clock.at(moment)
            if captured is not None:
                self.on_sound(Sound(captured, samples))

    def close(self) -> None:
        self.container.close()


class Returning(LiveSourceBase):
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
    return Returning(hidden(name), lambda: open_stream(name, on_sound=options.on_sound), options)


def open_stream(name: str, *, whole_frames: bool = False, on_sound: OnSound | None = None) -> LiveSource:
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
    return _Demuxed(hidden(name), name, {"options": how, **muxer}, on_sound)


def open_pipe(name: str, options: CaptureOptions) -> LiveSource:
    """Open the standard input once: MPEG-TS, y4m or whatever FFmpeg recognizes in it. Raises InputError."""
    return _Demuxed("standard input", "pipe:0", {"options": LOW_DELAY}, options.on_sound)


def open_device(name: str, options: CaptureOptions) -> LiveSource:
    """Open a camera or a screen by its number or name. Raises InputError."""
    address, how = device_address(name)
    first = [_Demuxed(name, address, how)]  # a device that is not there at the start is not waited for
    return Returning(name, lambda: first.pop() if first else _Demuxed(name, address, how), options)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _does_not_open(name: str, error: BaseException) -> str:
    reason = _reason(error)
    if isinstance(error, av.error.ExitError):
        return f"{name} does not answer ({ANSWER:g} s); check the address and that something is sent there"
    if "busy" in reason.lower():
        return f"{name} is in use by another program; close that first"
    return f"cannot open {name} ({reason}); check the address, and that it is sent or plugged in"
