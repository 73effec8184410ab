"""True delay of a sink: the frame counter of the test picture is read back from the sink's output.

It includes everything except the latencies of camera and screen.
"""

from __future__ import annotations

import math
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from mst_deploy.errors import MstError
from mst_deploy.images import decode_image
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.info import Image
from mst_deploy.video.live_encoding import FILES
from mst_deploy.video.live_source import Picture, scheme_of
from mst_deploy.video.live_streams import open_stream

READABLE = "udp://, mjpeg or a file"


@dataclass(frozen=True)
class LatencyReport:
    """Result of reading back one sink."""

    read: int
    """Number of frames whose counter was read."""
    unreadable: int
    """Number of frames in which no counter could be read."""
    delay_ms: dict[str, float | None]
    """Percentiles p50, p95, p99 in milliseconds from capture to reading; None for a file, which is read
    afterwards."""
    out_of_order: int = 0
    """Number of frames whose counter is not above that of the frame before."""


def can_be_read(sink: str) -> bool:
    """Return whether the counter can be read back from a kind of sink."""
    return scheme_of(sink) == "udp" or sink.startswith("mjpeg:") or Path(sink).suffix.lower() in FILES


class LatencyReader:
    """Reads the output of a sink, in a thread of its own, as another program would."""

    def __init__(self, name: str, sink: Any, shown: Mapping[int, float]) -> None:
        """Prepare reading. ``shown`` maps each counter to its capture time; see ``TestPattern``."""
        self.name, self.sink, self.shown = name, sink, shown
        self.delays: list[float] = []
        self.counters: list[int] = []
        self.unreadable = 0
        self.stopped = threading.Event()
        self.is_file = not scheme_of(name) and not name.startswith("mjpeg:")
        self.thread = threading.Thread(target=self._follow, name=f"reader of {name}", daemon=True)
        if not self.is_file:
            self.thread.start()

    def finish(self) -> LatencyReport:
        """Stop reading, after the sink is finished, and return the report. A file is read now, from beginning
        to end."""
        self.stopped.set()
        if self.is_file:
            with suppress(av.FFmpegError), av.open(self.name) as container:
                for frame in container.decode(video=0):
                    self._count(read_counter(Picture(0.0, frame).rgb()))
        else:
            self.thread.join()
        ordered = sorted(self.delays)
        ranks = {f"p{percent}": math.ceil(percent * len(ordered) / 100) - 1 for percent in (50, 95, 99)}
        percentiles = {
            name: round(1000 * ordered[rank], 1) if ordered else None for name, rank in ranks.items()
        }
        backwards = sum(after <= before for before, after in pairwise(self.counters))
        return LatencyReport(len(self.counters), self.unreadable, percentiles, backwards)

    def _follow(self) -> None:
        with suppress(MstError, OSError, ValueError):
            opened = time.monotonic()
            for moment, image in self._jpegs() if self.name.startswith("mjpeg:") else self._received():
                number = read_counter(image)
                if number is not None and self.shown.get(number, 0.0) < opened:
                    continue  # sent before the reader was ready
                self._count(number)
                if number is not None:
                    self.delays.append(moment - self.shown[number])

    def _count(self, number: int | None) -> None:
        if number is None:
            self.unreadable += 1
        else:
            self.counters.append(number)

    def _received(self) -> Iterator[tuple[float, Image]]:
        with open_stream(self.name, whole_frames=True) as source:
            opened = time.monotonic()
            for picture in source.pictures():
                image = picture.rgb()
                number = read_counter(image)
                if number is None or self.shown.get(number, 0.0) > opened:
                    yield time.monotonic(), image
                if self.stopped.is_set():
                    source.stop()

    def _jpegs(self) -> Iterator[tuple[float, Image]]:
        with urllib.request.urlopen(self.sink.url, timeout=10) as stream:
            while True:
                length = 0
                while line := stream.readline():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    if line == b"\r\n" and length:
                        break
                if not line:
                    return
                yield time.monotonic(), decode_image(stream.read(length), "a picture of the stream")
