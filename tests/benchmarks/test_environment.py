"""Tests of the environment information and of the load of other programs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mst_deploy.benchmarks import environment


def test_certificate_says_where_figures_are_from() -> None:
    found = environment.environment_info()
    assert found["machine"]["cpu"]
    assert found["machine"]["cores"] == environment.usable_cores()
    assert {"mst-deploy", "python", "numpy"} <= found["versions"].keys()
    assert found["command"]


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("/x/bin/python -m mst_deploy bench latency", "mst bench latency"),
        ("/x/bin/python /x/bin/mst bench latency", "mst bench latency"),
        (
            "python -X dev -m mst_deploy.benchmarks.comparisons -o a",
            "python -m mst_deploy.benchmarks.comparisons -o a",
        ),
        (
            "python -m mst_deploy bench video ../x/a.mp4 --end 1 -o results/a.json -m /y/lite",
            "mst bench video a.mp4 --end 1 -o results/a.json -m lite",
        ),
        (
            "python -m mst_deploy.b --tflite m=../x/m.tflite --function f,k=0.5 --size=8x8",
            "python -m mst_deploy.b --tflite m=m.tflite --function f,k=0.5 --size=8x8",
        ),
        ("python", ""),
    ],
)
def test_command_is_what_can_be_typed_again(started: str, expected: str) -> None:
    assert " ".join(environment.command(started.split())) == expected


def test_processor_is_read_from_the_systems_list(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Z 80\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\n")
    assert environment.cpu_name(path) == "Z 80"
    assert environment.instructions(path) == ["avx2", "avx512_bf16"]
    assert environment.instructions(tmp_path / "none") == []


@pytest.mark.skipif(not environment.STAT.exists(), reason="needs /proc")
def test_other_programs_are_seen_and_own_work_is_not_theirs() -> None:
    """A second process that computes all the time counts; so much of it as the machine gives it."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with environment.background_load() as load:
            time.sleep(1.0)
    finally:
        busy.kill()
        busy.wait()
    assert load.share is not None
    assert load.share > 0.1 / environment.usable_cores()


@pytest.mark.skipif(not environment.STAT.exists(), reason="needs /proc")
def test_a_moment_is_never_more_than_wholly_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few microseconds the system says nothing, or a whole hundredth of a second of each processor."""
    ticks = iter((10.0, 11.0))
    monkeypatch.setattr(environment, "_busy", lambda: next(ticks))
    with environment.background_load() as load:
        pass
    assert load.share == 1.0


def test_peak_of_memory_stays_when_the_memory_is_given_back() -> None:
    code = """
import numpy as np
from mst_deploy.benchmarks.environment import peak_memory
before = peak_memory()
block = np.ones(256 * 2**20, np.uint8)
del block
print(peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(256, abs=16)


def test_gpu_facts_are_read_from_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "nvidia-smi")
    monkeypatch.setattr(
        environment, "_output", lambda command: "H200, 570, 1 MiB, 2 MHz, 3 MHz, 4 MHz, P0, 5 W, 40"
    )
    found = environment.gpu()
    assert found is not None
    assert (found["name"], found["clocks.sm"], found["pstate"]) == ("H200", "2 MHz", "P0")
    monkeypatch.setattr(environment, "_output", lambda command: "")
    assert environment.gpu() is None
