"""Real engines of TensorRT for RTX, parsed and built by the real library. None is run: no GPU is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import pytest

from mst_deploy.backends.onnxrt import gpu_present
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import Engine, Identity, ShapeRange, listed, store
from mst_deploy.backends.trt.loading import collecting_logger, deserialize
from mst_deploy.engines.build import Built, build_plan
from mst_deploy.engines.layers import convolution_types, facts_of, is_convolution, layers_in, type_of
from mst_deploy.engines.options import BuildOptions
from mst_deploy.errors import BackendError
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import MODELS, resolve_model
from mst_deploy.onnx_passes.cpu import in_float32
from mst_deploy.onnx_passes.int8 import Affine, convolutions, quantize
from mst_deploy.onnx_passes.passes import to_float32
from mst_deploy.onnx_passes.trt import for_tensorrt

trt: Any = pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.rtx

SMALL = ShapeRange(*[(1, 48, 64)] * 3)
STATIC = ShapeRange(*[(1, 720, 1280)] * 3)
DYNAMIC = ShapeRange((1, 360, 640), (1, 720, 1280), (1, 1080, 1920))
MIB = 2**20
RECORDED = {
    ("base", "fp16"): ((13.6, 276), (10.2, 621)),
    ("base", "fp32"): ((12.2, 384), (13.2, 855)),
    ("lite", "fp16"): ((10.7, 146), (7.2, 320)),
    ("lite", "fp32"): ((6.6, 201), (7.6, 442)),
}
"""MiB of the plan and of device memory, static and dynamic, with 1.7.1.116: growth is a lost fusion."""
ROOM = 1.1


@cache
def graph_of(model: str, precision: str = "fp16") -> bytes:
    """The graph that TensorRT is given."""
    bundle = open_bundle(resolve_model(model))
    if precision == "fp16":
        return for_tensorrt(bundle.generator, 1)
    with TemporaryDirectory() as folder:
        path, graph = Path(folder) / "generator.onnx", onnx.load(bundle.generator)
        to_float32(graph)
        onnx.save(graph, path)
        return for_tensorrt(path, 1)


def build(
    graph: bytes,
    shapes: ShapeRange = SMALL,
    model: str = "lite",
    precision: str = "fp16",
    targets: tuple[str, ...] = compat.DEFAULT_TARGETS,
    **options: Any,
) -> Built:
    manifest = open_bundle(resolve_model(model)).manifest
    return build_plan(
        trt,
        graph,
        manifest.film_size,
        precision,
        shapes,
        BuildOptions(**options),
        b"",
        lambda share, note: None,
        canvas=bool(manifest.canvas_bands),
        targets=targets,
    )


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_convolutions_have_the_type_of_the_graph_and_statistics_are_float32(
    model: str, precision: str
) -> None:
    graph = graph_of(model, precision)
    operators = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)
    for shapes, (plan_mib, memory_mib) in zip((STATIC, DYNAMIC), RECORDED[model, precision], strict=True):
        built = build(graph, shapes, model, precision)
        (message,) = [text for text in built.details if text.startswith("Layers:")]
        layers = layers_in(message)
        types = convolution_types(layers)
        assert types.keys() == {precision}
        # one of the small fixed filters of the canvas may be fused with pointwise layers under another name
        assert operators["Conv"] - 1 <= types[precision] <= operators["Conv"]
        for layer in layers:
            if is_convolution(layer):
                assert {type_of(tensor) for tensor in layer["Outputs"]} == {precision}
        means = [layer for layer in layers if "Mean" in layer["Name"]]
        assert len(means) == 2 * operators["InstanceNormalization"]  # of the values, of their squares
        assert {type_of(layer["Outputs"][0]) for layer in means} == {"fp32"}
        assert not [layer for layer in layers if "plugin" in layer["LayerType"].lower()]
        facts = facts_of(built.details)
        assert facts["layers"] == len(layers)
        assert facts["convolutions_in_fp16"] == (precision == "fp16")
        assert facts["device_memory_mib"] < ROOM * memory_mib
        assert len(built.plan) < ROOM * plan_mib * MIB


def test_a_graph_in_8_bits_multiplies_integers(tmp_path: Path) -> None:
    """Ranges do not matter for that: each is one for normalized values."""
    graph = in_float32(resolve_model("lite") / "generator.onnx")
    layers = convolutions(graph)
    quantize(graph, dict.fromkeys(layers, Affine.over(-4, 4)))
    onnx.save(graph, tmp_path / "int8.onnx")
    built = build(for_tensorrt(tmp_path / "int8.onnx", 1), STATIC)
    (message,) = [text for text in built.details if text.startswith("Layers:")]
    types = convolution_types(layers_in(message))
    assert types["int8"] == len(layers), types
    assert len(built.plan) < ROOM * RECORDED["lite", "fp32"][0][0] * MIB


@pytest.mark.parametrize("target", compat.FLAVORS[compat.RTX].targets)
def test_every_compute_capability_is_built_for_without_a_gpu(target: str) -> None:
    assert build(graph_of("lite"), targets=(target,)).plan


def test_five_targets_cost_no_more_than_one() -> None:
    one, five = (
        len(build(graph_of("lite"), targets=names).plan) for names in (("SM86",), compat.DEFAULT_TARGETS)
    )
    assert five < 1.05 * one


def test_what_the_refusals_of_options_say_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels and compatibility change no byte; the others fail."""
    graph = graph_of("lite")
    plan = build(graph).plan
    assert build(graph).plan == plan
    monkeypatch.setattr(compat, "refuse", lambda trt, options: None)
    for options in ({"level": 0}, {"level": 5}, {"hardware_compatible": True}):
        assert build(graph, **options).plan == plan
    with pytest.raises(BackendError, match="libnvinfer_lean"):
        build(graph, version_compatible=True)
    with pytest.raises(BackendError, match="Requested size was"):
        build(graph, STATIC, workspace_mib=64)
    if not gpu_present():
        with pytest.raises(BackendError, match=r"MyelinCheckException|CUDA_SUCCESS"):
            build(graph, strip_weights=True)


def unknown_operator() -> bytes:
    graph = onnx.load_from_string(graph_of("lite"))
    graph.graph.node[5].op_type = "NoSuchOperator"
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: resolve_model("lite").joinpath("generator.onnx").read_bytes(), "first input has type UInt8"),
        (unknown_operator, "node 5: .*Plugin not found"),
        (lambda: graph_of("lite")[:100_000], "Failed to parse the ONNX model"),
        (lambda: b"hello world", "read a graph with no tensors, without canvas, film, frames, stylized"),
        (lambda: b"", "read a graph with no tensors"),
    ],
    ids=["as-exported", "unknown-operator", "cut", "text", "empty"],
)
def test_graphs_it_does_not_take_are_refused_with_its_own_words(graph: Any, message: str) -> None:
    with pytest.raises(BackendError, match=message) as error:
        build(graph())
    assert "cudaError 35" not in str(error.value)
    assert "\n" not in str(error.value)


def test_what_the_builder_refuses_is_reported_with_its_message() -> None:
    shrinking = ShapeRange((1, 96, 96), (1, 48, 48), (1, 96, 96))
    with pytest.raises(BackendError, match="MIN<=OPT<=MAX"):
        build(graph_of("lite"), shrinking)
    with pytest.raises(BackendError, match="does not build for NONE"):
        build(graph_of("lite"), targets=("NONE",))
    if not gpu_present():
        with pytest.raises(BackendError, match="no NVIDIA driver here"):
            build(graph_of("lite"), targets=("CURRENT",))


@pytest.mark.skipif(gpu_present(), reason="here a GPU answers")
def test_without_a_driver_nothing_is_opened_and_the_reason_is_reported(tmp_path: Path) -> None:
    engine = store(tmp_path, IDENTITY, build(graph_of("lite")).plan, {})
    with pytest.raises(BackendError, match=r"refuses the engine lite-64x48.*(INVALID|no NVIDIA driver)"):
        deserialize(trt, collecting_logger(trt), engine, Path("unused"))


def test_bytes_that_are_no_plan_are_known_as_such_without_opening_them() -> None:
    runtime = trt.Runtime(collecting_logger(trt))
    assert "MALFORMED_ENGINE" in str(compat.refusal(trt, runtime, b"0" * 1000))


IDENTITY = Identity("lite", "ab" * 32, "fp16", SMALL, "rtx", trt.__version__, None, ("SM86",))

BUILD = ("build", "lite", "--size", "64x48", "--flavor", "rtx", "--json")
ON_THE_WAY = """
import os, signal, sys
from pathlib import Path
from mst_deploy.engines import build, command, options
from mst_deploy.model.zoo import resolve_model

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "building":
    monitor = build.progress_monitor
    def dying(base, on_progress, stopped):
        return monitor(base, lambda share, note: die() if share >= 0.5 else None, stopped)
    build.progress_monitor = dying
else:
    Path.replace = die
command.build(options.Request("lite", "64x48", flavor="rtx"))
"""


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mst_deploy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.skipif(gpu_present(), reason="here a GPU verifies")
def test_two_processes_build_one_engine_once_and_the_list_says_what_it_is(engines: Path) -> None:
    found = [finished(process) for process in [run(*BUILD), run(*BUILD)]]
    assert sorted(record["built_now"] for record in found) == [False, True]
    assert found[0]["engine"] == found[1]["engine"]
    assert found[0]["convolutions_in_fp16"] == 1
    (record,) = finished(run("engines", "list", "--json"))
    assert record["state"] == "portable (SM80, SM86, SM89, SM120, SM121), not yet verified"
    assert record["version"] == trt.__version__
    text, _ = run("engines", "list").communicate(timeout=300)
    assert record["state"] in text
    (path,) = engines.glob("*.engine")
    assert path.name.startswith("lite-64x48-fp16-rtx-sm80-sm86-sm89-sm120-sm121-")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = run(*BUILD[:-1])
    out, err = again.communicate(timeout=300)
    assert f"{path.name} is damaged and will be built again" in err
    assert ": built, " in out
    (engine,) = listed(engines)
    assert isinstance(engine, Engine)
    assert engine.plan()


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
@pytest.mark.parametrize("moment", ["building", "storing"])
def test_a_killed_build_leaves_nothing_under_a_final_name(engines: Path, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", ON_THE_WAY, moment], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list(engines.glob("*.engine"))
    assert finished(run(*BUILD))["built_now"]
    assert [type(engine) for engine in listed(engines)] == [Engine]
