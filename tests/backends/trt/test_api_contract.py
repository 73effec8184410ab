"""Every TensorRT name and call of this project against the real bindings of 8.6, 10, 11 and for RTX (1).

The fake that drives builder and backend is made from recorded APIs and rejects names they do not have; here
the recordings are compared with the bindings themselves, wherever those can be fetched.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.loading import collecting_logger
from mst_deploy.engines.build import build_plan, progress_monitor
from mst_deploy.engines.options import BuildOptions
from mst_deploy.errors import BackendError, InvalidArgument
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, api_of, bind, fake_tensorrt
from tools.goldens.make_trt_api import RTX, WHEELS, read_api

MAJORS = sorted(WHEELS)
SET_TARGET = "IBuilderConfig.set_compute_capability"
STATIC = ShapeRange((1, 48, 64), (1, 48, 64), (1, 48, 64))


@pytest.mark.parametrize("major", MAJORS)
def test_recorded_api_is_that_of_the_real_bindings(major: int, tmp_path: Path) -> None:
    try:
        real = read_api(major, tmp_path)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the bindings or gcc cannot be had here: {error}")
    assert json.loads(json.dumps(real)) == api_of(major)


@pytest.mark.parametrize("major", MAJORS)
def test_a_misspelled_call_fails(major: int) -> None:
    """The net has no holes: wrong method, argument, property, enum member."""
    trt = fake_tensorrt(major, Scenario(FakeCuda()))
    builder = trt.Builder(collecting_logger(trt))
    with pytest.raises(AttributeError, match="Builder has no 'create_networks'"):
        builder.create_networks()
    with pytest.raises(TypeError, match="fits none of"):
        builder.create_network(flag=1)
    with pytest.raises(TypeError, match="fits none of"):
        builder.build_serialized_network(None)
    config = builder.create_builder_config()
    with pytest.raises(AttributeError, match="cannot be set"):
        config.optimization_level = 3
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.FP17


def test_what_11_removed_is_an_error_there() -> None:
    trt = fake_tensorrt(11, Scenario(FakeCuda()))
    for name in ("FP16", "OBEY_PRECISION_CONSTRAINTS"):
        assert not hasattr(trt.BuilderFlag, name)
    with pytest.raises(AttributeError, match="ICudaEngine has no 'device_memory_size'"):
        _ = trt.ICudaEngine().device_memory_size


@pytest.mark.parametrize("major", MAJORS)
def test_methods_that_tensorrt_calls_have_its_arguments(major: int) -> None:
    """Our logger and progress monitor are called by name and position as the base class says."""
    trt = fake_tensorrt(major, Scenario(FakeCuda()))
    own: list[tuple[Any, str]] = [(collecting_logger(trt), "ILogger")]
    base = compat.monitor_base(trt)
    assert (base is None) == (major == 8)
    if base is not None:
        own.append((progress_monitor(base, lambda share, note: None, None), "IProgressMonitor"))  # type: ignore[arg-type]
    for made, name in own:
        for method, overloads in api_of(major)["classes"][name]["methods"].items():
            if method == "__init__":
                continue
            code = getattr(made, method).__func__.__code__
            arguments = code.co_varnames[1 : code.co_argcount]
            bind(method, overloads, (), dict.fromkeys(arguments))
            assert len(arguments) == len(overloads[0][0])


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("stripped", [False, True])
def test_every_build_option_is_known_to_the_version(major: int, stripped: bool) -> None:
    """All options at once; only stripping is refused by 8.6, in words."""
    scenario = Scenario(FakeCuda())
    trt = fake_tensorrt(major, scenario)
    options = BuildOptions(512, 5, version_compatible=True, hardware_compatible=True, strip_weights=stripped)
    if major == RTX:
        with pytest.raises(InvalidArgument, match=r"workspace cannot be used with TensorRT for RTX 1\.7"):
            build_plan(trt, b"onnx", 10, "fp16", STATIC, options, b"", lambda share, note: None)
        return

    def build() -> bytes:
        return build_plan(trt, b"onnx", 10, "fp16", STATIC, options, b"", lambda share, note: None).plan

    if major == 8 and stripped:
        with pytest.raises(BackendError, match=r"8\.6 cannot strip weights"):
            build()
        return
    assert build().startswith(b"plan")
    flags = {arguments[0].name for arguments in scenario.called("IBuilderConfig.set_flag")}
    wanted = {"VERSION_COMPATIBLE"} | ({"STRIP_PLAN", "REFIT_IDENTICAL"} if stripped else set())
    assert flags == wanted | ({"FP16", "OBEY_PRECISION_CONSTRAINTS"} if major == 8 else set())
    assert scenario.called("IBuilderConfig.set_memory_pool_limit") == [
        (trt.MemoryPoolType.WORKSPACE, 512 << 20)
    ]
    assert scenario.values["IBuilderConfig.builder_optimization_level"] == 5
    assert scenario.values["IBuilderConfig.hardware_compatibility_level"].name == "AMPERE_PLUS"
    (network,) = scenario.called("Builder.create_network")
    assert network == ({8: 1, 10: 2, 11: 0}[major],)  # 1 << EXPLICIT_BATCH, 1 << STRONGLY_TYPED, nothing


@pytest.mark.parametrize("version", ["7.2.3", "8.5.3", "9.1.0", "12.0.1"])
def test_unknown_versions_are_refused(version: str) -> None:
    with pytest.raises(BackendError, match=rf"{version} is installed; this program knows"):
        compat.check(SimpleNamespace(__name__="tensorrt", __version__=version))


@pytest.mark.parametrize("version", ["1.6.1.120", "2.0.0", "10.16.1"])
def test_unknown_versions_for_rtx_are_refused(version: str) -> None:
    with pytest.raises(BackendError, match=rf"for RTX {version} is installed; this program knows 1\.x from"):
        compat.check(SimpleNamespace(__name__="tensorrt_rtx", __version__=version))


def test_every_option_is_refused_by_a_sentence_or_reaches_the_builder_for_rtx() -> None:
    options = {
        "workspace": BuildOptions(64),
        "optimization_level": BuildOptions(level=3),
        "version_compatible": BuildOptions(version_compatible=True),
        "hardware_compatible": BuildOptions(hardware_compatible=True),
        "strip_weights": BuildOptions(strip_weights=True),
    }
    trt = fake_tensorrt(RTX, Scenario(FakeCuda()))
    for name, given in options.items():
        with pytest.raises(InvalidArgument, match=f"{name} cannot be used"):
            build_plan(trt, b"onnx", 10, "fp16", STATIC, given, b"", lambda share, note: None)
    assert {*options} == {*compat.FLAVORS[compat.RTX].refused}
    scenario = Scenario(FakeCuda())
    trt = fake_tensorrt(RTX, scenario)
    build_plan(
        trt,
        b"onnx",
        10,
        "fp16",
        STATIC,
        BuildOptions(),
        b"",
        lambda share, note: None,
        targets=("SM86", "SM120"),
    )
    targets = [(arguments[0].name, arguments[1]) for arguments in scenario.called(SET_TARGET)]
    assert targets == [("SM86", 0), ("SM120", 1)]
    assert scenario.values["IBuilderConfig.num_compute_capabilities"] == 2
    assert not scenario.called("IBuilderConfig.create_timing_cache")


def test_targets_are_for_rtx_alone() -> None:
    trt = fake_tensorrt(10, Scenario(FakeCuda()))
    with pytest.raises(InvalidArgument, match=r"target cannot be used with TensorRT 10\.16"):
        build_plan(
            trt,
            b"onnx",
            10,
            "fp16",
            STATIC,
            BuildOptions(),
            b"",
            lambda share, note: None,
            targets=["SM86"],
        )


def test_targets_are_read_in_both_spellings() -> None:
    assert compat.parse_targets([]) == ("SM80", "SM86", "SM89", "SM120", "SM121")
    assert compat.parse_targets(["12.0,sm86", "8.6"]) == ("SM86", "SM120")
    assert compat.parse_targets(["7.5"]) == ("SM75",)
    for texts, message in (
        (["9.0"], "no engines for SM90; choose among SM75, .*H100"),
        (["current"], "no engines for SMCURRENT"),
        (["7.5,8.6"], "Turing. doubles an engine"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            compat.parse_targets(texts)


def test_rtx_knows_the_compute_capabilities_that_this_program_offers() -> None:
    known = {*api_of(RTX)["enums"]["ComputeCapability"]} - {"NONE", "CURRENT"}
    assert known == {*compat.FLAVORS[compat.RTX].targets}
