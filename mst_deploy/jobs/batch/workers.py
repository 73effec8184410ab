"""Groups of workers: their protocol, what they report, and the group that is this very process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mst_deploy.errors import MstError, error_line, template_of
from mst_deploy.jobs.batch.storage import StorageError
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video
from mst_deploy.jobs.batch.worker import Setup, SourceChanged, Worker, WorkerInfo


@dataclass(frozen=True)
class Ready:
    """A worker has opened the model and waits for a task."""

    worker: str
    info: WorkerInfo


@dataclass(frozen=True)
class Refused:
    """A worker cannot do the work; it gets no task."""

    worker: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """A task is done; the worker waits for the next one."""

    worker: str
    outcome: Outcome


@dataclass(frozen=True)
class Failed:
    """A task ended with an error; the worker waits for the next one."""

    worker: str
    reason: str
    storage: bool = False
    """Whether the storage is unusable, so that other tasks would fail too."""
    changed: bool = False
    """Whether the source has changed, so that nothing that was made of it is of use."""


@dataclass(frozen=True)
class Lost:
    """A worker is dead, and the task it had is open again."""

    worker: str
    reason: str


Report = Ready | Refused | Finished | Failed | Lost


class Workers(Protocol):
    """A group of workers. They report ``Ready`` or ``Refused`` first; each gets one task at a time."""

    count: int
    """Number of workers that were asked for."""

    def submit(self, worker: str, task: Task, video: Video) -> None:
        """Give a task to a worker that waits."""
        ...

    def wait(self, seconds: float) -> Sequence[Report]:
        """Return what was reported, as soon as there is something, at the latest after so many seconds."""
        ...

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        ...


def carried_out(worker: Worker, name: str, task: Task, video: Video) -> Finished | Failed:
    """Let a worker carry out a task; every error becomes a report."""
    try:
        return Finished(name, worker.run(task, video))
    except MstError as error:
        text = error_line(error, template_of)
        return Failed(name, text, isinstance(error, StorageError), isinstance(error, SourceChanged))
    except Exception as error:  # a fault of the program must not end the batch
        return Failed(name, f"unexpected {type(error).__name__}: {error_line(error)}")


def opened(setup: Setup) -> Worker | str:
    """Open a worker; return the reason why it cannot be."""
    try:
        return Worker(setup)
    except MstError as error:
        return error_line(error, template_of)
    except Exception as error:  # a damaged installation: other workers may be whole
        return f"unexpected {type(error).__name__}: {error_line(error)}"


class InProcess:
    """One worker, this process: for stores that only this process sees (memory://), and for tests."""

    count = 1

    def __init__(self, setup: Setup) -> None:
        found = opened(setup)
        self.worker = found if isinstance(found, Worker) else None
        self.reports: list[Report] = [
            Refused("worker", found) if isinstance(found, str) else Ready("worker", found.describe())
        ]

    def submit(self, worker: str, task: Task, video: Video) -> None:
        assert self.worker is not None
        self.reports.append(carried_out(self.worker, worker, task, video))

    def wait(self, seconds: float) -> Sequence[Report]:
        reports, self.reports = self.reports, []
        return reports

    def close(self) -> None:
        if self.worker is not None:
            self.worker.__exit__()
