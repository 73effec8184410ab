"""Tests of ``mst bench video``: which times are counted, and how they are reported. Speed is not asserted."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.benchmarks import command
from mst_deploy.benchmarks import video as bench
from mst_deploy.benchmarks.options import Plan, VideoRequest
from mst_deploy.benchmarks.reports import KEY, read_report
from mst_deploy.benchmarks.video import cells, measure_video, stages
from mst_deploy.errors import InputError, InvalidArgument, NoisyMachine
from tests.command_line import mst, mst_process

RUNS = Plan(min_runs=3, most=3, precision=0.05)
STAGES = {"decode", "prepare", "canvas", "infer", "compose", "encode", "join"}


def request(clip: Path, **changed: Any) -> VideoRequest:
    return VideoRequest(clip, (), ("fake",), "cpu", **changed)


def test_rows_are_whole_jobs_by_stage(small_clip: Path) -> None:
    own, smaller = measure_video(request(small_clip, sizes=["64x48", "32x24"]), RUNS)
    assert (own["size"], smaller["size"]) == ("64x48", "32x24")
    assert own["part"] == f"video {small_clip.name}, 12 frames to libx264"
    assert (own["frames"], own["decoder"], own["model"], own["device"]) == (12, "h264", "base", "cpu")
    assert own.keys() >= {*KEY, "work", "warmups", "settled"}
    assert len(own["seconds"]) == len(own["alone"]) == 3
    assert own["worked"].keys() == STAGES
    for spent in own["worked"].values():  # one thread each, so none works longer than the job takes
        assert len(spent) == 3
        assert all(0 <= one <= whole for one, whole in zip(spent, own["seconds"], strict=True))
    assert own["work"]["multiply_adds"] == pytest.approx(153_792 * 64 * 48, rel=0.02)


def test_only_the_wanted_part_is_painted_in_batches(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 frames at 29.97 a second: a fifth of a second holds six, two calls of three in each run."""
    shapes: list[Any] = []
    call = FakeGenerator.__call__

    def watched(self: FakeGenerator, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        shapes.append(frames.shape)
        return call(self, frames, film_params, canvas)

    monkeypatch.setattr(FakeGenerator, "__call__", watched)
    (row,) = measure_video(request(small_clip, end=Fraction(1, 5), batch=3), RUNS)
    assert (row["frames"], row["batch"]) == (6, 3)
    assert set(shapes) == {(3, 48, 64, 3)}
    warm = row["warmups"] + 2
    assert len(shapes) == warm + 3 * (bench.ALONE + 2)


def test_cases_take_turns(small_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    turn = bench.Case.turn

    def watched(self: bench.Case, folder: Path) -> None:
        order.append(f"{self.size[0]}")
        turn(self, folder)
        assert list(folder.iterdir()) == []  # nothing of a run stays

    monkeypatch.setattr(bench.Case, "turn", watched)
    measure_video(request(small_clip, sizes=["64x48", "32x24"]), RUNS)
    assert [sorted(order[start : start + 2]) for start in (0, 2, 4)] == [["32", "64"]] * 3


def test_same_cases_and_clips_that_are_none_are_refused(small_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="once"):
        measure_video(request(small_clip, sizes=["64x48", "64x48"]), RUNS)
    with pytest.raises(InputError):
        measure_video(request(tmp_path / "none.mp4"), RUNS)


def row(seconds: list[float]) -> dict[str, Any]:
    return {
        "part": "video a.mp4",
        "model": "base",
        "backend": "onnxrt",
        "device": "cpu",
        "precision": "fp32",
        "weights": "fp16",
        "size": "64x48",
        "batch": 1,
        "seconds": seconds,
        "limit": "paint",
        "warmups": 6,
        "alone": [0.8 * one for one in seconds],
        "settled": True,
        "worked": {"decode": [0.025] * len(seconds), "paint": [0.225] * len(seconds)},
        "work": {"multiply_adds": 10**9, "bytes": 10**8, "least_bytes": 10**7},
    }


def test_tables_say_what_the_runs_say() -> None:
    """A quarter of a second a frame; the generator alone a fifth; the ceiling would allow a fortieth."""
    report = {"plan": {"confidence": 0.95}, "ceilings": {"multiply_adds": {"fp32": 4e10}, "copied": 1e10}}
    assert cells(row([0.25] * 3), report) == [
        "base, onnxrt (cpu, fp32)",
        "64x48",
        "1",
        "250.0 ± 0.0",
        "4.00",
        "80%",
        "paint",
        "10%",
    ]
    assert stages(row([0.25] * 3)) == (
        "onnxrt 64x48, work on a frame, side by side: decode 25.0 ms (10%), paint 225.0 ms (90%)"
    )


def test_runs_that_differ_too_much_are_refused() -> None:
    command.require_reliable([row([0.25, 0.251, 0.252])], RUNS, 0.0)
    with pytest.raises(NoisyMachine, match=r"video a\.mp4 onnxrt 64x48: the mean is known"):
        command.require_reliable([row([0.2, 0.3, 0.25])], RUNS, 0.0)


def test_command_writes_a_report_that_compares(small_clip: Path, tmp_path: Path) -> None:
    wanted = ("--backend", "fake", "--max-load", "1", "--ci-width", "0.5", "--no-ceilings", "--runs", "8")
    arguments = ("bench", "video", small_clip, *wanted, "-o", "v.json", "--markdown", "v.md")
    done = mst_process(*arguments, cwd=tmp_path)  # the report has the command of the process
    if "too busy" in done.stderr:
        pytest.skip("this machine is too busy, and the command said so")
    assert done.returncode == 0, done.stderr
    assert "work on a frame" in done.stdout
    report = read_report(tmp_path / "v.json")
    assert {"made", "command", "commit", "machine", "versions", "load", "clip"} <= report.keys()
    assert report["command"][:3] == ["mst", "bench", "video"]
    assert "| base, fake (cpu, fp32) | 64x48 |" in (tmp_path / "v.md").read_text(encoding="utf-8")
    same = mst("bench", "compare", "v.json", "v.json", "--json", cwd=tmp_path)
    assert [one["real"] for one in json.loads(same.stdout)["differences"]] == [False]
    again = mst("bench", "video", small_clip, *wanted, "-o", "v.json", cwd=tmp_path)
    assert again.returncode == 1
    assert "--force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.mp4",), "none.mp4"),
        (("{clip}", "--backend", "tpu"), "unknown backend"),
        (("{clip}", "--end", "x"), "as a time"),
    ],
)
def test_wrong_arguments_are_one_line(
    small_clip: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = mst("bench", "video", *(one.format(clip=small_clip) for one in arguments), cwd=tmp_path)
    assert done.returncode == (1 if said == "none.mp4" else 2)  # a file that is missing is no wrong usage
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
