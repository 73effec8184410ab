"""Tests of the GPU report, rehearsed on a CPU, and of steps that fail, hang or cannot run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from mst_deploy.errors import InvalidArgument
from tests.conftest import ROOT
from tools.gpu_report import plan, runner
from tools.gpu_report.inputs import films_of, input_names, make_inputs, opened
from tools.gpu_report.plan import LEAST, SHARES, SIZES, Settings, chosen_steps, limit_of
from tools.gpu_report.record import Record
from tools.gpu_report.summary import describe
from tools.gpu_report.timing import Budget, summary, wall_times


def settings(folder: Path) -> Settings:
    return Settings("cpu", ((32, 24),), ("lite",), str(folder))


def without_av(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process in which PyAV cannot be imported, nor in those it starts."""
    blocked = cwd / "blocked"
    blocked.mkdir()
    (blocked / "av.py").write_text("raise ModuleNotFoundError(\"No module named 'av'\", name='av')\n")
    paths = os.pathsep.join([str(blocked), str(ROOT)])
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.slow
def test_everything_is_rehearsed_on_a_cpu_without_pyav(tmp_path: Path) -> None:
    done = without_av(
        "-m",
        "tools.gpu_report",
        "--device",
        "cpu",
        "--size",
        "48x32",
        "--models",
        "lite",
        "--minutes",
        "1.5",
        "-o",
        "out",
        "--commit",
        "1234",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["finished"]
    assert report["commit"]
    assert report["versions"]["torch"]
    steps = report["steps"]
    assert list(steps) == ["imports", *SHARES]
    states = {name: entry["state"] for name, entry in steps.items()}
    for name in ("imports", "machine", "torch", "numerics", "onnxruntime", "profile", "memory"):
        assert states[name] == "done", (name, steps[name])
    rows = {name: entry.get("rows", []) for name, entry in steps.items()}
    errors = [row for name in rows if name != "tests" for row in rows[name] if "error" in row]
    assert not errors
    assert steps["machine"]["products"]["fp32"] > 1e9
    eager = {row["what"]: row for row in rows["torch"] if "psnr_db" in row}
    assert eager["fp32 as is"]["psnr_db"] == 100
    assert eager["fp16 channels-last"]["psnr_db"] > 40
    assert eager["fp16 channels-last"]["end_to_end"]["p50"] > 0
    assert all(row["psnr_db"] > 40 for row in rows["onnxruntime"] if "psnr_db" in row)
    flat = {row["picture"]: row for row in rows["numerics"]}
    assert flat["black"]["fp32, two_moments"]["psnr_db"] > 40
    (layers,) = [row for row in rows["profile"] if row["what"] == "layers"]
    assert len(layers["layers"]) == 15 + 13  # convolutions, one for the canvas, and norms of lite
    assert [row["frames"] for row in rows["memory"]] == [1, 5, 10]
    assert "fp16 channels-last" in describe(report)


def test_chosen_steps_are_rehearsed(tmp_path: Path) -> None:
    """Everything takes most of a minute; this is one step that measures and one that only lists facts."""
    how = ["--device", "cpu", "--size", "48x32", "--models", "lite", "--minutes", "0.5"]
    done = without_av("-m", "tools.gpu_report", *how, "--steps", "memory", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["finished"]
    steps = report["steps"]
    assert {name: entry["state"] for name, entry in steps.items()} == {"imports": "done", "memory": "done"}
    assert [row["frames"] for row in steps["memory"]["rows"]] == [1, 5, 10]


@pytest.mark.parametrize("arguments", [["--device", "tpu"], ["--steps", "torch,lunch"], ["--size", "360"]])
def test_what_it_does_not_know_is_refused_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = without_av("-m", "tools.gpu_report", "-o", "out", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_time_is_shared_out_and_never_exceeded() -> None:
    left, spent = 300.0, []
    steps = list(SHARES)
    for index, step in enumerate(steps):
        spent.append(limit_of(step, steps[index:], left))
        left -= spent[-1]
    assert left == pytest.approx(0)
    by_share = sorted(zip(SHARES.values(), spent, strict=True))
    assert all(a[1] <= b[1] + 1e-9 for a, b in pairwise(by_share))
    assert limit_of("machine", steps, 2 * LEAST) == LEAST
    assert limit_of("machine", steps, LEAST / 2) == LEAST / 2


def test_what_is_not_installed_gets_next_to_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda name: None)
    shares = plan.shares_of(Settings("cuda", SIZES, ("base",), str(tmp_path)))
    assert (shares["onnxruntime"], shares["tensorrt"]) == (LEAST, LEAST)
    assert limit_of("torch", list(SHARES), 300, shares) > limit_of("torch", list(SHARES), 300)
    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir()
    library.touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(plan, "find_spec", lambda name: spec)
    assert plan.shares_of(Settings("cuda", SIZES, ("base",), str(tmp_path))) == SHARES


def test_steps_are_chosen_in_their_own_order() -> None:
    assert chosen_steps("tests, machine") == ("machine", "tests")
    assert chosen_steps(None) == tuple(SHARES)
    with pytest.raises(InvalidArgument, match="lunch"):
        chosen_steps("lunch")


class Context:
    """Steps as processes that do what a test says."""

    def __init__(self, code: str) -> None:
        self.code = code

    def Process(self, target: Any, args: Any) -> Started:
        return Started(self.code, args)


class Started:
    """What the runner asks of a process."""

    def __init__(self, code: str, args: Any) -> None:
        self.command = [sys.executable, "-c", code, *map(str, args[3:5])]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, start_new_session=True)
        self.pid = self.process.pid

    @property
    def exitcode(self) -> int | None:
        return self.process.poll()

    def join(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def kill(self) -> None:
        self.process.kill()


FOUND = "import sys, os, time; open(sys.argv[1], 'w').write('{\"rows\": [1]}'); log = open(sys.argv[2], 'w');"


def entry_of(code: str, folder: Path, limit: float) -> dict[str, Any]:
    report: dict[str, Any] = {"steps": {}, "clocks": []}
    runner._one(Context(FOUND + code), "torch", settings(folder), limit, report)
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["steps"] == report["steps"]
    found: dict[str, Any] = report["steps"]["torch"]
    return found


def test_a_step_that_crashes_keeps_what_it_found_and_its_last_line(tmp_path: Path) -> None:
    code = "log.write('first\\nCUDA error: an illegal access\\n\\n'); log.flush(); os.abort()"
    entry = entry_of(code, tmp_path, 30)
    assert (entry["state"], entry["reason"]) == ("failed", "CUDA error: an illegal access")
    assert entry["exit_code"] == -signal.SIGABRT
    assert entry["rows"] == [1]


def test_a_step_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess; log.write(str(subprocess.Popen(['sleep', '60']).pid)); log.flush();time.sleep(60)"
    )
    began = time.monotonic()
    entry = entry_of(code, tmp_path, 2)
    assert time.monotonic() - began < 8
    assert entry["state"] == "stopped"
    assert entry["rows"] == [1]
    stat = Path(f"/proc/{entry['last_line']}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"  # ended, if perhaps not yet collected


def test_a_record_keeps_errors_and_says_what_there_was_no_time_for(tmp_path: Path) -> None:
    record = Record(tmp_path / "step.json", limit=100)

    def fail() -> dict[str, Any]:
        raise RuntimeError("out of\nmemory")

    assert record.fact("card", fail) is None
    record.row({"what": "a"}, fail)
    record.row({"what": "b"}, lambda: {"ms": np.float64(2.5)})
    record.row({"what": "c"}, fail, needs=1000)
    found = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
    assert found["card"] == {"error": "RuntimeError: out of memory"}
    a, b, c = found["rows"]
    assert a["error"] == "RuntimeError: out of memory"
    assert b["ms"] == 2.5
    assert "s left" in c["skipped"]


def test_times_are_summed_up_by_their_percentiles() -> None:
    found = summary(list(range(1, 102)))
    assert (found["p50"], found["p90"], found["p99"], found["min"], found["calls"]) == (51, 91, 100, 1, 101)
    times = wall_times(lambda: time.sleep(0.002), Budget(0.05), lambda: None)
    assert times["call_ms"]["p50"] >= 2


def test_inputs_follow_the_graph() -> None:
    bundle = opened("lite")
    film = films_of(bundle)[0]
    inputs = make_inputs(input_names(bundle), (20, 16), film, batch=2)
    assert inputs["frames"].shape == (2, 16, 20, 3)
    assert (inputs["film"] == film).all()
    assert inputs["film"].shape == (2, bundle.manifest.film_size)
    assert make_inputs(["canvas"], (20, 16), film)["canvas"].shape == (1, 16, 20, 1)
    with pytest.raises(KeyError):
        make_inputs(["mask"], (20, 16), film)
    assert SIZES[0] == (1920, 1080)
