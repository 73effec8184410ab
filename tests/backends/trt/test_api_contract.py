"""Every TensorRT name and call of this project against the real bindings of 8.6, 10 and 11.

The fake that drives builder and backend is made from recorded APIs and refuses whatever they do not have;
here the recordings are held to the bindings themselves, wherever those can be fetched.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.engine_cache import ShapeRange
from mst_deploy.backends.trt.runner import collecting_logger
from mst_deploy.engines.build import BuildOptions, build_plan, progress_monitor
from mst_deploy.errors import BackendError
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, api_of, bind, fake_tensorrt
from tools.goldens.make_trt_api import WHEELS, read_api

MAJORS = sorted(WHEELS)
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
        compat.check(type("Trt", (), {"__version__": version}))
