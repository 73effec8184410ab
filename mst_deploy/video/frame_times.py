"""Presentation times of frames, for files that store only decoding times and for times that go back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from mst_deploy.video.damage import DecodeReport


class DecodeOrderTimes:
    """Presentation times for AVI, which stores only when each packet is decoded.

    A decoder that delays frames for B-frames returns them in the order of presentation, one for each packet,
    and a frame's presentation time is the decoding time of the packet after which it is returned. The times
    that FFmpeg guesses for the packets themselves are not monotonic.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self.step = 1
        """Distance of the last two frames, in units of the time base."""

    def time(self, frame: Any) -> int | None:
        """Return the presentation time of a decoded frame; None if unknown.

        The last frames are returned without a packet; they follow at the distance of those before.
        """
        time: int | None = frame.dts
        if time is None and self.last is not None:
            time = self.last + self.step
        if time is not None and self.last is not None and time > self.last:
            self.step = time - self.last
        self.last = time if time is not None else self.last
        return time


def rising(pictures: Iterator[av.VideoFrame], damage: DecodeReport) -> Iterator[av.VideoFrame]:
    """Return increasing times: a frame with a wrong time stamp is kept, in order."""
    last: int | None = None
    for picture in pictures:
        if picture.pts is None or (last is not None and picture.pts <= last):
            damage.moved += 1
            picture.pts = 0 if last is None else last + 1
        last = picture.pts
        yield picture
