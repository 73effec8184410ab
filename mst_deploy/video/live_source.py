"""What a live source is: pictures that come when they come, each with its time of capture.

A picture is decoded (H.264 must see every packet) but not converted to RGB, so that dropping it costs no
more.
The sources themselves are in ``capture.py`` and ``live_streams.py``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.video.color import SDR_TAGS, read_tags
from mst_deploy.video.info import Frame, Image, VideoInfo
from mst_deploy.video.live_sound import OnSound

LIVE_CLOCK = 90000
"""Time base of live frames: units per second."""
Note = Callable[[str], None]


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
    on_sound: OnSound | None = None
    """Callback for sound, called from the capture thread; None leaves sound unread."""


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


class LiveSourceBase:
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


def scheme_of(name: str) -> str:
    """Return the scheme of an address, such as ``udp`` for ``udp://...``; "" for a name that is no
    address."""
    scheme, sign, _ = name.partition("://")
    return scheme.lower() if sign else ""


def hidden(name: str) -> str:
    """Return an address without the password that may be in it."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", name)


def live_info(name: str, width: int, height: int, rate: Fraction, audio: tuple[str, ...] = ()) -> VideoInfo:
    """Describe a live picture: BT.709, upright, square pixels; ``audio`` are the codecs of its sound."""
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
        audio=audio,
        not_kept=(),
        clock=LIVE_CLOCK,
    )
