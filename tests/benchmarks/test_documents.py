"""Tests of the script that writes measured figures into the documents, on made-up reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mst_deploy.benchmarks.reports import write_report
from tools.docs import make_benchmarks


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
