"""Tests of ``mst build`` from request to cache on a fake GPU that computes with ONNX Runtime."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.onnxrt import open_session
from mst_deploy.backends.parity import graph_inputs
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Gpu,
    Identity,
    ShapeRange,
    listed,
    read_checked,
    store,
)
from mst_deploy.cli.console import Terminal
from mst_deploy.engines import command
from mst_deploy.engines.options import BuildOptions, Request
from mst_deploy.errors import BackendError, InvalidArgument, VerificationError
from mst_deploy.model.bundle import Bundle
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, fake_tensorrt

MAJORS = (8, 10, 11)
RTX = 1
ALL_TARGETS = "SM80, SM86, SM89, SM120, SM121"


CONVOLUTION = (
    "Name: node_conv2d_1_myl0_1, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,4,360,640], "
    "Strides: [921600,1,2560,4], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format "
    "}], Constants: [ { Name: w, Dimensions: [16,4,3,3], Datatype: Float }], Outputs: [ { Name: b, "
    "Dimensions: [1,16,360,640], Datatype: Half, Format: (NHWC) }], TacticName: __myelin_CASK_STUB"
)
"""A line of what TensorRT for RTX 1.7 says of an engine while it builds."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def on_cpu(bundle: Bundle) -> Any:
    session, _ = open_session(bundle.generator, "cpu")
    names = [value.name for value in session.get_inputs()]
    return lambda frames, films: session.run(["stylized"], graph_inputs(names, frames, films))[0]


def machine_with(
    monkeypatch: pytest.MonkeyPatch, *majors: int, gpu: str | None = "8.9", **scenario: Any
) -> Scenario:
    """Make TensorRT and GPU of ``command`` fakes; ``gpu`` is a compute capability."""
    simulated = Scenario(FakeCuda(compute_capability=gpu or ""), **scenario)
    runtimes = [fake_tensorrt(major, simulated) for major in majors]

    def opened() -> FakeCuda:
        if gpu is None:
            raise BackendError("there is no NVIDIA driver here")
        simulated.cuda.closed = False
        return simulated.cuda

    def load(flavor: str) -> Any:
        return next(trt for trt in runtimes if compat.flavor_of(trt) == flavor)

    monkeypatch.setattr(compat, "installed", lambda: runtimes)
    monkeypatch.setattr(compat, "load", load)
    monkeypatch.setattr(command, "open_cuda", opened)
    return simulated


def request_for(bundle: Bundle, **changed: Any) -> Request:
    return Request(**{"model": str(bundle.path), "size": "64x48", **changed})


@pytest.mark.parametrize("major", MAJORS)
def test_built_once_verified_and_kept(
    bundle: Bundle, cache: Path, on_cpu: Any, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    layers = [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "FP16"}]}]
    scenario = machine_with(monkeypatch, major, compute=on_cpu, layers=layers)
    engine, fresh = command.build(request_for(bundle))
    assert fresh
    (verification,) = engine.verifications
    assert verification.figures["psnr_db"] > 45
    assert verification.figures["styles"] == 2
    assert verification.gpu == engine.identity.gpu
    assert engine.built["convolutions_in_fp16"] == 1
    assert engine.built["device_memory_mib"] == 3
    again, fresh = command.build(request_for(bundle))
    assert (again, fresh) == (engine, False)
    assert len(scenario.called("Builder.build_serialized_network")) == 1
    (timing,) = cache.glob("*.timing")
    assert read_checked(timing) == b"timings"
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


def test_stale_engine_is_reported_and_built_again(
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
    message = capsys.readouterr().err
    assert (
        "it was built with TensorRT 10.16.1.11, this machine has 11.4.0.106; a new engine will be built"
        in message
    )
    assert [record.get("unusable") is not None for record in command.list_engines()].count(True) == 1
    (removed,) = command.prune(everything=False, dry_run=True)
    assert len(list(listed(cache))) == 2
    assert command.prune(everything=False, dry_run=False) == [removed]
    (left,) = listed(cache)
    assert isinstance(left, Engine)
    assert left.identity.version.startswith("11.")


def test_damaged_engine_is_reported_and_built_again(
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
    assert record["figures"]["psnr_db"] > 45
    explained = command.explain(engine.path.name, bundle.path)
    assert explained["layers"] == 0
    assert explained["state"].startswith("for Fake GPU 9000 (8.9, CUDA 13.0), verified on Fake GPU 9000")


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
    shapes = ShapeRange(*[(1, 48, 64)] * 3)
    here = Identity("m", "ab", "fp16", shapes, "tensorrt", "10.1", Gpu("NVIDIA L4", "8.9", "12.9"))
    names = {
        command.timing_name(here, BuildOptions()),
        command.timing_name(here, BuildOptions(workspace_mib=512)),
        command.timing_name(replace(here, gpu=Gpu("NVIDIA H200", "9.0", "12.9")), BuildOptions()),
    }
    assert len(names) == 3


def test_rtx_builds_without_a_gpu_and_says_not_yet_verified(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = ("Layers:\n" + CONVOLUTION, "Total Activation Memory: 3145728 bytes")
    scenario = machine_with(monkeypatch, RTX, gpu=None, details=details)
    engine, fresh = command.build(request_for(bundle))
    assert fresh
    assert engine.verifications == ()
    assert command.state_of(engine) == f"portable ({ALL_TARGETS}), not yet verified"
    assert engine.built["layers"] == engine.built["convolutions_in_fp16"] == 1
    assert engine.built["device_memory_mib"] == 3
    again, fresh = command.build(request_for(bundle))
    assert (again, fresh) == (engine, False)
    assert len(scenario.called("Builder.build_serialized_network")) == 1
    assert not list(cache.glob("*.timing"))
    (record,) = command.list_engines()
    assert record["state"] == f"portable ({ALL_TARGETS}), not yet verified"
    assert "there is no NVIDIA GPU" in record["unusable"]
    assert command.prune(everything=False, dry_run=True) == []
    (record,) = command.verify_engines([], bundle.path)
    assert record["file"] == "whole"
    assert record["verified"] == []


def test_engine_built_elsewhere_is_verified_by_build_and_verify_where_there_is_a_gpu(
    bundle: Bundle, cache: Path, on_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, RTX, gpu=None)
    command.build(request_for(bundle))
    machine_with(monkeypatch, RTX, compute=on_cpu)
    engine, fresh = command.build(request_for(bundle))
    assert not fresh
    (verification,) = engine.verifications
    assert verification.figures["psnr_db"] > 45
    machine_with(monkeypatch, RTX, gpu="12.0", compute=on_cpu)
    (record,) = command.verify_engines([], bundle.path)
    assert [found["gpu"]["compute_capability"] for found in record["verified"]] == ["8.9", "12.0"]
    assert "; Fake GPU 9000 (12.0, CUDA 13.0) at 20" in record["state"]


def test_rtx_engine_that_fails_on_this_gpu_is_removed(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, RTX)
    with pytest.raises(VerificationError, match="PSNR"):
        command.build(request_for(bundle))
    assert not list(listed(cache))


@pytest.mark.parametrize(
    ("majors", "gpu", "flavor", "targets"),
    [
        ((RTX,), "9.0", "rtx", ALL_TARGETS),
        ((RTX, 11), "9.0", "tensorrt", ""),
        ((RTX, 11), "8.9", "rtx", ALL_TARGETS),
        ((RTX, 11), None, "rtx", ALL_TARGETS),
        ((RTX,), "7.5", "rtx", "SM75"),
        ((10,), "8.9", "tensorrt", ""),
    ],
)
def test_the_flavor_that_the_gpu_runs_is_taken(
    bundle: Bundle,
    cache: Path,
    on_cpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    majors: tuple[int, ...],
    gpu: str | None,
    flavor: str,
    targets: str,
) -> None:
    machine_with(monkeypatch, *majors, gpu=gpu, compute=on_cpu)
    foreign = gpu == "9.0" and flavor == "rtx"
    named = {"flavor": "rtx"} if foreign else {}
    engine, _ = command.build(request_for(bundle, reporter=Terminal(), **named))
    assert engine.identity.flavor == flavor
    assert ", ".join(engine.identity.targets) == targets
    assert ("the engine is for other machines: it was built for" in capsys.readouterr().err) == foreign
    assert bool(engine.verifications) == (gpu is not None and not foreign)


def test_nothing_is_built_for_a_gpu_that_is_no_target(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, RTX, gpu="9.0")
    wanted = r"Fake GPU 9000 \(SM90\) is no target of TensorRT for RTX; .*mst-deploy\[tensorrt\]"
    with pytest.raises(BackendError, match=wanted):
        command.build(request_for(bundle))
    assert not list(listed(cache))


def test_tensorrt_needs_a_gpu_to_build(bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(monkeypatch, 11, gpu=None)
    with pytest.raises(BackendError, match="no NVIDIA driver here"):
        command.build(request_for(bundle))


def test_changed_graph_is_reported_without_a_gpu(
    bundle: Bundle,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine_with(monkeypatch, RTX, gpu=None)
    engine, _ = command.build(request_for(bundle))
    engine.path.unlink()
    store(cache, replace(engine.identity, onnx_sha256="ab" * 32), b"plan", {})
    command.build(request_for(bundle, reporter=Terminal()))
    assert "cannot be used: the model's graph has changed since" in capsys.readouterr().err


def test_options_that_rtx_refuses_are_refused_before_anything_is_built(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = machine_with(monkeypatch, RTX, gpu=None)
    with pytest.raises(InvalidArgument, match="workspace cannot be used with TensorRT for RTX"):
        command.build(request_for(bundle, options=BuildOptions(64)))
    machine_with(monkeypatch, 11)
    with pytest.raises(InvalidArgument, match="target cannot be used with TensorRT 11"):
        command.build(request_for(bundle, flavor="tensorrt", targets=("8.6",)))
    assert not scenario.calls
