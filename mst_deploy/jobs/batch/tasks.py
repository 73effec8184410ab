"""Values of a batch: its videos, its tasks, and what workers report about them; how videos are divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["whole", "scan", "paint", "join"]
FEW = 8
"""Segments up to which a video in a remote store is made in one task: nothing of that task is kept when its
worker dies."""
SHORT = 4
"""Segments up to which a video is never split: reading it once more would cost as much as it gains."""
SECONDS_EACH = 10.0
"""Seconds of work that a task of several segments should take."""


@dataclass(frozen=True)
class Video:
    """One video to make."""

    source: str
    """Path or URL."""
    identity: str
    """Text that changes when the source changes: size and time."""
    name: str
    """Name of the result in the storage."""
    frames: int = 0
    """Number of frames as far as it is known; 0 if not."""
    weight: float = 0.0
    """Expected work, in any unit that is the same for all videos of the batch."""
    split: bool = False
    """Whether its segments are made in several tasks."""


@dataclass(frozen=True)
class Task:
    """One unit of work for one worker.

    ``whole`` makes a video; of a split video, ``scan`` reads it once, ``paint`` makes the segments ``first``
    to ``last`` - 1, and ``join`` makes the result of them.
    """

    kind: Kind
    video: int
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Outcome:
    """Result of a task."""

    task: Task
    frames: int = 0
    """Frames of a finished video (``whole``, ``join``), or those that were stylized (``paint``)."""
    segments: int = 0
    """``scan``: number of segments of the video."""
    again: tuple[int, ...] = ()
    """``join``: segments that were missing or damaged and have to be made again."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """Notes for people: what is not kept, what was damaged."""
    facts: dict[str, Any] = field(default_factory=dict)


def divided(videos: Sequence[Video], workers: int, part_frames: int, *, remote: bool) -> list[Video]:
    """Return the videos with ``split`` set for those that one worker would take too long for.

    A whole video is cheaper than its segments, which need the video read once more, so a video is split only
    if it is more than half of a worker's fair share of the batch; or, in a remote store, if it is so long
    that a dead worker would cost too much.
    """
    share = sum(video.weight for video in videos) / max(1, workers)

    def split(video: Video) -> bool:
        if 0 < video.frames <= SHORT * part_frames:
            return False
        long = remote and video.frames > FEW * part_frames
        return long or (workers > 1 and video.weight > share / 2)

    return [replace(video, split=split(video)) for video in videos]


def task_length(open_segments: int, workers: int, seconds_each: float | None) -> int:
    """Return the number of segments of the next task: guided self-scheduling.

    Half of a fair share of what is open (Polychronopoulos and Kuck 1987, doi:10.1109/TC.1987.5009495), so
    that all workers end at about the same time, and not more than ``SECONDS_EACH`` of work, because that is
    what a death may cost. ``seconds_each`` is the measured time of a segment.
    """
    fair = open_segments // (2 * max(1, workers))
    if seconds_each is None:
        return 1
    return max(1, min(fair, int(SECONDS_EACH / max(seconds_each, 1e-3))))
