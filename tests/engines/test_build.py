"""Tests of engine builds on a fake TensorRT with the real names: success, and every failure."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.loading import collecting_logger
from mst_deploy.engines.build import Built, build_plan
from mst_deploy.engines.options import BuildOptions
from mst_deploy.errors import BackendError, InvalidArgument
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, fake_tensorrt

MAJORS = (1, 8, 10, 11)
RANGE = ShapeRange((1, 32, 48), (1, 48, 64), (2, 64, 96))


def build(trt: Any, on_progress: Any = lambda share, note: None, timings: bytes = b"") -> Built:
    return build_plan(trt, b"onnx", 10, "fp16", RANGE, BuildOptions(), timings, on_progress)


@pytest.mark.parametrize("major", MAJORS)
def test_a_plan_comes_out(major: int) -> None:
    scenario = Scenario(FakeCuda())
    built = build(fake_tensorrt(major, scenario), timings=b"known")
    assert built.plan.startswith(b"plan of TensorRT")
    assert built.timings == (b"" if major == 1 else b"timings")
    assert scenario.called("OnnxParser.parse") == [(b"onnx",)]
    assert scenario.called("IBuilderConfig.create_timing_cache") == ([] if major == 1 else [(b"known",)])
    assert scenario.called("IOptimizationProfile.set_shape") == [
        ("frames", (1, 32, 48, 3), (1, 48, 64, 3), (2, 64, 96, 3)),
        ("film", (1, 10), (1, 10), (2, 10)),
    ]
    (flag,) = scenario.called("OnnxParser.set_flag")
    assert flag[0].name == "NATIVE_INSTANCENORM"


class Layer:
    """A network of one layer that remembers its type."""

    num_layers = 1
    precision: Any = None

    def __init__(self, kind: Any) -> None:
        self.type = kind
        self.output: Any = None

    def get_layer(self, index: int) -> Layer:
        return self

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output = dtype


def test_8_keeps_statistics_in_float32() -> None:
    trt = fake_tensorrt(8, Scenario(FakeCuda()))
    config = trt.Builder(collecting_logger(trt)).create_builder_config()
    layers = [Layer(kind) for kind in trt.LayerType]
    for layer in layers:
        compat.set_precision(trt, layer, config, "fp16")
        assert layer.precision == layer.output
    types = {layer.type.name: layer.output.name for layer in layers if layer.output is not None}
    assert types == {"CONVOLUTION": "HALF", "NORMALIZATION": "FLOAT", "REDUCE": "FLOAT", "SCALE": "FLOAT"}


@pytest.mark.parametrize("major", MAJORS)
def test_parser_errors_name_the_nodes(major: int) -> None:
    scenario = Scenario(FakeCuda(), parse_errors=[("7", "unsupported Split"), ("9", "opset 20")])
    with pytest.raises(BackendError, match=r"node 7: unsupported Split; node 9: opset 20") as error:
        build(fake_tensorrt(major, scenario))
    assert ("opset=17" in str(error.value)) == (major == 8)


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("tensors", [(), ("x", "y"), ("frames", "film", "canvas", "y")])
def test_a_parser_that_says_yes_to_something_else_is_not_believed(
    major: int, tensors: tuple[str, ...]
) -> None:
    scenario = Scenario(FakeCuda(), tensors=tensors)
    with pytest.raises(BackendError, match=r"without .*stylized: it is not a generator of this program"):
        build(fake_tensorrt(major, scenario))
    assert not scenario.called("Builder.build_serialized_network")


def test_a_canvas_that_the_graph_has_not_is_missed() -> None:
    trt = fake_tensorrt(1, Scenario(FakeCuda(), tensors=("frames", "film", "stylized")))
    on_progress = lambda share, note: None  # noqa: E731
    assert build_plan(trt, b"onnx", 10, "fp16", RANGE, BuildOptions(), b"", on_progress).plan
    with pytest.raises(BackendError, match="without canvas"):
        build_plan(trt, b"onnx", 10, "fp16", RANGE, BuildOptions(), b"", on_progress, canvas=True)


@pytest.mark.parametrize("major", MAJORS)
def test_build_that_gives_nothing_reports_tensorrts_reason(major: int) -> None:
    scenario = Scenario(FakeCuda(), builds=False, complaint="no tactic fits in µ memory")
    with pytest.raises(BackendError, match=r"could not build .*no tactic fits in \? memory"):
        build(fake_tensorrt(major, scenario))


@pytest.mark.parametrize("major", MAJORS)
def test_the_reason_is_the_first_error_not_what_follows_from_it(major: int) -> None:
    trt = fake_tensorrt(major, Scenario(FakeCuda()))
    logger, severity = collecting_logger(trt), trt.ILogger.Severity
    assert logger.reason() == "TensorRT gave no reason"
    logger.log(severity.ERROR, "an older one")
    logger.forget()
    logger.log(severity.WARNING, "slow")
    logger.log(severity.ERROR, "node_permute: first input has type UInt8\n  but must not")
    logger.log(severity.ERROR, "second")
    logger.log(severity.ERROR, "In catchCudaError: cudaError 35: CUDA driver version is insufficient")
    assert logger.reason() == "node_permute: first input has type UInt8 but must not"
    logger.forget()
    logger.log(severity.ERROR, "In catchCudaError: cudaError 35: CUDA driver version is insufficient")
    assert "no NVIDIA driver" in logger.reason()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("major", [1, 10, 11])
def test_progress_grows_to_one_and_ctrl_c_stops_at_the_next_step(major: int) -> None:
    shares: list[float] = []
    build(fake_tensorrt(major, Scenario(FakeCuda())), lambda share, note: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1

    def interrupt(share: float, note: str) -> None:
        if share >= 0.5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(fake_tensorrt(major, Scenario(FakeCuda())), interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_impossible_options_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="level goes from 0 to 5, got 6"):
        BuildOptions(level=6)
    with pytest.raises(InvalidArgument, match="at least 1 MiB"):
        BuildOptions(workspace_mib=0)
