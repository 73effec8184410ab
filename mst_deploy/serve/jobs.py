"""Videos: one after the other, each in a process of its own, from the journal again after a restart."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mst_deploy.errors import MstError, OutputError
from mst_deploy.files import replacing
from mst_deploy.jobs.journal import LOCK, parts_folder
from mst_deploy.serve.children import Canceled, Child, ClipOrder, Parent
from mst_deploy.serve.library import Library, new_id
from mst_deploy.serve.limits import Limits
from mst_deploy.serve.problems import Refused

FILE = "job.json"
RESULT = "result.mp4"
WAITING, RUNNING, DONE, FAILED, CANCELED = STATES = ("waiting", "running", "done", "failed", "canceled")
FINISHED = (DONE, FAILED, CANCELED)
ORPHAN = 10.0
"""Seconds that the process of a killed service gets to notice it and let go of its files."""
log = logging.getLogger("mst.serve")


@dataclass(frozen=True)
class Job:
    """One video to make."""

    id: str
    clip: str
    """Id of the upload."""
    settings: dict[str, Any]
    size: str = ""
    deflicker: bool = False
    state: str = WAITING
    done: int = 0
    """Frames stylized so far."""
    total: int = 0
    """Number of frames as far as it is known."""
    created: float = 0.0
    """Seconds since 1970."""
    started: float = 0.0
    finished: float = 0.0
    error: str = ""

    def report(self, rate: float) -> dict[str, Any]:
        """Return the description of the job; ``rate`` is its frames per second, 0 if unknown."""
        left = (self.total - self.done) / rate if self.state == RUNNING and rate else None
        return {
            "id": self.id,
            "state": self.state,
            "frames_done": self.done,
            "frames": self.total,
            "progress": 1.0 if self.state == DONE else self.done / self.total if self.total else 0.0,
            "seconds_left": None if left is None else round(left, 1),
            "fps": round(rate, 2) if rate else None,
            "settings": self.settings,
            "error": self.error or None,
            "result": f"/v1/jobs/{self.id}/result" if self.state == DONE else None,
        }


class Jobs:
    """The jobs of a service and the thread that works on them."""

    def __init__(
        self,
        library: Library,
        limits: Limits,
        order: Callable[[Job], ClipOrder],
        parent: Callable[[], Parent],
    ) -> None:
        """``order`` says how a job's clip is stylized, ``parent`` what stylizes its frames."""
        self.library, self.limits, self.order, self.parent = library, limits, order, parent
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()
        self.waiting: deque[str] = deque()
        self.closing = False
        self.running: str | None = None
        self.pace: tuple[float, int, int] = (0.0, 0, 0)  # time and count of its first frame, count now
        self.thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Take up the jobs of an earlier run, and begin."""
        for path in sorted((self.library.folder / "jobs").glob(f"*/{FILE}")):
            with suppress(OSError, ValueError, TypeError):
                values = json.loads(path.read_text(encoding="utf-8"))
                if "look" in values:  # its earlier name
                    values["settings"] = values.pop("look")
                job = Job(**values)
                self.jobs[job.id] = job
        unfinished = [job for job in self.jobs.values() if job.state not in FINISHED]
        for job in sorted(unfinished, key=lambda job: (job.state != RUNNING, job.created)):
            self.jobs[job.id] = replace(job, state=WAITING)
            self.waiting.append(job.id)
        self.thread.start()

    def close(self) -> None:
        """Stop working; unfinished jobs go on at the next start."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        if self.thread.ident is not None:
            self.thread.join()

    def add(self, clip: str, settings: dict[str, Any], size: str, deflicker: bool, total: int) -> Job:
        """Put a video in line. Raises Refused (429)."""
        with self.changed:
            if len(self.waiting) >= self.limits.jobs:
                raise Refused(429, f"{len(self.waiting)} videos are waiting already", retry=60)
            job = Job(new_id(), clip, settings, size, deflicker, total=total, created=time.time())
            self.library.job(job.id).mkdir()
            self._set(job)
            self.waiting.append(job.id)
            self.changed.notify_all()
            return job

    def get(self, identity: str) -> Job:
        """Return a job. Raises Refused (404)."""
        self.library.job(identity)
        with self.changed:
            if identity not in self.jobs:
                raise Refused(404, "there is no such job", "its result may have been deleted after its time")
            return self.jobs[identity]

    def rate(self, identity: str) -> float:
        """Return the frames per second of the running job; 0 if it does not run, or too short."""
        with self.changed:
            begun, first, now = self.pace
            passed = time.monotonic() - begun
            if identity != self.running or now - first < 2 or passed <= 0:
                return 0.0
            return (now - first) / passed

    def result(self, identity: str) -> Path:
        """Return the file of a finished job. Raises Refused (404, 409, 410)."""
        job = self.get(identity)
        if job.state in (FAILED, CANCELED):
            raise Refused(409, f"the job has {job.state}" if job.state == FAILED else "the job was canceled")
        if job.state != DONE:
            raise Refused(409, "the job is not finished", "ask again later", retry=5)
        path = self.library.job(identity) / RESULT
        if not path.is_file():
            raise Refused(410, "the result was deleted after its time")
        with suppress(OSError):
            path.parent.touch()
        return path

    def remove(self, identity: str) -> None:
        """Cancel a job that is not finished, and delete its files. Raises Refused (404)."""
        self.get(identity)
        with self.changed:
            if identity in self.waiting:
                self.waiting.remove(identity)
            del self.jobs[identity]
            while self.running == identity:  # its thread sees that it is gone
                self.changed.wait()
        shutil.rmtree(self.library.job(identity), ignore_errors=True)

    def in_use(self, path: Path) -> bool:
        """Return whether files belong to a job that is not finished; styles do as long as there is one."""
        with self.changed:
            open_jobs = [job for job in self.jobs.values() if job.state not in FINISHED]
        kept = {name for job in open_jobs for name in (job.id, job.clip)}
        return path.name in kept or (bool(open_jobs) and path.parent.name == "styles")

    def forget_deleted(self) -> None:
        """Forget finished jobs whose folder was deleted after its time."""
        with self.changed:
            for identity, job in list(self.jobs.items()):
                if job.state in FINISHED and not self.library.job(identity).is_dir():
                    del self.jobs[identity]

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        with self.changed:
            states = [job.state for job in self.jobs.values()]
        return {state: states.count(state) for state in STATES}

    def _set(self, job: Job) -> None:
        """Remember a job, on disk too; the caller holds the lock."""
        self.jobs[job.id] = job
        with replacing(self.library.job(job.id) / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(job), indent=1), encoding="utf-8")

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closing or self.waiting)
                if self.closing:
                    return
                identity = self.waiting.popleft()
                self.running, self.pace = identity, (0.0, 0, 0)
                self._set(replace(self.jobs[identity], state=RUNNING, started=time.time()))
            try:
                self._finish(identity, *self._run(self.jobs[identity]))
            except Canceled:
                pass
            except Exception as error:
                if not isinstance(error, MstError):
                    log.exception("a job failed")
                text = str(error) if isinstance(error, MstError) else "an unexpected error"
                if isinstance(error, OutputError):
                    text = "the result cannot be written"
                    log.error("a job failed: %s", error)
                self._finish(identity, FAILED, text)
            finally:
                with self.changed:
                    self.running = None
                    self.changed.notify_all()

    def _run(self, job: Job) -> tuple[str, str]:
        clip = self.library.clip(job.clip)
        output = self.library.job(job.id) / RESULT
        _wait_for_orphan(output)
        parent = self.parent()
        parent.on_progress = lambda done, total: self._progressed(job.id, done, total)
        parent.canceled = lambda: self.closing or job.id not in self.jobs
        child = Child(self.limits.child_memory)
        try:
            child.run(
                "render",
                clip,
                output,
                self.order(job),
                self.limits,
                patience=self.limits.stuck_seconds,
                parent=parent,
            )
        finally:
            child.close()
        return DONE, ""

    def _progressed(self, identity: str, done: int, total: int) -> None:
        with self.changed:
            if (job := self.jobs.get(identity)) is None:
                return
            begun, first, _ = self.pace
            self.pace = (begun, first, done) if begun else (time.monotonic(), done, done)
            self.jobs[identity] = replace(job, done=done, total=total)
            self.changed.notify_all()

    def _finish(self, identity: str, state: str, error: str) -> None:
        with self.changed:
            if (job := self.jobs.get(identity)) is not None:
                total = job.done if state == DONE else job.total
                self._set(replace(job, state=state, error=error, total=total, finished=time.time()))
                self.changed.notify_all()


def _wait_for_orphan(output: Path) -> None:
    """Wait until the process of a killed service has let go of an unfinished result."""
    folder = parts_folder(output)
    if folder.is_dir():
        with suppress(Timeout, OSError), FileLock(folder / LOCK).acquire(timeout=ORPHAN):
            pass
