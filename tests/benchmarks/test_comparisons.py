"""Tests of external programs, systems that fail, and tables made from committed reports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from mst_deploy.backends.parity import psnr, sample_picture
from mst_deploy.benchmarks.comparisons.__main__ import External
from mst_deploy.benchmarks.comparisons.ablation import rewritten
from mst_deploy.benchmarks.comparisons.fixed_statistics import fix_statistics
from mst_deploy.benchmarks.comparisons.rows import Runs, rows_at
from mst_deploy.benchmarks.comparisons.systems import (
    ExternalProgram,
    System,
    as_exported,
    external,
    ours,
    tflite,
    timing,
    torch_system,
)
from mst_deploy.benchmarks.comparisons.tables import beside, table
from mst_deploy.benchmarks.environment import Load, refuse_busy_machine
from mst_deploy.benchmarks.harness import Times
from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.reports import read_report
from mst_deploy.errors import BackendError, InputError, InvalidArgument, NoisyMachine
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from mst_deploy.onnx_passes.passes import fold_small_constants, to_float32
from tests.conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PROGRAM = """
def invert(content, style, amount=1.0):
    assert content.shape[1] == style.shape[1] == 3
    return content * (1 - amount) + (1 - content) * amount
"""


def program(folder: Path, text: str = PROGRAM, function: str = "invert") -> ExternalProgram:
    (folder / "peer.py").write_text(text, encoding="utf-8")
    return ExternalProgram.parse(folder / "peer.py", function)


def test_foreign_program_gets_pictures_and_its_arguments(tmp_path: Path) -> None:
    frame = sample_picture(16, 24, seed=0)[None]
    whole = external(program(tmp_path), frame)
    assert np.abs(whole.stylize(frame).astype(int) - (255 - frame.astype(int))).max() <= 1
    assert not whole.same_weights
    kept = external(program(tmp_path, function="invert,amount=0"), frame)
    np.testing.assert_array_equal(kept.stylize(frame), frame)


@pytest.mark.parametrize("text", ["a b", "f,x", ""])
def test_functions_must_be_named_plainly(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument, match="NAME"):
        ExternalProgram.parse(tmp_path / "peer.py", text)


def test_programs_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    frame = sample_picture(16, 24, seed=0)[None]
    with pytest.raises(InputError, match="not a Python file"):
        external(ExternalProgram.parse(tmp_path / "none.py", "f"), frame)
    with pytest.raises(InputError, match="no function 'other'"):
        external(program(tmp_path, function="other"), frame)
    with pytest.raises(InputError, match="ZeroDivisionError"):
        external(program(tmp_path, "1 / 0"), frame)


def test_a_program_with_a_style_of_its_own_is_given_none(tmp_path: Path) -> None:
    text = "def wave(content, name): return content if name == 'a' else 1 - content"
    frame = sample_picture(16, 24, seed=0)[None]
    system = external(program(tmp_path, text, "wave,name=a"), frame)
    np.testing.assert_array_equal(system.stylize(frame), frame)
    single = external(program(tmp_path, "def same(content): return content", "same"), frame)
    np.testing.assert_array_equal(single.stylize(frame), frame)


def test_others_are_named_plainly(tmp_path: Path) -> None:
    found = External.parse([tmp_path / "a.py"], ["f,x=1"], ["m=b.tflite"])
    assert (found.programs[0].arguments, found.models) == ({"x": "1"}, {"m": Path("b.tflite")})
    with pytest.raises(InvalidArgument, match="one function for each program; there are 0 for 1"):
        External.parse([tmp_path / "a.py"], [], [])
    for models in (["b.tflite"], ["m=a", "m=b"]):
        with pytest.raises(InvalidArgument, match="NAME=FILE"):
            External.parse([], [], models)


def test_tflite_models_are_planned_once_for_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a runtime that inverts: picture and code go in by their inputs, bytes come back."""
    prepared: list[tuple[int, ...]] = []

    class Interpreter:
        def __init__(self, path: str, num_threads: int) -> None:
            if not Path(path).exists():
                raise ValueError("Could not open")
            self.values: dict[int, Any] = {}

        def get_input_details(self) -> list[dict[str, Any]]:
            return [{"index": 4, "shape": (1, 1, 1, 100)}, {"index": 7, "shape": (1, 384, 384, 3)}]

        def get_output_details(self) -> list[dict[str, Any]]:
            return [{"index": 9}]

        def resize_tensor_input(self, index: int, shape: tuple[int, ...]) -> None:
            prepared.append((index, *shape))

        def allocate_tensors(self) -> None: ...

        def set_tensor(self, index: int, value: Any) -> None:
            self.values[index] = value

        def invoke(self) -> None:
            assert self.values[4].shape == (1, 1, 1, 100)

        def get_tensor(self, index: int) -> Any:
            assert index == 9
            return 1 - self.values[7]

    library = ModuleType("ai_edge_litert.interpreter")
    library.Interpreter = Interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", library)
    monkeypatch.delitem(sys.modules, "mst_deploy.benchmarks.comparisons.tflite", raising=False)
    (tmp_path / "a.tflite").touch()
    system, frame = tflite("a", tmp_path / "a.tflite"), sample_picture(16, 24, seed=0)[None]
    for _ in range(2):
        np.testing.assert_array_equal(system.stylize(frame), 255 - frame)
    system.stylize(frame[:, :8])
    assert prepared == [(7, 1, 16, 24, 3), (7, 1, 8, 24, 3)]
    with pytest.raises(InputError, match="as a TFLite model"):
        tflite("b", tmp_path / "none.tflite")
    sys.modules.pop("mst_deploy.benchmarks.comparisons.tflite")  # it holds the runtime of this test


def test_what_does_not_become_stable_is_left_out_with_its_reason(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = sample_picture(80, 96, seed=0)[None]
    systems = [System("first", lambda frames: frames, "fp32"), System("odd", lambda frames: frames, "fp32")]

    def unsteady(things: Any, plan: Plan) -> dict[str, Times]:
        return {name: Times((1.0,) * 8, 30, name != "odd") for name in things}

    monkeypatch.setattr("mst_deploy.benchmarks.comparisons.rows.measure", unsteady)
    runs = Runs(Plan(max_load=1.0))
    runs.add(systems, frame, bundle)
    assert [row["backend"] for row in runs.facts()["rows"]] == ["first"]
    assert runs.refused == {"odd at 96x80": "not stable after 30 warm-up calls"}


def test_busy_machines_are_refused_with_their_load(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def busy() -> Iterator[Load]:
        yield Load(0.4)

    monkeypatch.setattr("mst_deploy.benchmarks.comparisons.rows.background_load", busy)
    monkeypatch.setattr("mst_deploy.benchmarks.environment.background_load", busy)
    frame = sample_picture(80, 96, seed=0)[None]
    systems = [System("first", lambda frames: frames, "fp32")]
    with pytest.raises(NoisyMachine, match=r"used 40% of the machine \(limit 10%\) at 96x80"):
        Runs(Plan(min_runs=8, most=8)).add(systems, frame, bundle)
    with pytest.raises(NoisyMachine, match="use 40% of the machine"):
        refuse_busy_machine(0.1, seconds=0)
    refuse_busy_machine(0.5, seconds=0)


def test_other_networks_are_set_beside_ours_turn_by_turn() -> None:
    """Twice the time of one, half of the other, whatever the turn; rows of other sizes do not count."""
    pace = np.linspace(1, 3, 20)
    sides = [
        ("mst, a", "8x8", "shipped", 1),
        ("mst, b", "8x8", "shipped", 4),
        ("mst, a", "9x9", "shipped", 1),
        ("theirs", "8x8", "own", 2),
    ]
    rows = [
        {"backend": name, "size": size, "weights": weights, "seconds": list(factor * pace)}
        for name, size, weights, factor in sides
    ]
    (line,) = beside({"rows": rows, "plan": {"confidence": 0.95}})
    assert line == (
        "- time of theirs at 8x8, times that: 2.00 (2.00 to 2.00) of mst, a; 0.50 (0.50 to 0.50) of mst, b"
    )


def test_a_system_that_refuses_does_not_end_the_run() -> None:
    frame = sample_picture(16, 24, seed=0)[None]

    def refuse() -> System:
        raise BackendError("cannot load it")

    assert timing(refuse, frame) == "cannot load it"
    assert timing(lambda: System("a", lambda frames: frames[:, :8], "fp32"), frame) == (
        "gave a picture of shape (1, 8, 24, 3) for one of (1, 16, 24, 3)"
    )
    fine = System("a", lambda frames: frames, "fp32")
    assert timing(lambda: fine, frame) is fine


def test_the_same_weights_give_the_same_picture(bundle: Bundle) -> None:
    frame, films = sample_picture(64, 96, seed=1)[None], load_shipped_styles()[0].film[None]
    wanted = torch_system(bundle, films, "eager").stylize(frame)
    for system in (as_exported(bundle, films), ours(bundle, "onnxrt", films, "onnxrt", "fp32")):
        assert psnr(system.stylize(frame), wanted) > 50


def test_statistics_of_the_frame_itself_change_nothing(bundle: Bundle) -> None:
    """And those of another view do: they are constants of the graph."""
    film = load_shipped_styles()[0].film[None]
    frame, other = (sample_picture(64, 96, seed=seed)[None] for seed in (1, 2))
    wanted = as_exported(bundle, film).stylize(frame)
    found = []
    for view in (frame, other):
        give = partial(fix_statistics, frames=view, films=film)
        system = rewritten(bundle, film, "given", (to_float32, fold_small_constants, give))
        found.append(psnr(system.stylize(frame), wanted))
    assert found[0] > 50
    assert found[1] < 45
    model = onnx.load(bundle.generator)
    to_float32(model)
    assert fix_statistics(model, frame, film) == 15
    assert "InstanceNormalization" not in {node.op_type for node in model.graph.node}


def test_rows_have_ratio_and_quality_against_the_first() -> None:
    frame = sample_picture(80, 96, seed=0)[None]
    systems = [
        System("first", lambda frames: frames, "fp32"),
        System("other", lambda frames: frames ^ np.uint8(1), "fp32"),
        System("foreign", lambda frames: 255 - frames, "fp32", same_weights=False),
    ]
    work = {"multiply_adds": 10, "bytes": 10, "least_bytes": 10}
    rows = rows_at(systems, frame, Plan(min_runs=8, most=8), work, "base")
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
    least = 3 if "clip" in report else 8  # whole jobs, or frames
    assert all(row["settled"] and len(row["seconds"]) >= least for row in report["rows"])


def test_documents_have_the_committed_numbers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.docs.make_benchmarks", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
