"""Tests of ``mst bench`` from the command line. Speed is not asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.backends.registry import precision_of
from mst_deploy.benchmarks import command
from mst_deploy.benchmarks.latency import GENERATOR, Case, measure_cases
from mst_deploy.benchmarks.options import Plan, Request
from mst_deploy.benchmarks.reports import read_report
from mst_deploy.errors import InvalidArgument, NoisyMachine
from mst_deploy.model.zoo import resolve_model
from tests.command_line import mst

EASY = ("--ci-width", "0.5", "--max-load", "1", "--no-ceilings", "--no-encoder")


def test_report_tables_and_comparison(tmp_path: Path) -> None:
    done = mst(
        "bench",
        "latency",
        "--size",
        "48x32",
        *EASY,
        "--seconds",
        "2",
        "-o",
        "a.json",
        "--markdown",
        "a.md",
        cwd=tmp_path,
    )
    if "too busy" in done.stderr:
        pytest.skip("this machine is too busy, and the command said so")
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "a.json")
    (row,) = report["rows"]
    assert (row["backend"], row["size"], row["device"], row["precision"]) == (
        "onnxrt",
        "48x32",
        "cpu",
        "fp32",
    )
    assert row["work"]["multiply_adds"] == pytest.approx(153_792 * 48 * 32, rel=0.01)
    assert len(row["stages"]["compute"]) == len(row["seconds"])
    steps = np.sum(list(row["stages"].values()), axis=0)
    assert (steps <= np.array(row["seconds"])).all()
    assert row["cold"]["first_frame_s"] > row["cold"]["first_call_s"] > 0
    assert "| generator of base, onnxrt (cpu, fp32) | 48x32 |" in (tmp_path / "a.md").read_text(
        encoding="utf-8"
    )
    again = mst("bench", "latency", "--size", "48x32", *EASY, "-o", "a.json", cwd=tmp_path)
    assert again.returncode == 1
    assert "--force" in again.stderr
    same = mst("bench", "compare", "a.json", "a.json", "--json", cwd=tmp_path)
    assert [one["real"] for one in json.loads(same.stdout)["differences"]] == [False]


def test_regression_check_fails_on_what_is_slower(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    row: dict[str, Any] = {
        "part": "generator",
        "backend": "onnxrt",
        "device": "cpu",
        "precision": "fp32",
        "weights": "fp16",
        "size": "8x8",
        "batch": 1,
        "model": "base",
        "work": {},
        "warmups": 6,
        "settled": True,
    }
    machine = {"cpu": "A", "cores": 2, "gpu": None, "threads": {}}
    for name, pace in (("a", 1.0), ("b", 1.2)):
        seconds = list(pace * rng.normal(1, 0.01, 20))
        report = {
            "schema": 1,
            "plan": {"confidence": 0.95},
            "machine": machine,
            "rows": [{**row, "seconds": seconds}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(report), encoding="utf-8")
    assert mst("bench", "compare", "a.json", "b.json", "--fail-above", "0.1", cwd=tmp_path).returncode == 1
    assert mst("bench", "compare", "b.json", "a.json", "--fail-above", "0.1", cwd=tmp_path).returncode == 0
    missing = mst("bench", "compare", "a.json", "c.json", cwd=tmp_path)
    assert missing.returncode == 1
    assert len(missing.stderr.strip().splitlines()) == 1


def test_work_is_counted_without_running(tmp_path: Path) -> None:
    done = mst("bench", "work", "--size", "256x128", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["multiply_adds"] == pytest.approx(153_792 * 256 * 128, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("latency", "--size", "512"), "WIDTHxHEIGHT"),
        (("latency", "--backend", "tpu"), "unknown backend"),
        (("latency", "--backend", "onnxrt:bf16"), "onnxrt"),
        (("latency", "--plots", "a.pdf"), ".svg"),
        (("work", "--size", "7"), "WIDTHxHEIGHT"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = mst("bench", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_noisy_rows_are_not_reported() -> None:
    row = {
        "part": "generator",
        "backend": "x",
        "size": "8x8",
        "seconds": [1.0, 3.0] * 5,
        "warmups": 6,
        "settled": True,
    }
    with pytest.raises(NoisyMachine, match="generator x 8x8: the mean is known"):
        command.require_reliable([row], Plan(), 0.0)


def test_cases_take_turns_by_size() -> None:
    request = Request((), ("fake", "onnxrt"), "cpu", ("16x8", "8x16"), (1, 2), encoder=False)
    groups = command.cases_of(request)
    assert [(group[0].size, group[0].batch) for group in groups] == [
        ((16, 8), 1),
        ((16, 8), 2),
        ((8, 16), 1),
        ((8, 16), 2),
    ]
    assert all([case.backend for case in group] == ["fake", "onnxrt"] for group in groups)


def test_models_are_called_with_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    call = FakeGenerator.__call__

    def watched(self: FakeGenerator, frames: Any, film_params: Any) -> Any:
        shapes.append((frames.shape, len(film_params)))
        return call(self, frames, film_params)

    monkeypatch.setattr(FakeGenerator, "__call__", watched)
    (row,) = measure_cases(
        [Case(GENERATOR, resolve_model(), "fake", "cpu", (16, 8), 3)], Plan(min_runs=5, most=5)
    )
    assert set(shapes) == {((3, 8, 16, 3), 3)}
    assert len(row["seconds"]) == 5


def test_precision_is_that_of_the_multiplications() -> None:
    assert precision_of("onnxrt", "cpu", "fp16") == "fp32"
    assert precision_of("onnxrt", "cuda", "fp16") == "fp16"
    assert precision_of("openvino:bf16", "cpu", "fp16") == "bf16"
    assert precision_of("openvino:fp32", "cpu", "fp16") == "fp32"
    assert precision_of("pytorch", "cuda", "fp16") == "fp32"


def test_sizes_must_have_two_sides() -> None:
    with pytest.raises(InvalidArgument, match="WIDTHxHEIGHT"):
        command.cases_of(Request((), ("fake",), "cpu", ("360",)))
