"""Workers as actors of a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

import ray
from ray import exceptions

from mst_deploy.errors import BackendError, InvalidArgument
from mst_deploy.jobs.batch.tasks import Task, Video
from mst_deploy.jobs.batch.worker import Setup
from mst_deploy.jobs.batch.workers import Failed, Finished, Lost, Ready, Refused, Report, carried_out, opened

CONNECT_SECONDS = 10.0
"""Seconds that a cluster may take to accept a connection."""


class Actor:
    """One worker of a cluster."""

    def __init__(self, name: str, setup: Setup) -> None:
        self.name, self.worker = name, opened(setup)

    def ready(self) -> Ready | Refused:
        """Return whether this worker can do the work."""
        if isinstance(self.worker, str):
            return Refused(self.name, self.worker)
        return Ready(self.name, self.worker.describe())

    def run(self, task: Task, video: Video) -> Finished | Failed:
        """Carry out a task."""
        assert not isinstance(self.worker, str)
        return carried_out(self.worker, self.name, task, video)


class RayWorkers:
    """Actors, one task at a time each. A dead one is replaced; Ray finds a place for it."""

    def __init__(
        self,
        setup: Setup,
        address: str,
        *,
        count: int | None = None,
        cpus: float = 2,
        gpus: float = 0,
        trust_network: bool = False,
    ) -> None:
        """Join the cluster at an address: ``auto``, ``HOST:6379`` or ``ray://HOST:10001``.

        ``count`` None takes as many workers as the cluster has room for, each with so many cores and GPUs.
        Raises BackendError without a cluster, InvalidArgument for one that anybody could use.
        """
        if os.environ.get("RAY_AUTH_MODE") != "token" and not trust_network:
            raise InvalidArgument(
                "whoever reaches the ports of a Ray cluster can run programs on it: protect it with a token "
                "(RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, here and on every machine), or say that nobody "
                "else is in its network with [option:trust_network]"
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        nobody = BackendError(
            f"no Ray cluster answers at {address}, or its token is another one; start one with: ray "
            "start --head, or leave [option:address] out to use this machine alone"
        )
        if not answers(address):  # Ray itself would try for minutes
            raise nobody
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=True)
        except Exception as error:  # Ray has many kinds, and none of its own for this
            raise nobody from error
        self.setup, self.started = setup, 0
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}
        capacity = _capacity(ray.cluster_resources(), cpus, gpus)
        if capacity == 0:
            ray.shutdown()
            raise BackendError(
                f"no machine of the cluster has {cpus:g} cores and {gpus:g} GPUs; ask for less with "
                "[option:cpus_per_worker] and [option:gpus_per_worker]"
            )
        self.count = capacity if count is None else min(count, capacity)
        self.actors: dict[str, Any] = {}
        self.waiting: dict[Any, str] = {}
        """References to what is not reported yet, with the worker's name."""
        self.known: set[str] = set()
        for _ in range(self.count):
            self._start()

    def _start(self) -> None:
        self.started += 1
        name = f"worker {self.started}"
        options = {"max_restarts": 0, "scheduling_strategy": "SPREAD", **self.resources}
        actor = ray.remote(Actor).options(**options).remote(name, self.setup)
        self.actors[name] = actor
        self.waiting[actor.ready.remote()] = name

    def submit(self, worker: str, task: Task, video: Video) -> None:
        self.waiting[self.actors[worker].run.remote(task, video)] = worker

    def wait(self, seconds: float) -> Sequence[Report]:
        if not self.waiting:
            return []
        done, _ = ray.wait(list(self.waiting), num_returns=1, timeout=seconds)
        return [self._report(reference) for reference in done]

    def _report(self, reference: Any) -> Report:
        name = self.waiting.pop(reference)
        try:
            report: Report = ray.get(reference)
        except exceptions.RayError as error:
            reason = _reason(error)
            self._discard(name)
            if name not in self.known:
                return Refused(name, reason)
            self._start()
            return Lost(name, reason)
        if isinstance(report, Refused):
            self._discard(name)
        self.known.add(name)
        return report

    def _discard(self, name: str) -> None:
        ray.kill(self.actors.pop(name))

    def close(self) -> None:
        for name in list(self.actors):
            self._discard(name)
        ray.shutdown()


def answers(address: str) -> bool:
    """Return whether something listens at ``HOST:PORT`` or ``ray://HOST:PORT``; True for other addresses."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _capacity(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Return for how many workers there is room."""
    capacity = [int(resources.get("CPU", 0) // cpus)] if cpus else []
    capacity += [int(resources.get("GPU", 0) // gpus)] if gpus else []
    return min(capacity, default=1)


def _reason(error: Exception) -> str:
    """Return why an actor is dead, in one line."""
    text = " ".join(str(error).split())
    if "No module named 'mst_deploy'" in text:
        return "mst is not installed there; install it with: pip install 'mst-deploy[batch]'"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "its machine has too little memory"
    if isinstance(error, exceptions.RayActorError):
        return "its process or machine is gone"
    return text[:300]
