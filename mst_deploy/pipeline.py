"""Frames in, stylised frames out, in order, for pictures and videos.

decode (own thread) ─> resize ─> generator ─> encode
"""

from __future__ import annotations

import queue
import threading
import time
from collections import abc, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from mst_deploy.backends import Generator, Images
from mst_deploy.errors import InvalidArgument
from mst_deploy.film import Film
from mst_deploy.images import pad_to_minimum, resize
from mst_deploy.video import Frame, VideoInfo, VideoReader, resized
from mst_deploy.video_writer import EncodeOptions, open_writer

PREFETCHED = 4  # decoded frames waiting; a 4K frame is 25 MB


@dataclass(frozen=True)
class Size:
    """A wanted picture size: exactly width x height, or a short side that keeps the shape."""

    width: int | None = None
    height: int | None = None
    short_side: int | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """``640x360`` or ``360``. Raises InvalidArgument."""
        parts = text.lower().split("x")
        if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 16384 for part in parts):
            parts = []
        if len(parts) == 1:
            return cls(short_side=int(parts[0]))
        if len(parts) == 2:
            return cls(width=int(parts[0]), height=int(parts[1]))
        raise InvalidArgument(
            f"cannot use {text!r} as a size: give WIDTHxHEIGHT (640x360) or the short side (360), "
            "in pixels from 1 to 16384"
        )

    def applied(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) for a picture of the given one; a kept shape is rounded to even numbers."""
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.short_side is None or self.short_side == min(width, height):
            return width, height
        scale = self.short_side / min(width, height)
        wide, high = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
        return wide, high


@dataclass(frozen=True)
class Result:
    """What a finished job made."""

    output: Path
    width: int
    height: int
    frames: int
    seconds: float
    """Wall time of the frames, from the first one read to the file closed."""

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def stylize_image(image: Images, generator: Generator, film: Film) -> Images:
    """(H, W, 3) uint8 -> the same shape and type. Pictures below the minimum are padded and cropped."""
    height, width = image.shape[:2]
    batch = pad_to_minimum(image, generator.manifest.min_size)[None]
    return generator(np.ascontiguousarray(batch), film[None])[0, :height, :width]


def stylize_video(
    source: Path,
    output: Path,
    generator: Generator,
    film_of: Callable[[Images], Film],
    *,
    size: Size | None = None,
    options: EncodeOptions | None = None,
    on_start: Callable[[VideoInfo], None] = lambda info: None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Result:
    """Stylise a whole file; ``output`` exists only when every frame went through.

    ``film_of`` is called once, with the first frame. Callbacks tell the stream's properties before
    the first frame and the number of finished ones after each. Memory does not grow with the length.
    Raises InputError, OutputError, BackendError.
    """
    started = time.monotonic()
    with VideoReader(source) as reader:
        info = reader.info
        width, height = (size or Size()).applied(info.width, info.height)
        target = resized(info, width, height)
        on_start(target)
        done = 0
        # Closed before the reader is: its thread must not decode from a container that is gone.
        with (
            closing(prefetch(reader, PREFETCHED)) as decoded,
            open_writer(output, target, options or EncodeOptions()) as writer,
        ):
            frames = (replace(frame, image=resize(frame.image, width, height)) for frame in decoded)
            for frame in stylize_frames(frames, generator, film_of):
                writer.write(frame)
                done += 1
                on_frame(done)
    return Result(output, width, height, done, time.monotonic() - started)


def stylize_frames(
    frames: Iterator[Frame], generator: Generator, film_of: Callable[[Images], Film]
) -> Iterator[Frame]:
    """Frames of one size in, the same with stylised images out, in order; a backend may overlap two.

    ``film_of`` is called once, with the first image.
    """
    under_way: deque[Frame] = deque()
    first = next(frames, None)
    if first is None:
        return

    def batches() -> Iterator[Images]:
        for frame in chain([first], frames):
            under_way.append(frame)
            yield np.ascontiguousarray(pad_to_minimum(frame.image, generator.manifest.min_size)[None])

    for stylized in generator.stream(batches(), film_of(first.image)[None]):
        frame = under_way.popleft()
        height, width = frame.image.shape[:2]
        yield replace(frame, image=stylized[0, :height, :width])


def prefetch(source: Iterable[Frame], depth: int) -> abc.Generator[Frame, None, None]:
    """Read ahead in a thread, at most ``depth`` frames.

    An error of the source surfaces here after the frames before it. Closing the iterator early stops
    the thread; none outlives the call.
    """
    frames: queue.Queue[Frame | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                frames.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for frame in source:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="decode", daemon=True)
    thread.start()
    try:
        while (item := frames.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
