"""Workers as processes of this machine, joined to the driver by pipes: no port is opened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from mst_deploy.jobs.batch.tasks import Task, Video
from mst_deploy.jobs.batch.worker import Setup
from mst_deploy.jobs.batch.workers import Lost, Ready, Refused, Report, carried_out, opened

CONTEXT = multiprocessing.get_context("spawn")  # forked threads and GPU contexts do not work


@dataclass
class _Process:
    process: Any
    connection: Connection
    ready: bool = False


class Processes:
    """Worker processes. A dead one is replaced; one that dies before it is ready is not."""

    def __init__(self, setup: Setup, count: int) -> None:
        self.setup, self.count = setup, count
        self.started = 0
        self.processes: dict[str, _Process] = {}
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        self.started += 1
        name = f"worker {self.started}"
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=_serve, args=(there, name, self.setup), name=f"mst {name}", daemon=True
        )
        process.start()
        there.close()
        self.processes[name] = _Process(process, here)

    def submit(self, worker: str, task: Task, video: Video) -> None:
        with suppress(OSError):  # it is dead, which wait() reports
            self.processes[worker].connection.send((task, video))

    def wait(self, seconds: float) -> Sequence[Report]:
        by_connection = {entry.connection: name for name, entry in self.processes.items()}
        reports: list[Report] = []
        for connection in wait(list(by_connection), seconds):
            assert isinstance(connection, Connection)
            name = by_connection[connection]
            try:
                report: Report = connection.recv()
            except (EOFError, OSError):
                report = self._bury(name)
            if isinstance(report, Ready):
                self.processes[name].ready = True
            reports.append(report)
        return reports

    def _bury(self, name: str) -> Report:
        """Remove a dead worker, and start another in its place."""
        entry = self.processes.pop(name)
        entry.connection.close()
        entry.process.join()
        code = entry.process.exitcode
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if not entry.ready:
            return Refused(name, f"it was {reason}" if code < 0 else f"it {reason}")
        self._start()
        return Lost(name, reason)

    def close(self) -> None:
        for entry in self.processes.values():
            entry.process.kill()
        for entry in self.processes.values():
            entry.process.join()
            entry.connection.close()
        self.processes.clear()


def _serve(connection: Connection, name: str, setup: Setup) -> None:
    """Run one worker until the driver closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends its workers
    threading.Thread(target=_end_with_driver, daemon=True).start()
    worker = opened(setup)
    if isinstance(worker, str):
        connection.send(Refused(name, worker))
        return
    with worker:
        connection.send(Ready(name, worker.describe()))
        with suppress(EOFError):
            while True:
                connection.send(carried_out(worker, name, *connection.recv()))


def _end_with_driver() -> None:
    """End this process as soon as the driver is dead: another batch may take up its work at once."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
