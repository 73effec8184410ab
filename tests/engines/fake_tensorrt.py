"""Fake TensorRT with exactly the names and signatures of the real one, and behavior chosen by a test.

Classes are made from ``tests/goldens/trt_api_*.json``, recorded from the real bindings: a name, an argument
or a property that the real version does not have is an error here too. ``Scenario`` defines the effect of
calls.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.conftest import ROOT
from tests.engines.fake_cuda import FakeCuda
from tools.goldens.make_trt_api import RTX

Compute = Callable[[Any, Any], Any]
"""frames (N, H, W, 3) uint8, films (N, P) float32 -> stylized."""


def api_of(major: int) -> dict[str, Any]:
    text = (ROOT / "tests" / "goldens" / f"trt_api_{major}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass
class Scenario:
    """What this TensorRT does."""

    cuda: FakeCuda
    compute: Compute = lambda frames, films: 255 - frames
    parse_errors: list[tuple[str, str]] = field(default_factory=list)
    builds: bool = True
    complaint: str = ""
    """What TensorRT logs when it fails."""
    deserializes: bool = True
    gives_context: bool = True
    tensors: tuple[str, ...] = ("frames", "film", "canvas", "stylized")
    """Of the network that was parsed, the output last; () for a parser that makes nothing of its input."""
    takes_profile: bool = True
    validity: tuple[str, int] = ("VALID", 0)
    """What TensorRT for RTX says of a plan, and the bits of the reasons."""
    capturable: bool = True
    kernels: bytes = b"kernels"
    """What TensorRT for RTX has compiled."""
    details: tuple[str, ...] = ()
    """What the builder says of the engine at the lowest severity."""
    failing_enqueue: int | None = None
    """Number of the execute call that fails, from 0."""
    layers: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    """Every call of every object: ("Class.method", arguments)."""
    values: dict[str, Any] = field(default_factory=dict)
    """Every property that was set, by "Class.name"."""
    enqueued: int = 0

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for found, arguments in self.calls if found == name]


def bind(name: str, overloads: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError unless one overload takes the arguments, as pybind11 does."""
    for arguments, _ in overloads:
        names = [argument for argument, _ in arguments]
        rest = names[len(args) :]
        required = {argument for argument, default in arguments[len(args) :] if not default}
        if len(args) <= len(names) and set(kwargs) <= set(rest) and required <= set(kwargs):
            return
    raise TypeError(f"{name}{args}{kwargs or ''} fits none of {overloads}")


class Strict:
    """An object of the real class's shape."""

    spec: dict[str, Any]
    label: str
    scenario: Scenario
    module: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "__init__" in self.spec["methods"]:
            bind(f"{self.label}()", self.spec["methods"]["__init__"], args, kwargs)
        object.__setattr__(self, "given", args)
        self.scenario.calls.append((self.label, args))

    def __getattr__(self, name: str) -> Any:
        if name in self.spec["properties"]:
            action = ACTIONS.get(f"{self.label}.{name}")
            return action(self) if action else self.scenario.values.get(f"{self.label}.{name}")
        if name not in self.spec["methods"] or name.startswith("__"):
            raise AttributeError(f"TensorRT {self.module.__version__}: {self.label} has no {name!r}")

        def call(*args: Any, **kwargs: Any) -> Any:
            bind(f"{self.label}.{name}", self.spec["methods"][name], args, kwargs)
            self.scenario.calls.append((f"{self.label}.{name}", args))
            action = ACTIONS.get(f"{self.label}.{name}")
            return action(self, *args, **kwargs) if action else None

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.spec["properties"].get(name, False):
            raise AttributeError(f"TensorRT {self.module.__version__}: {self.label}.{name} cannot be set")
        self.scenario.values[f"{self.label}.{name}"] = value


def fake_tensorrt(major: int, scenario: Scenario) -> Any:
    """The module."""
    api = api_of(major)
    name = "tensorrt_rtx" if major == RTX else "tensorrt"
    module = SimpleNamespace(__name__=name, __version__=api["version"], scenario=scenario)
    make_enum: Any = enum.IntEnum
    for name, members in api["enums"].items():
        if "." not in name:
            setattr(module, name, make_enum(name, members))
    for name, spec in api["classes"].items():
        body = {"spec": spec, "label": name, "scenario": scenario, "module": module}
        setattr(module, name, type(name, (Strict,), body))
    for name in ("ILogger", "IProgressMonitor"):  # these are derived from: plain classes, calls counted
        if name in api["classes"]:
            setattr(module, name, type(name, (), {"api": api["classes"][name]}))
    module.ILogger.Severity = make_enum("Severity", api["enums"]["ILogger.Severity"])
    return module


def other(own: Strict, name: str, *given: Any) -> Any:
    """An object that the real library would make itself."""
    cls = getattr(own.module, name)
    made = cls.__new__(cls)
    object.__setattr__(made, "given", given)
    return made


def parse(own: Strict, model: bytes, path: str = "") -> bool:
    complain(own, own.given[1])
    return not own.scenario.parse_errors


def get_error(own: Strict, index: int) -> Any:
    return other(own, "ParserError", *own.scenario.parse_errors[index])


def build_serialized_network(own: Strict, network: Any, config: Any) -> Any:
    """Three phases of work for the monitor, if there is one; then a plan."""
    monitor = own.scenario.values.get("IBuilderConfig.progress_monitor")
    going = True
    if monitor is not None:
        monitor.phase_start("Building Engine", None, 2)
        for step in range(2):
            monitor.phase_start("Tactics", "Building Engine", 4)
            for inner in range(4):
                going = going and monitor.step_complete("Tactics", inner)
            monitor.phase_finish("Tactics")
            going = going and monitor.step_complete("Building Engine", step)
        monitor.phase_finish("Building Engine")
    for text in own.scenario.details:
        own.given[0].log(own.module.ILogger.Severity.VERBOSE, text)
    if not (own.scenario.builds and going):
        complain(own, own.given[0])
        return None
    return b"plan of TensorRT " + own.module.__version__.encode()


def complain(own: Strict, logger: Any) -> None:
    """As TensorRT for RTX does without a driver: the reason, then a line about CUDA."""
    if own.scenario.complaint:
        logger.log(own.module.ILogger.Severity.ERROR, own.scenario.complaint)
        logger.log(own.module.ILogger.Severity.ERROR, "IBuilder::~IBuilder: catchCudaError: cudaError 35")


def deserialize(own: Strict, plan: bytes) -> Any:
    if not own.scenario.deserializes or plan != b"plan of TensorRT " + own.module.__version__.encode():
        complain(own, own.given[0])
        return None
    return other(own, "ICudaEngine")


def create_context(own: Strict, config: Any = None) -> Any:
    if not own.scenario.gives_context:
        return None
    context = other(own, "IExecutionContext")
    object.__setattr__(context, "shapes", {})
    object.__setattr__(context, "addresses", {})
    return context


def execute(own: Strict, stream_handle: int) -> bool:
    """Read and write device memory when the stream gets there, at the addresses of now."""
    scenario = own.scenario
    number, scenario.enqueued = scenario.enqueued, scenario.enqueued + 1
    if number == scenario.failing_enqueue:
        return False
    cuda, addresses, shapes = scenario.cuda, dict(own.addresses), dict(own.shapes)

    def kernel() -> None:
        frames = cuda.memory(addresses["frames"], np.uint8, shapes["frames"])
        films = cuda.memory(addresses["film"], np.float32, shapes["film"])
        cuda.memory(addresses["stylized"], np.uint8, shapes["frames"])[:] = scenario.compute(frames, films)

    cuda.stream_of(stream_handle).put(kernel)
    return True


def set_shape(own: Strict, name: str, shape: Any) -> bool:
    own.shapes[name] = tuple(shape)
    return True


def set_address(own: Strict, name: str, memory: int) -> bool:
    own.addresses[name] = memory
    return name in NAMES


NAMES = ("frames", "film", "canvas", "stylized")  # of the shipped models
ACTIONS: dict[str, Callable[..., Any]] = {
    "Builder.create_network": lambda own, flags=0: other(own, "INetworkDefinition"),
    "Builder.create_builder_config": lambda own: other(own, "IBuilderConfig"),
    "Builder.create_optimization_profile": lambda own: other(own, "IOptimizationProfile"),
    "Builder.build_serialized_network": build_serialized_network,
    "IBuilderConfig.create_timing_cache": lambda own, data: other(own, "ITimingCache", data),
    "IBuilderConfig.get_timing_cache": lambda own: other(own, "ITimingCache"),
    "ITimingCache.serialize": lambda own: b"timings",
    "IBuilderConfig.add_optimization_profile": lambda own, profile: 0 if own.scenario.takes_profile else -1,
    "IBuilderConfig.set_compute_capability": lambda own, compute_capability, index: True,
    "INetworkDefinition.num_layers": lambda own: 3,
    "INetworkDefinition.num_inputs": lambda own: max(0, len(own.scenario.tensors) - 1),
    "INetworkDefinition.num_outputs": lambda own: min(1, len(own.scenario.tensors)),
    "INetworkDefinition.get_input": lambda own, index: other(own, "ITensor", own.scenario.tensors[index]),
    "INetworkDefinition.get_output": lambda own, index: other(own, "ITensor", own.scenario.tensors[-1]),
    "ITensor.name": lambda own: own.given[0],
    "INetworkDefinition.get_layer": lambda own, index: other(own, "ILayer", index),
    "ILayer.type": lambda own: list(own.module.LayerType)[own.given[0]],
    "OnnxParser.parse": parse,
    "OnnxParser.num_errors": lambda own: len(own.scenario.parse_errors),
    "OnnxParser.get_error": get_error,
    "ParserError.node": lambda own: own.given[0],
    "ParserError.desc": lambda own: own.given[1],
    "Runtime.deserialize_cuda_engine": deserialize,
    "Runtime.get_engine_validity": lambda own, buffer: (
        own.module.EngineValidity[own.scenario.validity[0]],
        own.scenario.validity[1],
    ),
    "ICudaEngine.create_runtime_config": lambda own: other(own, "IRuntimeConfig"),
    "IRuntimeConfig.create_runtime_cache": lambda own: other(own, "IRuntimeCache"),
    "IRuntimeConfig.get_runtime_cache": lambda own: own.scenario.called("IRuntimeConfig.set_runtime_cache")[
        -1
    ][0],
    "IRuntimeCache.serialize": lambda own: own.scenario.kernels,
    "IExecutionContext.is_stream_capturable": lambda own, stream: own.scenario.capturable,
    "ICudaEngine.create_execution_context": create_context,
    "ICudaEngine.num_io_tensors": lambda own: len(NAMES),
    "ICudaEngine.get_tensor_name": lambda own, index: NAMES[index],
    "ICudaEngine.device_memory_size": lambda own: 3 << 20,
    "ICudaEngine.device_memory_size_v2": lambda own: 3 << 20,
    "ICudaEngine.create_engine_inspector": lambda own: other(own, "EngineInspector"),
    "EngineInspector.get_engine_information": lambda own, format: json.dumps({"Layers": own.scenario.layers}),
    "IExecutionContext.set_input_shape": set_shape,
    "IExecutionContext.set_tensor_address": set_address,
    "IExecutionContext.execute_async_v3": execute,
    "OnnxParserRefitter.refit_from_bytes": lambda own, model, path="": True,
    "Refitter.refit_cuda_engine": lambda own: True,
}
