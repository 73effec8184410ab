"""Other ways to run the shipped weights, and external programs, each as a function of a frame.

Every system may use all processors of the machine and decides itself how, as for its users.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import onnx
import torch

from mst_deploy.backends import FilmBatch, Images, model_inputs, open_generator
from mst_deploy.backends.onnxrt import open_session
from mst_deploy.benchmarks.environment import usable_cores
from mst_deploy.errors import BackendError, InputError, InvalidArgument, MstError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.checkpoints import load_bundle
from mst_deploy.model.io_wrappers import Uint8Generator
from mst_deploy.onnx_passes.passes import to_opset17

Stylize = Callable[[Images], Images]
"""Function of (1, H, W, 3) uint8 RGB that returns an image of the same shape and dtype."""


@dataclass(frozen=True)
class System:
    """Named function that stylizes frames."""

    name: str
    stylize: Stylize
    precision: str
    same_weights: bool = True
    """Whether its results should equal those of the reference."""
    starts: bool = False
    """Whether every call loads the weights and encodes the style again."""


def ours(bundle: Bundle, backend: str, film_params: FilmBatch, name: str, precision: str) -> System:
    """Return a backend of this project on the CPU. ``film_params`` is (1, P) float32."""
    generator = open_generator(bundle, backend, "cpu")
    return System(name, lambda frames: generator(frames, film_params), precision)


def as_exported(bundle: Bundle, film_params: FilmBatch) -> System:
    """Return ONNX Runtime on the unmodified file of the bundle."""
    session, _ = open_session(bundle.generator, "cpu")

    def run(frames: Images) -> Images:
        (stylized,) = session.run(["stylized"], model_inputs(bundle.manifest, frames, film_params))
        return np.asarray(stylized, np.uint8)

    return System("ONNX Runtime, graph as exported", run, "fp32")


def torch_system(bundle: Bundle, film_params: FilmBatch, how: str) -> System:
    """Return PyTorch in float32: eager, or compiled with torch.compile if ``how`` is "compile"."""
    graph: Any = Uint8Generator(load_bundle(bundle).generator).eval()
    if how == "compile":
        graph = torch.compile(graph)

    @torch.inference_mode()
    def run(frames: Images) -> Images:
        inputs = model_inputs(bundle.manifest, frames, film_params)
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return np.asarray(graph(**tensors).numpy(), np.uint8)

    return System("PyTorch eager" if how == "eager" else "torch.compile", run, "fp32")


def opencv_dnn(bundle: Bundle, film_params: FilmBatch) -> System:
    """Return OpenCV's DNN module. Raises BackendError if it does not accept the graph."""
    model = onnx.load(bundle.generator)
    to_opset17(model)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        onnx.save(model, path)
        try:
            net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise BackendError(f"OpenCV cannot load the graph: {_first_line(error)}") from error

    def run(frames: Images) -> Images:
        for name, value in model_inputs(bundle.manifest, frames, film_params).items():
            net.setInput(value, name)
        return np.asarray(net.forward("stylized"), np.uint8)

    return System("OpenCV DNN", run, "fp32")


def tflite(name: str, path: Path) -> System:
    """Return an external TFLite model. Raises InputError, or BackendError if its runtime is not installed."""
    try:
        library = importlib.import_module("mst_deploy.benchmarks.comparisons.tflite")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ai_edge_litert":
            raise
        raise BackendError("needs the package 'ai-edge-litert': pip install ai-edge-litert") from error
    return System(name, library.Model(path, usable_cores()), "own", same_weights=False)


def timing(make: Callable[[], System], frame: Images) -> System | str:
    """Return the system if it returns a picture of the frame's size, else the reason why not."""
    try:
        system = make()
        result = system.stylize(frame)
    except MstError as error:
        return str(error)
    except Exception as error:  # external programs raise anything; the report names the reason
        return f"{type(error).__name__}: {_first_line(error)}"
    if result.shape != frame.shape:
        return f"gave a picture of shape {result.shape} for one of {frame.shape}"
    return system


@dataclass(frozen=True)
class ExternalProgram:
    """``FUNCTION`` or ``FUNCTION,key=value,...`` of a Python file: (content, style, ...) -> picture.

    Pictures are PyTorch tensors (1, 3, H, W) float32 RGB in 0..1. A function whose second parameter is among
    the keys, or that has no second parameter, gets no style: it has a built-in one.
    """

    file: Path
    function: str
    arguments: dict[str, str]

    @classmethod
    def parse(cls, file: Path, text: str) -> ExternalProgram:
        """Parse the text of the option. Raises InvalidArgument."""
        name, *pairs = text.split(",")
        if not name.isidentifier() or any("=" not in pair for pair in pairs):
            raise InvalidArgument(
                field="function", problem=f"give a function as NAME or NAME,key=value, not {text!r}"
            )
        return cls(file, name, dict(pair.split("=", 1) for pair in pairs))

    def load(self) -> Callable[..., Any]:
        """Run the file and return the function. Raises InputError."""
        spec = importlib.util.spec_from_file_location(f"peer_{self.file.stem}", self.file)
        if spec is None or spec.loader is None or not self.file.is_file():
            raise InputError(f"{self.file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"cannot run {self.file}: {type(error).__name__}: {error}") from error
        result = getattr(module, self.function, None)
        if not callable(result):
            raise InputError(f"{self.file} has no function {self.function!r}")
        return result  # type: ignore[no-any-return]


def external(program: ExternalProgram, style: Images) -> System:
    """Return an external program with one style (1, H, W, 3) uint8. Raises InputError."""
    function, style_tensor = program.load(), _tensor(style)
    extra = {name: _value(text) for name, text in program.arguments.items()}
    second = [*inspect.signature(function).parameters][1:2]
    styles = [style_tensor] if second and second[0] not in extra else []

    @torch.inference_mode()
    def run(frames: Images) -> Images:
        result = function(_tensor(frames), *styles, **extra)
        return np.asarray((result.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy(), np.uint8)

    label = program.function + "".join(f" {value}" for value in program.arguments.values())
    return System(label, run, "fp32", same_weights=False, starts=True)


def _tensor(frames: Images) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
