"""The driver of a batch: it plans, gives tasks to workers, and reports. All files are made by the workers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mst_deploy import __version__
from mst_deploy.errors import BackendError, MstError, error_line, template_of
from mst_deploy.jobs.batch.schedule import Schedule
from mst_deploy.jobs.batch.segment_files import Lease, SegmentFiles
from mst_deploy.jobs.batch.storage import Storage, is_url, probe
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video
from mst_deploy.jobs.batch.worker import Setup, WorkerInfo
from mst_deploy.jobs.batch.workers import Failed, Finished, Lost, Ready, Refused, Report, Workers
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.styles.plan import StylePlan

POLL_SECONDS = 0.5
"""Seconds between two looks into the storage of this machine for segments that were finished; of remote ones
five times as many."""
PATIENCE = 180.0
"""Seconds in which the first worker has to be ready."""


@dataclass(frozen=True)
class Made:
    """What became of one input."""

    source: str
    output: str
    state: str
    """done, there (it was there already) or failed."""
    reason: str = ""
    frames: int = 0
    tasks: int = 0
    retries: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class WorkerReport:
    """What one worker did."""

    name: str
    host: str
    kind: str
    device: str
    tasks: int = 0
    seconds: float = 0.0
    """Seconds of work."""
    state: str = "ready"
    """ready, refused or lost."""
    reason: str = ""


@dataclass(frozen=True)
class BatchReport:
    """Result of a batch."""

    videos: tuple[Made, ...]
    workers: tuple[WorkerReport, ...]
    seconds: float
    """Wall time, with the start of the workers."""

    @property
    def failed(self) -> list[Made]:
        return [video for video in self.videos if video.state == "failed"]


@dataclass(frozen=True)
class BatchEvent:
    """Something that happened: for progress displays and notes."""

    done: float
    """Frames that are finished so far, as far as numbers of frames are known."""
    note: str = ""
    """Text for people; empty for mere progress."""


OnBatchEvent = Callable[[BatchEvent], None]


@dataclass
class Driver:
    """Runs one batch on a group of workers. Use ``run``."""

    storage: Storage
    videos: Sequence[Video]
    workers: Workers
    settings: Callable[[Video], dict[str, str]]
    """Function that returns everything the result of a video depends on."""
    options: RenderOptions
    on_event: OnBatchEvent = lambda event: None
    tries: int = 3
    same_bytes: bool = False
    """Refuse workers of another kind of machine than the first one's."""
    clock: Callable[[], float] = time.monotonic
    patience: float = PATIENCE
    idle: set[str] = field(default_factory=set)
    reports: dict[str, WorkerReport] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    """Videos whose source is not what it was."""

    def run(self) -> BatchReport:
        """Make all videos; a video that fails does not stop the others.

        Raises BackendError when no worker can work, StorageError before the start for storage that cannot be
        written to. KeyboardInterrupt ends the workers; finished segments stay.
        """
        started = self.clock()
        self.schedule = Schedule(self.videos, self.workers.count, tries=self.tries)
        self.polled = self.alive = started
        try:
            probe(self.storage)
            for number, video in enumerate(self.videos):
                if video.split:
                    self._try_to_begin(number)
            while True:
                self._assign()
                if self.schedule.finished:
                    break
                for report in self.workers.wait(POLL_SECONDS):
                    self._take(report)
                self._refuse_to_wait()
                self._look()
        finally:
            self.workers.close()
            for number, lease in self.leases.items():
                self._leave(number, lease)
        return BatchReport(
            tuple(self._made(number) for number in range(len(self.videos))),
            tuple(self.reports.values()),
            self.clock() - started,
        )

    def _assign(self) -> None:
        """Give every idle worker a task, as far as there are any."""
        for worker in sorted(self.idle):
            while (task := self.schedule.next(worker, self.clock())) is not None:
                if not self._try_to_begin(task.video):
                    self.schedule.running.pop(worker)
                    continue
                self.idle.discard(worker)
                self.workers.submit(worker, task, self.videos[task.video])
                break

    def _try_to_begin(self, number: int) -> bool:
        """Take the lease of a video, once, and find what an earlier batch has made of it; return whether the
        video can be made."""
        video = self.videos[number]
        if number in self.leases or not (video.split or self.storage.local is None):
            return True
        files = SegmentFiles(self.storage, video.name)
        lease = Lease(files)
        try:
            lease.take()
            self.leases[number] = lease
            if video.split:
                files.begin(self.settings(video), force=self.options.force)
                self._found(number)
        except MstError as error:
            self.schedule.fail_video(number, error_line(error, template_of))
            self._note_failure(number)
            return False
        return True

    def _take(self, report: Report) -> None:
        name = report.worker
        if isinstance(report, Ready):
            self._welcome(name, report.info)
        elif isinstance(report, Refused):
            self.reports[name] = WorkerReport(name, "", "", "", state="refused", reason=report.reason)
            self._say(f"{name} is not used: {report.reason}")
        elif isinstance(report, Lost):
            self.idle.discard(name)
            self.reports[name].state, self.reports[name].reason = "lost", report.reason
            task = self.schedule.lose(name, report.reason)
            if task is not None and not self._note_failure(task.video):
                what = Path(self.videos[task.video].source).name
                self._say(f"{name} died ({report.reason}); its part of {what} is made again")
        else:
            self.idle.add(name)
            self._finished(report)

    def _welcome(self, name: str, info: WorkerInfo) -> None:
        kinds = {known.kind for known in self.reports.values() if known.state == "ready"}
        self.reports[name] = WorkerReport(name, info.host, info.kind, info.device)
        if kinds and info.kind not in kinds:
            if self.same_bytes:
                reason = f"it is another kind of machine ({info.kind}), which may give other bytes"
                self.reports[name].state, self.reports[name].reason = "refused", reason
                return self._say(f"{name} is not used: {reason}")
            self._say(
                f"{name} is another kind of machine ({info.kind}): its pixels may be rounded differently"
            )
        self.idle.add(name)

    def _finished(self, report: Finished | Failed) -> None:
        worker = self.reports[report.worker]
        worker.tasks += 1
        if isinstance(report, Failed):
            task = self.schedule.fail(report.worker, report.reason)
            if task is not None and report.changed:
                self.changed.add(task.video)
            if report.storage:
                self.schedule.fail_open(report.reason)
                self._say(f"stopped: {report.reason}")
            elif task is not None:
                self._note_failure(task.video)
            return
        outcome = report.outcome
        worker.seconds += outcome.seconds
        self.schedule.finish(report.worker, outcome)
        number = outcome.task.video
        if outcome.task.kind in ("whole", "join") and number in self.leases and not outcome.again:
            self._leave(number, self.leases.pop(number))
        self.on_event(BatchEvent(self._done()))

    def _note_failure(self, number: int) -> bool:
        progress = self.schedule.progress[number]
        if progress.state == "failed":
            self._say(f"{Path(self.videos[number].source).name}: {progress.reason}")
        return progress.state == "failed"

    def _refuse_to_wait(self) -> None:
        """Raise BackendError if no worker can ever take a task."""
        alive = [report for report in self.reports.values() if report.state == "ready"]
        waiting = (
            len(self.reports) - sum(r.state == "lost" for r in self.reports.values()) < self.workers.count
        )
        if alive:
            self.alive = self.clock()
        if alive or (waiting and self.clock() - self.alive <= self.patience):
            return
        reasons = {report.reason for report in self.reports.values() if report.reason}
        if not reasons:
            raise BackendError(
                f"no worker was ready after {self.patience:.0f} s; are there as many free cores and GPUs as "
                "[option:cpus_per_worker] and [option:gpus_per_worker] ask for?"
            )
        raise BackendError(f"no worker can do the work: {'; '.join(sorted(reasons))}")

    def _look(self) -> None:
        """Find new segments in the storage, and renew the leases."""
        if self.clock() - self.polled < POLL_SECONDS * (1 if self.storage.local else 5):
            return
        self.polled = self.clock()
        for number, lease in self.leases.items():
            if self.schedule.progress[number].state == "open":
                lease.renew()
                if self.videos[number].split:
                    self._found(number)
        self.on_event(BatchEvent(self._done()))

    def _found(self, number: int) -> None:
        files, progress = SegmentFiles(self.storage, self.videos[number].name), self.schedule.progress[number]
        ready, painted = files.found()
        self.schedule.scanned(number, ready)
        self.schedule.painted(number, painted)
        if progress.segments is None and (end := files.scan_end()) is not None:
            progress.segments = end["segments"]

    def _leave(self, number: int, lease: Lease) -> None:
        """Give the lease back; delete what is of no use, or was made for a source that has changed."""
        progress, files = self.schedule.progress[number], SegmentFiles(self.storage, self.videos[number].name)
        lease.release()
        ready, painted = files.found()
        if progress.state == "done" or number in self.changed or not (ready or painted):
            files.remove()

    def _done(self) -> float:
        return self.schedule.frames_done(self.options.part_frames)

    def _say(self, text: str) -> None:
        self.on_event(BatchEvent(self._done(), text))

    def _made(self, number: int) -> Made:
        video, progress = self.videos[number], self.schedule.progress[number]
        outcome = progress.outcome or Outcome(Task("whole", number))
        base = self.storage.url
        return Made(
            video.source,
            f"{base}/{video.name}" if is_url(base) else str(Path(base, video.name)),
            progress.state,
            progress.reason,
            outcome.frames,
            progress.attempts,
            progress.retries,
            outcome.notes,
        )


def settings_of(video: Video, setup: Setup) -> dict[str, str]:
    """Return everything the result of a split video depends on, as text."""
    plan, options = setup.style_plan, setup.options
    return {
        "input": f"{video.source}, {video.identity}",
        "reading": repr(options.read),
        "model": setup.model_id,
        "runtime": f"{setup.backend} on {setup.device}",
        "styles": f"{plan.timeline.label} {digest_of(plan)}",
        "timeline": repr(plan.timeline),
        "size": repr(options.size),
        "coding": repr(options.encode),
        "batch": str(options.batch),
        "deflicker": str(options.deflicker),
        "segment": f"{options.part_frames} frames",
        "program": f"mst {__version__}, PyAV {version('av')}",
    }


def digest_of(plan: StylePlan) -> str:
    """Return a hash of the FiLM vectors of a plan."""
    digest = hashlib.sha256()
    for name, film in plan.film_params.items():
        digest.update(name.encode() + film.tobytes())
    return digest.hexdigest()[:16]


def without_encoder(plan: StylePlan) -> StylePlan:
    """Return a plan that can be sent to other processes: each opens an encoder of its own."""
    return replace(plan, read=None)


def as_json(report: BatchReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    frames = sum(video.frames for video in report.videos if video.state == "done")
    return {
        "videos": [{**video.__dict__, "notes": list(video.notes)} for video in report.videos],
        "workers": [{**worker.__dict__, "seconds": round(worker.seconds, 3)} for worker in report.workers],
        "frames": frames,
        "seconds": round(report.seconds, 3),
        "fps": round(frames / report.seconds, 3) if report.seconds > 0 else 0.0,
    }
