"""The schedule of a batch: which task a free worker gets next, and what follows from results and failures.

Pure: no clock, no processes, no files. Times are given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from mst_deploy.jobs.batch.tasks import Outcome, Task, Video, task_length

STRAGGLER = 3.0
"""A task that takes so many times as long as the median is started a second time when nothing else is
open."""


@dataclass
class Progress:
    """State of one video."""

    state: str = "open"
    """open, done or failed."""
    reason: str = ""
    """Why it failed."""
    ready: int = 0
    """Segments of a split video whose frames have been scanned."""
    segments: int | None = None
    """Number of its segments, once the scan is complete."""
    painted: set[int] = field(default_factory=set)
    given: set[int] = field(default_factory=set)
    """Segments that are painted or being painted."""
    lost: dict[tuple[str, int], int] = field(default_factory=dict)
    """Deaths of workers at a kind of task and segment."""
    attempts: int = 0
    """Tasks that were started for it."""
    retries: int = 0
    """Tasks that were started again."""
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Running:
    """A task that a worker has."""

    task: Task
    since: float


class Schedule:
    """Videos, their progress, and the tasks under way."""

    def __init__(self, videos: Sequence[Video], workers: int, *, tries: int = 3) -> None:
        self.videos, self.workers, self.tries = list(videos), workers, tries
        self.progress = [Progress() for _ in videos]
        self.running: dict[str, Running] = {}
        self.paint_times: list[float] = []
        """Seconds of each painted segment."""
        self.order = sorted(range(len(videos)), key=lambda number: -videos[number].weight)
        """Longest first, so that none is left over at the end."""

    @property
    def finished(self) -> bool:
        return all(progress.state != "open" for progress in self.progress)

    def next(self, worker: str, now: float) -> Task | None:
        """Return the next task of a worker without one, and record that it has it; None if none is ready."""
        task = self._open_task() or self._straggler(now)
        if task is None:
            return None
        self.running[worker] = Running(task, now)
        progress = self.progress[task.video]
        progress.attempts += 1
        progress.given |= set(range(task.first, task.last))
        return task

    def _open_task(self) -> Task | None:
        under_way = {(running.task.kind, running.task.video) for running in self.running.values()}
        opened = [number for number in self.order if self.progress[number].state == "open"]
        split = [number for number in opened if self.videos[number].split]
        for number in split:
            progress = self.progress[number]
            complete = progress.segments is not None and len(progress.painted) == progress.segments
            if complete and ("join", number) not in under_way:
                return Task("join", number)
        scans = sum(kind == "scan" for kind, _ in under_way)
        for number in split:
            unread = self.progress[number].segments is None and ("scan", number) not in under_way
            if unread and scans < max(1, self.workers // 2):
                return Task("scan", number)
        for number in opened:
            if not self.videos[number].split and ("whole", number) not in under_way:
                return Task("whole", number)
        return next((task for number in split if (task := self._painting(number)) is not None), None)

    def _painting(self, number: int) -> Task | None:
        progress = self.progress[number]
        waiting = [segment for segment in range(progress.ready) if segment not in progress.given]
        if not waiting:
            return None
        first = last = waiting[0]
        each = median(self.paint_times) if self.paint_times else None
        longest = first + task_length(len(waiting), self.workers, each)
        while last < longest and last < progress.ready and last not in progress.given:
            last += 1
        return Task("paint", number, first, last)

    def _straggler(self, now: float) -> Task | None:
        if not self.paint_times:
            return None
        tasks = [running.task for running in self.running.values()]
        for running in self.running.values():
            task = running.task
            usual = median(self.paint_times) * (task.last - task.first)
            slow = task.kind == "paint" and now - running.since > STRAGGLER * usual
            if slow and tasks.count(task) == 1 and self.progress[task.video].state == "open":
                return task
        return None

    def scanned(self, number: int, segments: int) -> None:
        """Record that the first so many segments of a video may be painted."""
        progress = self.progress[number]
        progress.ready = max(progress.ready, segments)

    def painted(self, number: int, segments: Iterable[int]) -> None:
        """Record segments that are in the storage, whoever made them."""
        progress = self.progress[number]
        progress.painted |= set(segments)
        progress.given |= progress.painted

    def finish(self, worker: str, outcome: Outcome) -> bool:
        """Record the result of a worker's task. Return whether it was the first one of that task."""
        self.running.pop(worker, None)
        task, progress = outcome.task, self.progress[outcome.task.video]
        if progress.state != "open":
            return False
        if task.kind == "scan":
            progress.segments = outcome.segments
            self.scanned(task.video, outcome.segments)
        elif task.kind == "paint":
            made = set(range(task.first, task.last))
            first = not made <= progress.painted
            self.painted(task.video, made)
            self.paint_times += [outcome.seconds / len(made)] * len(made)
            return first
        elif outcome.again:
            progress.retries += 1
            progress.painted -= set(outcome.again)
            progress.given -= set(outcome.again)
        else:
            progress.state, progress.outcome = "done", outcome
        return True

    def fail(self, worker: str, reason: str) -> Task | None:
        """Record that a task ended with an error that would come again: its video has failed. Return the
        task."""
        running = self.running.pop(worker, None)
        if running is None:
            return None
        self.fail_video(running.task.video, reason)
        return running.task

    def lose(self, worker: str, reason: str) -> Task | None:
        """Record the death of a worker: its task is open again, until it has cost too many. Return the
        task."""
        running = self.running.pop(worker, None)
        if running is None:
            return None
        task, progress = running.task, self.progress[running.task.video]
        if progress.state != "open" or any(other.task == task for other in self.running.values()):
            return task
        missing = [segment for segment in range(task.first, task.last) if segment not in progress.painted]
        progress.given -= set(missing)
        at = task.kind, missing[0] if missing else task.first
        progress.lost[at] = progress.lost.get(at, 0) + 1
        if progress.lost[at] >= self.tries:
            place = f" at segment {at[1]}" if task.kind == "paint" else ""
            times = f"{self.tries} workers" if self.tries > 1 else "a worker"
            self.fail_video(task.video, f"{times} died over it{place}; the last one: {reason}")
        else:
            progress.retries += 1
        return task

    def fail_open(self, reason: str) -> None:
        """Let every video fail that is not done: the batch cannot go on."""
        for number, progress in enumerate(self.progress):
            if progress.state == "open":
                self.fail_video(number, reason)

    def fail_video(self, number: int, reason: str) -> None:
        """Record that a video that was not done has failed."""
        progress = self.progress[number]
        if progress.state == "open":
            progress.state, progress.reason = "failed", reason

    def frames_done(self, part_frames: int) -> float:
        """Return the number of frames that are finished so far, as far as numbers of frames are known."""
        total = 0.0
        for video, progress in zip(self.videos, self.progress, strict=True):
            if progress.state != "open":
                total += video.frames
            elif video.split:
                total += min(video.frames, len(progress.painted) * part_frames)
        return total
