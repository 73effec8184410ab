"""The selected part of a file on the clock of the file, and the way to its start."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from mst_deploy.video.demuxing import packets_of
from mst_deploy.video.time_ranges import ClockSpan, TimeRange


def selected_span(span: TimeRange, container: Any, stream: Any, first: int | None) -> ClockSpan | None:
    """Return the selected part on the clock of the file; None if all of it is used unchanged.

    The result begins at 0 where picture (at ``first``, in its time base) or sound begin: transport streams
    start at any time, and players of mp4 hide what comes before 0. Sound before 0 is skipped by its decoder.
    """
    begin = _begin(container, stream, first)
    if begin < 0 and (first or 0) >= 0:
        begin = Fraction(0)
    if not span.cuts and not begin:
        return None
    end = None if span.end is None else begin + span.end
    return ClockSpan(begin + (span.start or 0), end, origin=begin)


def _begin(container: Any, picture: Any, first: int | None) -> Fraction:
    """Return the time at which picture or sound begin, in seconds; the container's own value is rounded."""
    times = ((picture, first), *((audio, audio.start_time) for audio in container.streams.audio))
    starts = [time * stream.time_base for stream, time in times if time is not None]
    return min(starts, default=Fraction(container.start_time or 0, av.time_base))


def seek(container: Any, stream: Any, cut: ClockSpan) -> None:
    """Seek to a key frame at or before the start; where none is found, to the beginning of the file.

    Transport streams have no index: FFmpeg seeks to any packet there.
    """
    back = Fraction(0)
    while cut.start - back > cut.origin:
        try:
            target = int((cut.start - back) / stream.time_base)
            container.seek(target, stream=stream)
            key = next((p for p in packets_of(container, stream) if p.is_keyframe), None)
            if key is not None and key.pts is not None and key.pts * key.time_base <= cut.start:
                container.seek(target, stream=stream)
                return
        except av.FFmpegError:
            pass
        back = 2 * back or Fraction(1)
    with suppress(av.FFmpegError):
        container.seek(0, unsupported_byte_offset=True)
        return
    with suppress(av.FFmpegError):
        container.seek(int(cut.origin / stream.time_base), stream=stream)
