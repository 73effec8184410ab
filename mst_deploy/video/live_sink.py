"""What a live sink is: a picture size that stays, and one thread that writes.

The sinks themselves are in ``live_encoding.py``, ``live_displays.py`` and ``mjpeg.py``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mst_deploy.images import letterboxed
from mst_deploy.video.info import Frame, Image, WriteReport


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
    sound: bool = False
    """Whether the source has sound, so that a sink that can take sound makes room for it."""


class LiveSinkBase:
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
