"""Frames with a counter for live sinks."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

from mst_deploy.video.capture import TestPattern
from mst_deploy.video.info import Frame
from mst_deploy.video.live_sink import SinkSettings

PATTERN = TestPattern("test:176x96")
SETTINGS = SinkSettings(176, 96, Fraction(25))


def until(condition: Any, patience: float = 30.0) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < patience, "did not happen"
        time.sleep(0.005)


def frame(number: int, step: int = 3600) -> Frame:
    return Frame(PATTERN.image(number), step * number, 0, time.monotonic())


def write_all(sink: Any, images: list[Any]) -> None:
    for number, image in enumerate(images):
        sink.write(Frame(image, 3600 * number, 0, 0.0))
