"""Foreign programs, systems that refuse, and tables made from what was committed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mst_deploy.benchmarks.harness import Plan
from mst_deploy.benchmarks.peers.__main__ import rows_at, table
from mst_deploy.benchmarks.peers.systems import (
    Program,
    System,
    as_exported,
    foreign,
    ours,
    torch_system,
    working,
)
from mst_deploy.benchmarks.reports import read_report
from mst_deploy.checking import psnr, sample_picture
from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.manifest import Bundle
from mst_deploy.shipped import load_shipped_styles
from tests.conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PROGRAM = """
def invert(content, style, amount=1.0):
    assert content.shape[1] == style.shape[1] == 3
    return content * (1 - amount) + (1 - content) * amount
"""


def program(folder: Path, text: str = PROGRAM, function: str = "invert") -> Program:
    (folder / "peer.py").write_text(text, encoding="utf-8")
    return Program.parse(folder / "peer.py", function)


def test_foreign_program_gets_pictures_and_its_arguments(tmp_path: Path) -> None:
    frame = sample_picture(16, 24, seed=0)[None]
    whole = foreign(program(tmp_path), frame)
    assert np.abs(whole.stylize(frame).astype(int) - (255 - frame.astype(int))).max() <= 1
    assert not whole.same_weights
    kept = foreign(program(tmp_path, function="invert,amount=0"), frame)
    np.testing.assert_array_equal(kept.stylize(frame), frame)


@pytest.mark.parametrize("text", ["a b", "f,x", ""])
def test_functions_must_be_named_plainly(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument, match="NAME"):
        Program.parse(tmp_path / "peer.py", text)


def test_programs_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    frame = sample_picture(16, 24, seed=0)[None]
    with pytest.raises(InputError, match="not a Python file"):
        foreign(Program.parse(tmp_path / "none.py", "f"), frame)
    with pytest.raises(InputError, match="no function 'other'"):
        foreign(program(tmp_path, function="other"), frame)
    with pytest.raises(InputError, match="ZeroDivisionError"):
        foreign(program(tmp_path, "1 / 0"), frame)


def test_a_system_that_refuses_does_not_end_the_run() -> None:
    frame = sample_picture(16, 24, seed=0)[None]

    def refuse() -> System:
        raise BackendError("cannot load it")

    assert working(refuse, frame) == "cannot load it"
    assert working(lambda: System("a", lambda frames: frames[:, :8], "fp32"), frame) == (
        "gave a picture of shape (1, 8, 24, 3) for one of (1, 16, 24, 3)"
    )
    fine = System("a", lambda frames: frames, "fp32")
    assert working(lambda: fine, frame) is fine


def test_the_same_weights_give_the_same_picture(bundle: Bundle) -> None:
    frame, films = sample_picture(64, 96, seed=1)[None], load_shipped_styles()[0].film[None]
    wanted = torch_system(bundle, films, "eager").stylize(frame)
    for system in (as_exported(bundle, films), ours(bundle, "onnxrt", films, "onnxrt", "fp32")):
        assert psnr(system.stylize(frame), wanted) > 50


def test_rows_have_ratio_and_quality_against_the_first() -> None:
    frame = sample_picture(80, 96, seed=0)[None]
    systems = [
        System("first", lambda frames: frames, "fp32"),
        System("other", lambda frames: frames ^ np.uint8(1), "fp32"),
        System("foreign", lambda frames: 255 - frames, "fp32", same_weights=False),
    ]
    work = {"multiply_adds": 10, "bytes": 10, "least_bytes": 10}
    rows = rows_at(systems, frame, Plan(least=8, most=8), work)
    assert rows[0]["psnr_db"] == 100
    assert rows[1]["psnr_db"] == pytest.approx(20 * np.log10(255), abs=0.1)  # every byte is off by one
    assert rows[2]["psnr_db"] is None
    assert rows[0]["times_faster"]["value"] == 1
    assert (rows[0]["taken_off_s"], rows[2]["work"]["multiply_adds"]) == (0, 0)
    text = table({"rows": rows, "plan": {"confidence": 0.95}, "ceilings": None, "refused": {"x": "why"}})
    assert "| first | 96x80 |" in text
    assert "- x: not measured: why" in text


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*-cpu2*.json")), ids=lambda path: path.name)
def test_committed_results_have_a_birth_certificate(path: Path) -> None:
    if "rows" in (found := json.loads(path.read_text(encoding="utf-8"))) and found.get("schema") is None:
        pytest.skip("of training")
    report = read_report(path)
    assert report["commit"]
    assert {"made", "command", "machine", "versions"} <= report.keys()
    assert report["load"] <= 0.10
    assert all(row["settled"] and len(row["seconds"]) >= 8 for row in report["rows"])


def test_documents_have_the_committed_numbers() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_benchmarks.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
