"""Tests of comparing and plotting reports, and of rejecting other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mst_deploy.benchmarks.compare import differences, other_machine
from mst_deploy.benchmarks.harness import Times
from mst_deploy.benchmarks.plots import save_plots
from mst_deploy.benchmarks.reports import (
    HEAD,
    cells,
    described,
    markdown,
    read_report,
    share_of_machine,
    text_table,
    write_report,
)
from mst_deploy.benchmarks.roofline import Roofline, roofline_of
from mst_deploy.errors import InputError, InvalidArgument


def report(
    seed: int, slower: float = 1.0, pace: float = 1.0, sizes: tuple[str, ...] = ("64x64",)
) -> dict[str, Any]:
    """Two backends at some sizes; ``slower`` of the second, ``pace`` of the machine; 2 % noise."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "part": "generator",
            "backend": backend,
            "device": "cpu",
            "precision": "fp32",
            "weights": "fp16",
            "size": size,
            "batch": 1,
            "model": "base",
            "warmups": 6,
            "settled": True,
            "seconds": list(pace * factor * rng.normal(0.1, 0.002, 40)),
            "work": {"multiply_adds": 10**9, "bytes": 10**8, "least_bytes": 10**7},
        }
        for size in sizes
        for backend, factor in (("pytorch", 2.0), ("onnxrt", slower))
    ]
    machine = {"cpu": "A", "cores": 2, "gpu": None, "threads": {}, "instructions": ["avx2"]}
    return {
        "schema": 1,
        "made": "2026-01-01",
        "commit": None,
        "command": ["mst"],
        "versions": {"numpy": "2"},
        "machine": machine,
        "plan": {"confidence": 0.95},
        "load": 0.01,
        "rows": rows,
        "ceilings": {"multiply_adds": {"fp32": 4e10}, "copied": 1e10},
    }


def test_ten_per_cent_between_reports_is_detected_and_nothing_is_not() -> None:
    slow = {one.key[1]: one for one in differences(report(0), report(1, slower=1.1))}
    assert slow["onnxrt"].real
    assert "slower" in slow["onnxrt"].describe()
    assert slow["onnxrt"].ratio.value == pytest.approx(1.1, abs=0.01)
    assert not slow["pytorch"].real
    assert "no difference" in slow["pytorch"].describe()


def test_many_equal_rows_give_no_false_alarm() -> None:
    sizes = tuple(f"{side}x{side}" for side in range(64, 74))
    pairs = [(report(seed, sizes=sizes), report(seed + 50, sizes=sizes)) for seed in range(20)]
    alarms = [one for pair in pairs for one in differences(*pair) if one.real]
    assert len(alarms) <= 2  # of 400 rows


def test_relative_times_forget_the_machine() -> None:
    """B ran on a machine half as fast, on which onnxrt is 10 % slower beside PyTorch."""
    (found,) = differences(report(0), report(1, slower=1.1, pace=2.0), relative_to="pytorch")
    assert found.key[1] == "onnxrt"
    assert found.ratio.low < 1.1 < found.ratio.high
    assert found.real


def test_models_are_distinguished() -> None:
    """A second model beside the first, half as fast in B only: nothing is said of the first."""
    a, b = report(0), report(1)
    for one, slower in ((a, 1.0), (b, 2.0)):
        one["rows"] += [
            {**row, "model": "lite", "seconds": [slower * s for s in row["seconds"]]} for row in one["rows"]
        ]
    found = differences(a, b)
    assert [(one.key[-1], one.real) for one in found] == [("base", False)] * 2 + [("lite", True)] * 2
    assert "generator, lite, pytorch" in found[2].describe()
    assert [one.real for one in differences(a, b, relative_to="pytorch")] == [False, False]


def test_reports_without_common_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="in common"):
        differences(report(0), report(1, sizes=("32x32",)))
    with pytest.raises(InvalidArgument, match="'trt'"):
        differences(report(0), report(1), relative_to="trt")


def test_other_machines_are_named() -> None:
    other = report(1)
    other["machine"]["cpu"] = "B"
    assert other_machine(report(0), report(1)) == []
    assert other_machine(report(0), other) == ["cpu: A / B"]


def test_report_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_report(path, report(0))
    assert read_report(path) == report(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1, "rows": []}',
        '{"schema": 9, "rows": [{}]}',
        '{"schema": 1, "rows": [{"part": "generator"}]}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot read|not a report|has no rows"):
        read_report(path)


def test_share_of_the_machine_is_the_roofline() -> None:
    """10^9 multiply-adds at 4 x 10^10 a second take 25 ms; 10^7 bytes at 10^10 take 1 ms."""
    row = report(0)["rows"][0]
    ceilings = Roofline({"fp32": 4e10}, 1e10)
    assert share_of_machine(row, 0.1, ceilings) == pytest.approx(0.25)
    assert share_of_machine(row, 0.1, Roofline({"fp32": 4e10}, 1e8)) == pytest.approx(1.0)
    assert share_of_machine({**row, "precision": "bf16"}, 0.1, ceilings) is None
    assert share_of_machine(row, 0.1, None) is None


def test_ceilings_are_the_best_that_was_seen() -> None:
    times = {
        "fp32:numpy": Times((2.0, 1.0), 6, True),
        "fp32:torch": Times((0.5, 3.0), 6, True),
        "bf16:torch": Times((0.25,), 6, True),
        "copy": Times((4.0, 2.0), 6, True),
    }
    found = roofline_of(times, copied=100, sides=10)
    assert found == Roofline({"fp32": 2000.0, "bf16": 4000.0}, 100.0)


def test_tables_have_what_the_rows_say() -> None:
    """pytorch: 200 ms, five frames a second, 10^9 multiply-adds in 0.2 s, 25 of 200 ms by the roofline."""
    whole = report(0)
    line = dict(zip(HEAD, cells(whole["rows"][0], whole), strict=True))
    assert line["what"] == "generator of base, pytorch (cpu, fp32)"
    assert float(line["p50 ms"]) == pytest.approx(200, rel=0.02)
    assert line["p99"] == "-"  # forty calls say nothing about the last per cent
    assert (line["GMAC/s"], line["of the machine"]) == ("5", "13%") or line["of the machine"] == "12%"
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert text_table(("a", "bb"), [("1", "2")]) == "a  bb\n1   2"
    assert "other programs used 1%" in described(whole)


def test_plots_are_drawn_for_every_view(tmp_path: Path) -> None:
    paths = save_plots(report(0, sizes=("64x64", "128x64")), tmp_path, "a", ".png")
    assert [path.name for path in paths] == ["a-sizes.png", "a-percentiles.png", "a-roofline.png"]
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # lines and letters on white
    without = {**report(0), "ceilings": None}
    assert [path.name for path in save_plots(without, tmp_path, "b", ".svg")] == [
        "b-sizes.svg",
        "b-percentiles.svg",
    ]
    with pytest.raises(InvalidArgument, match="pdf"):
        save_plots(report(0), tmp_path, "c", ".pdf")


def test_reports_are_plain_json(tmp_path: Path) -> None:
    write_report(tmp_path / "a.json", report(0))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["rows"][0]["backend"] == "pytorch"
