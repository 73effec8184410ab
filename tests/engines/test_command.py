"""``mst build`` from request to cache on a fake GPU that computes what ONNX Runtime computes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.onnxrt import open_session
from mst_deploy.backends.parity import graph_inputs
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import Engine, Machine, listed, read_timings
from mst_deploy.cli.console import Terminal
from mst_deploy.engines import command
from mst_deploy.engines.build import BuildOptions
from mst_deploy.engines.command import Request
from mst_deploy.errors import BackendError, InvalidArgument, VerificationError
from mst_deploy.model.bundle import Bundle
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, fake_tensorrt

MAJORS = (8, 10, 11)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def on_cpu(bundle: Bundle) -> Any:
    session, _ = open_session(bundle.generator, "cpu")
    names = [value.name for value in session.get_inputs()]
    return lambda frames, films: session.run(["stylized"], graph_inputs(names, frames, films))[0]


def machine_with(monkeypatch: pytest.MonkeyPatch, major: int, **scenario: Any) -> Scenario:
    """Make TensorRT and GPU of ``command`` fakes."""
    told = Scenario(FakeCuda(), **scenario)
    trt = fake_tensorrt(major, told)

    def gpu() -> FakeCuda:
        told.cuda.closed = False
        return told.cuda

    monkeypatch.setattr(compat, "load", lambda: trt)
    monkeypatch.setattr(command, "open_cuda", gpu)
    return told


def request_for(bundle: Bundle, **changed: Any) -> Request:
    return Request(**{"bundle": bundle.path, "size": "64x48", **changed})


@pytest.mark.parametrize("major", MAJORS)
def test_built_once_verified_and_kept(
    bundle: Bundle, cache: Path, on_cpu: Any, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    layers = [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "FP16"}]}]
    scenario = machine_with(monkeypatch, major, compute=on_cpu, layers=layers)
    engine, fresh = command.build(request_for(bundle))
    assert fresh
    assert engine.built["verified"]["psnr_db"] > 45
    assert engine.built["verified"]["styles"] == 2
    assert engine.built["convolutions_in_fp16"] == 1
    assert engine.built["device_memory_mib"] == 3
    again, fresh = command.build(request_for(bundle))
    assert (again, fresh) == (engine, False)
    assert len(scenario.called("Builder.build_serialized_network")) == 1
    (timing,) = cache.glob("*.timing")
    assert read_timings(timing) == b"timings"
    assert scenario.cuda.closed
    assert scenario.cuda.graphs == 0
    _, fresh = command.build(request_for(bundle, force=True))
    assert fresh
    assert scenario.called("IBuilderConfig.create_timing_cache")[-1] == (b"timings",)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda frames, films: 255 - frames, r"PSNR \d+\.\d dB \(at least 35\)"),
        (lambda frames, films: np.zeros_like(frames), "one flat color"),
    ],
)
def test_engine_that_computes_something_else_is_refused_with_figures(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, compute: Any, message: str
) -> None:
    machine_with(monkeypatch, 10, compute=compute)
    with pytest.raises(VerificationError, match=message):
        command.build(request_for(bundle))
    assert not list(listed(cache))
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_captured_graph_that_differs_is_refused(
    bundle: Bundle, cache: Path, on_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that freezes a branch: the third result of a slot is not the first."""
    scenario = machine_with(monkeypatch, 10)

    def frozen(frames: Any, films: Any) -> Any:
        return on_cpu(frames, films) ^ np.uint8(1 if scenario.cuda.launches else 0)

    scenario.compute = frozen
    with pytest.raises(VerificationError, match="captured CUDA graph gives another picture"):
        command.build(request_for(bundle))
    assert not list(listed(cache))


def test_failed_and_interrupted_builds_leave_nothing(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, 11, builds=False, complaint="out of memory in tactic 5")
    with pytest.raises(BackendError, match="out of memory in tactic 5"):
        command.build(request_for(bundle))
    assert not [path for path in cache.iterdir() if not path.name.endswith(".lock")]


def test_two_builds_at_once_build_once(
    bundle: Bundle, cache: Path, on_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = machine_with(monkeypatch, 10, compute=on_cpu)
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(command.build(request_for(bundle))[1])) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, True]
    assert len(scenario.called("Builder.build_serialized_network")) == 1


def test_stale_engine_is_told_and_built_again(
    bundle: Bundle,
    cache: Path,
    on_cpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine_with(monkeypatch, 10, compute=on_cpu)
    command.build(request_for(bundle))
    machine_with(monkeypatch, 11, compute=on_cpu)
    _, fresh = command.build(request_for(bundle, reporter=Terminal()))
    assert fresh
    told = capsys.readouterr().err
    assert (
        "it was built with TensorRT 10.16.1.11, this machine has 11.4.0.106; a new engine will be built"
        in told
    )
    assert [record.get("unusable") is not None for record in command.list_engines()].count(True) == 1
    (removed,) = command.prune(everything=False, dry_run=True)
    assert len(list(listed(cache))) == 2
    assert command.prune(everything=False, dry_run=False) == [removed]
    (left,) = listed(cache)
    assert isinstance(left, Engine)
    assert left.identity.machine.tensorrt.startswith("11.")


def test_damaged_engine_is_told_and_built_again(
    bundle: Bundle,
    cache: Path,
    on_cpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine_with(monkeypatch, 10, compute=on_cpu)
    engine, _ = command.build(request_for(bundle))
    engine.path.write_bytes(engine.path.read_bytes()[:-4])
    (record,) = command.verify_engines([], bundle.path)
    assert "is damaged" in record["error"]
    _, fresh = command.build(request_for(bundle, reporter=Terminal()))
    assert fresh
    assert "is damaged and will be built again" in capsys.readouterr().err
    (record,) = command.verify_engines([engine.path.name], bundle.path)
    assert record["file"] == "whole"
    assert record["verified"]["psnr_db"] > 45
    explained = command.explain(engine.path.name, bundle.path)
    assert explained["layers"] == 0
    assert explained["gpu"] == "Fake GPU 9000"


def test_requests_that_cannot_be_meant(bundle: Bundle) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"size": None}, "give size WxH for frames of one size, or all of smallest, typical and largest"),
        (
            {"smallest": "32x32"},
            "give size WxH for frames of one size, or all of smallest, typical and largest",
        ),
        ({"size": None, "smallest": "64x64", "typical": "32x32", "largest": "96x96"}, "must grow"),
        ({"size": "360"}, "an engine needs WIDTHxHEIGHT"),
    ]
    for changed, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            command.build(request_for(bundle, **changed))
    with pytest.raises(InvalidArgument, match="there is no engine 'x'"):
        command.explain("x", bundle.path)


def test_timing_caches_of_other_workspaces_and_gpus_have_other_names() -> None:
    where = Machine("10.1", "12.9", "NVIDIA L4", "8.9")
    names = {
        command.timing_name(where, BuildOptions()),
        command.timing_name(where, BuildOptions(workspace_mib=512)),
        command.timing_name(Machine("10.1", "12.9", "NVIDIA H200", "9.0"), BuildOptions()),
    }
    assert len(names) == 3
