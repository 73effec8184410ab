"""Tests of workers as processes and on a cluster of Ray, killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mst_deploy.errors import BackendError, InvalidArgument
from mst_deploy.jobs.batch.command import BatchOptions, run
from mst_deploy.jobs.batch.run import BatchEvent
from tests.command_line import mst_process
from tests.conftest import ROOT
from tests.jobs.batch.plans import TEN, planned, whole


@pytest.mark.slow
def test_processes_make_the_same_bytes_and_open_no_port(clip: Path, tmp_path: Path) -> None:
    plan = planned([clip], tmp_path / "out")
    before = listening()
    ports: list[set[str]] = []
    report = run(plan, lambda event: ports.append(listening() - before))
    assert report.failed == []
    assert len(report.workers) == 2
    assert not set().union(*ports)
    expected = whole(plan, clip, tmp_path / "expected.mp4")
    assert (tmp_path / "out" / plan.videos[0].name).read_bytes() == expected


def listening() -> set[str]:
    """Local addresses of listening TCP sockets of this machine."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {line[1] for line in lines if line[3] == "0A"}


BATCH = """
import sys, time
from pathlib import Path
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.jobs.batch import worker
from mst_deploy.jobs.batch.command import run
from tests.jobs.batch.plans import planned

class Slow(FakeGenerator):
    def __call__(self, frames, film_params, canvas=None):
        time.sleep(0.03)
        return super().__call__(frames, film_params, canvas)

worker.open_generator = lambda bundle, *_: Slow(bundle)  # in the workers, too: they import this file

if __name__ == "__main__":
    plan = planned([Path(sys.argv[1])], sys.argv[2])
    raise SystemExit(len(run(plan, lambda event: None).failed))
"""


@pytest.mark.slow
def test_kill_workers_and_drivers_at_random_moments(clip: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "batch.py", tmp_path / "out"
    script.write_text(BATCH)
    command = [sys.executable, str(script), str(clip), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the tests' own modules
    plan = planned([clip], out)
    expected = whole(plan, clip, tmp_path / "expected.mp4")
    result, unfinished = out / plan.videos[0].name, out / f"{plan.videos[0].name}.batch"
    dice = random.Random(7)
    begun = finished = 0
    for number in range(12):
        before = len(list(unfinished.glob("0*.json")))
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while len(list(unfinished.glob("0*.json"))) <= before and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.3))
        begun += driver.poll() is None
        victims = children(driver.pid)
        if number % 2 and victims:  # a worker: the driver goes on
            os.kill(dice.choice(victims), signal.SIGKILL)
            assert driver.wait(timeout=120) == 0
            finished += 1
        else:
            driver.kill()
            driver.wait()
        if result.exists():
            assert result.read_bytes() == expected
            result.unlink()
    assert begun >= 5
    assert finished >= 5
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert [path.name for path in out.iterdir()] == [result.name]
    assert result.read_bytes() == expected


def children(process: int, words: str = "spawn_main") -> list[int]:
    """Processes that a process has started, itself or through others, with words in their command line."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number = int(path.parent.name)
            parents[number] = int(path.read_text().rpartition(")")[2].split()[1])
            commands[number] = path.with_name("cmdline").read_text()
        except OSError:
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [number for number in found - {process} if words in commands.get(number, "")]


@pytest.mark.slow
def test_interrupted_batch_goes_on(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mst_deploy", "batch", str(clip), "-o", str(tmp_path / "out")]
    command += ["-s", "starry-night", "--backend", "fake", "--model", "lite", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 0)
    assert "Traceback" not in errors
    assert mst_process(*command[3:]).returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.slow
def test_on_a_ray_cluster(clip: Path, tmp_path: Path) -> None:
    """A real cluster of two nodes of Ray on this machine: same bytes, although a worker is killed."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    plan = planned([clip], tmp_path / "out")
    unfinished = tmp_path / "out" / f"{plan.videos[0].name}.batch"
    options = BatchOptions(TEN, "", 2, 1.0, trust_network=True)
    killed: list[int] = []

    def kill_one(event: BatchEvent) -> None:
        if not killed and any(unfinished.glob("0*.json")):
            killed.extend(children(os.getpid(), "ray::Actor.run")[:1])
            for number in killed:
                os.kill(number, signal.SIGKILL)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        options = replace(options, address=cluster.address)
        with pytest.raises(InvalidArgument, match="RAY_AUTH_MODE"):
            run(replace(plan, options=replace(options, trust_network=False)), lambda event: None)
        crowded = replace(plan, options=replace(options, cpus_per_worker=64.0))
        with pytest.raises(BackendError, match="no machine of the cluster has 64 cores"):
            run(crowded, lambda event: None)
        wrong = replace(plan, options=options, setup=replace(plan.setup, model="base"))
        with pytest.raises(BackendError, match="has another model under the name base"):
            run(wrong, lambda event: None)
        report = run(replace(plan, options=options), kill_one)
    finally:
        cluster.shutdown()
    assert report.failed == []
    assert sum(worker.state == "lost" for worker in report.workers) == len(killed)
    expected = whole(plan, clip, tmp_path / "expected.mp4")
    assert (tmp_path / "out" / plan.videos[0].name).read_bytes() == expected


def test_no_cluster_at_the_address_is_one_line(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan = planned([clip], tmp_path / "out")
    nobody = replace(plan, options=BatchOptions(TEN, "127.0.0.1:9", 2, trust_network=True))
    with pytest.raises(BackendError, match=r"no Ray cluster answers at 127.0.0.1:9"):
        run(nobody, lambda event: None)
    assert not (tmp_path / "out").exists()
