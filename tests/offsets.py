"""How far clicks are from the pictures of their seconds, in a recording of the source ``test``."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.live_source import Picture

RATE = 48000


def offsets(path: Path, fps: float) -> list[float]:
    """Return, for each click, the seconds by which it is later than its picture.

    The counter of every picture says when it was due; the time of the first is the median over all.
    """
    with av.open(path) as container:
        seen = [(read_counter(Picture(0.0, frame).rgb()), frame.time) for frame in container.decode(video=0)]
    zero = np.median(
        [time - number / fps for number, time in seen if number is not None and time is not None]
    )
    found: list[float] = []
    with av.open(path) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                loud = np.flatnonzero(np.abs(piece.to_ndarray()[0]) > 0.05)
                times = (piece.time or 0.0) + loud / RATE
                found += [float(time) for time in times[:1] if not found or time - found[-1] > 0.5]
    return [time - zero - round(time - zero) for time in found]
