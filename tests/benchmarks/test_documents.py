"""Tests of the script that writes measured figures into the documents, on made-up reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.benchmarks.reports import write_report
from tools.docs import RESULTS, gpu_tables, make_benchmarks


def row(backend: str, size: str, **changed: Any) -> dict[str, Any]:
    ratio = {"value": 2.04, "low": 2.0, "high": 2.1}
    return {
        "part": "generator",
        "backend": backend,
        "device": "cpu",
        "precision": "fp32",
        "weights": "shipped",
        "size": size,
        "batch": 1,
        "model": "base",
        "seconds": [0.25] * 10,
        "warmups": 6,
        "settled": True,
        "taken_off_s": 0.0,
        "times_faster": ratio,
        "psnr_db": 61.4,
        "work": {"multiply_adds": 10**9, "bytes": 10**8, "least_bytes": 10**7},
        **changed,
    }


def report(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "made": "2026-01-01",
        "commit": "abc",
        "command": ["mst"],
        "versions": {"numpy": "2"},
        "load": 0.01,
        "machine": {"cpu": "Z 80", "cores": 2, "gpu": None, "threads": {}, "instructions": []},
        "plan": {"confidence": 0.95},
        "ceilings": {"multiply_adds": {"fp32": 4e10}, "copied": 1e10},
        "refused": {},
        "rows": rows,
        **more,
    }


def gpu_rows(**figures: Any) -> list[dict[str, Any]]:
    return [{"model": model, "size": [1920, 1080], **figures} for model in gpu_tables.MODELS]


def torch_report() -> dict[str, Any]:
    """A report of tools.gpu_report in which every way takes another time."""

    def times(half: float) -> dict[str, float]:
        return {"p50": half, "p90": 2 * half}

    quality = {"psnr_db": 55.55, "largest_difference": 7}
    eager = {"device_ms": times(20), "end_to_end": times(21), "peak_mib": 1234, **quality}
    small = {**eager, "model": "base", "size": [1280, 720], "what": "fp16 as is", "device_ms": times(9)}
    style = {
        "same_style_ms": times(20),
        "new_style_ms": times(20.5),
        "copy_ms": times(0.25),
        "change_ms": 0.5,
    }
    machine = {
        "card": {"capability": "9.0", "multiprocessors": 132},
        "ceilings": {"multiply_adds": {"fp16": 3e14}},
        "copies": {"within": 4e12, "to_device": 5e10},
        "torch": {"version": "2.11.0", "cudnn": 91900},
    }
    gpu = {"name": "GPU 80", "driver_version": "580", "clocks.max.sm": "1980 MHz"}
    return {
        "made": "2026-01-01",
        "commit": "abc",
        "machine": {"cpu": "Z 80", "cores": 2, "gpu": gpu},
        "versions": {"python": "3.12"},
        "steps": {
            "machine": machine,
            "torch": {
                "rows": [
                    *gpu_rows(what="fp16 as is", **eager),
                    *gpu_rows(
                        what="fp16 channels-last, pipelined", frame_ms=18.5, **quality, end_to_end=times(30)
                    ),
                    *gpu_rows(what="fp16 channels-last, compiled", skipped="only 2.8 s left"),
                    *gpu_rows(what="change of style", **style),
                    small,
                ]
            },
            "numerics": {
                "rows": gpu_rows(picture="black", **{name: quality for name in gpu_tables.NUMBERS}),
            },
            "profile": {
                "rows": [
                    *gpu_rows(
                        what="kernels",
                        by_kind_ms={"norm": 12.5},
                        kernels_ms_a_frame=19.5,
                        launches_a_frame=99.0,
                    ),
                    *gpu_rows(what="layers", sums_ms={"FilmNorm": 13.5, "PaddedConv": 4.5}),
                    *gpu_rows(what="roofline", least_ms=0.5),
                ]
            },
        },
    }


def onnxruntime_report() -> dict[str, Any]:
    way = {"bound_ms": {"p50": 10.0, "p90": 11.0}, "end_to_end": {"p50": 12.0}, "psnr_db": 55.5}
    rows = gpu_rows(what="all passes", **way)
    return {"made": "2026-01-02", "steps": {"onnxruntime": {"version": "1.31", "rows": rows}}}


def test_tables_of_a_gpu_have_each_measured_row_once() -> None:
    """Rows without figures are left out, small frames come first, and shares are of the time on the GPU."""
    found = gpu_tables.latency(torch_report(), onnxruntime_report())
    base = found.split("`lite`")[0].strip().split("\n")[4:]
    assert base == [
        "| PyTorch FP16, contiguous | 1280x720 | 9.0 | 18.0 | 21.0 | 55.5 | 1,234 |",
        "| PyTorch FP16, contiguous | 1920x1080 | 20.0 | 40.0 | 21.0 | 55.5 | 1,234 |",
        "| PyTorch FP16, channels-last, pipelined | 1920x1080 | - | - | 18.5 | 55.5 | - |",
        "| ONNX Runtime, all passes | 1920x1080 | 10.0 | 11.0 | 12.0 | 55.5 | - |",
    ]
    assert "GPU 80 (compute capability 9.0" in found
    shares = gpu_tables.shares(torch_report(), onnxruntime_report())
    assert "2.5% by PyTorch FP16, contiguous, 5.0% by ONNX Runtime, all passes" in shares
    assert "| norm | 12.5 | 12.5 |" in shares
    assert "| black | 55.5 (7) |" in gpu_tables.numerics(torch_report())
    assert "| `base`, 1920x1080 | 20.00 | 20.50 | 0.50 | 0.25 |" in gpu_tables.styles(torch_report())


@pytest.mark.parametrize("name", [gpu_tables.PYTORCH, gpu_tables.ONNXRUNTIME])
def test_committed_reports_of_a_gpu_are_complete_and_hold_no_paths(name: str) -> None:
    text = (RESULTS / name).read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["finished"]
    assert found["machine"]["gpu"]["name"]
    assert {"made", "command", "commit", "versions"} <= found.keys()
    assert not re.search(r'"/|[ \'(]/(?:tmp|home|root|opt|work|usr)\b', text)
    step = "torch" if name == gpu_tables.PYTORCH else "onnxruntime"
    assert {row["what"] for row in gpu_tables.measured(found, step)} <= {
        *gpu_tables.THROUGH,
        "change of style",
    }


def test_only_blocks_with_reports_are_made(tmp_path: Path) -> None:
    assert make_benchmarks.blocks(tmp_path) == {}
    theirs = row("magenta", "512x512", weights="own", psnr_db=None, seconds=[0.5] * 10, model="magenta")
    rows = [row("PyTorch eager", "512x512", psnr_db=100), row("mst, onnxrt (default)", "512x512"), theirs]
    write_report(tmp_path / make_benchmarks.PEERS[0], report(rows, model="base"))
    found = make_benchmarks.blocks(tmp_path)
    assert found.keys() == {"peers", "summary"}
    summary = found["summary"]
    assert "| base | mst, onnxrt (default) | 512x512 | 250 | 2.0 | 61 |" in summary
    assert "| base | PyTorch eager | 512x512 | 250 | 2.0 | same |" in summary
    assert "magenta" not in summary
    assert "Z 80, 2 cores" in summary
    assert "time of magenta at 512x512, times that: 2.00 (2.00 to 2.00) of mst, onnxrt" in found["peers"]
    assert "| mst, onnxrt (default) | 512x512 | 250 | 2.04 (2.00 to 2.10) | 61.4 | 10% |" in found["peers"]


def test_every_kind_of_report_has_a_block_in_the_documents(tmp_path: Path) -> None:
    """Written for all names the script reads, each block is taken by a document."""
    rows = [row("PyTorch eager", "512x512", psnr_db=100), row("mst, onnxrt (default)", "512x512")]
    for name in (
        *make_benchmarks.PEERS,
        *make_benchmarks.LITE,
        *make_benchmarks.STEPS,
        *make_benchmarks.LATENCY,
    ):
        write_report(tmp_path / name, report(rows, model="base"))
    video = row("onnxrt", "64x48", alone=[0.2] * 10, limit="paint", worked={"paint": [0.2] * 10})
    write_report(tmp_path / make_benchmarks.VIDEO[0], report([video], clip="a.mp4"))
    (tmp_path / make_benchmarks.STILLS).write_text(json.dumps({"runs": [report([])], "rows": []}))
    for name, found in (
        (gpu_tables.PYTORCH, torch_report()),
        (gpu_tables.ONNXRUNTIME, onnxruntime_report()),
    ):
        (tmp_path / name).write_text(json.dumps(found), encoding="utf-8")
    made = make_benchmarks.blocks(tmp_path)
    assert "work on a frame" in made["video"]
    assert "Z 80, 2 cores" in made["stills"]
    assert "generator of base" in made["latency"]
    texts = [path.read_text(encoding="utf-8") for path in make_benchmarks.DOCUMENTS]
    places = [name for text in texts for name in re.findall(r"<!-- measured: (\w+) -->", text)]
    assert sorted(places) == sorted(made)
    filled = "".join(make_benchmarks.filled(text, made) for text in texts)
    assert all(block in filled for block in made.values())


def test_filling_twice_changes_nothing_more() -> None:
    text = "a\n<!-- measured: peers -->\nold\n<!-- end -->\nb <!-- measured: lite -->\n<!-- end -->\n"
    once = make_benchmarks.filled(text, {"peers": "new \\1 | 5 %"})
    assert once == text.replace("old", "new \\1 | 5 %")
    assert make_benchmarks.filled(once, {"peers": "new \\1 | 5 %"}) == once


def test_distances_are_those_of_the_evaluation(tmp_path: Path) -> None:
    """The shipped model goes by its name, or by the name it had when it was alone."""
    means = {"summary": {"means": {"style": {"mean": 0.25}, "content": {"mean": 0.5}}}}
    other = {"summary": {"means": {"style": {"mean": 0.125}, "content": {"mean": 0.75}}}}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"mst": means, "magenta": other}), encoding="utf-8")
    assert make_benchmarks.distances("base", path) == {"": "0.250, 0.500", "magenta": "0.125, 0.750"}
    assert make_benchmarks.distances("lite", path) == {"base": "0.250, 0.500", "magenta": "0.125, 0.750"}
    path.write_text(json.dumps({"mst": means, "base": other}), encoding="utf-8")
    assert make_benchmarks.distances("base", path) == {"": "0.125, 0.750"}
