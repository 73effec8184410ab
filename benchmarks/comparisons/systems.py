"""Other ways to run the shipped weights, and other people's programs, each as a function of a frame.

Every system gets all processors of the machine and decides for itself how to use them, as its users do.
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
"""(1, H, W, 3) uint8 RGB -> the same."""


@dataclass(frozen=True)
class System:
    """Something that stylizes frames."""

    name: str
    stylize: Stylize
    precision: str
    same_weights: bool = True
    """Whether its pictures should be those of the reference."""
    starts: bool = False
    """Whether every call loads weights and reads the style anew."""


def ours(bundle: Bundle, backend: str, films: FilmBatch, name: str, precision: str) -> System:
    """A backend of this project."""
    generator = open_generator(bundle, backend, "cpu")
    return System(name, lambda frames: generator(frames, films), precision)


def as_exported(bundle: Bundle, films: FilmBatch) -> System:
    """ONNX Runtime on the file of the bundle as it is."""
    session, _ = open_session(bundle.generator, "cpu")

    def run(frames: Images) -> Images:
        (stylized,) = session.run(["stylized"], model_inputs(bundle.manifest, frames, films))
        return np.asarray(stylized, np.uint8)

    return System("ONNX Runtime, graph as exported", run, "fp32")


def torch_system(bundle: Bundle, films: FilmBatch, how: str) -> System:
    """PyTorch in float32: eager, or compiled by its own compiler."""
    graph: Any = Uint8Generator(load_bundle(bundle).generator).eval()
    if how == "compile":
        graph = torch.compile(graph)

    @torch.inference_mode()
    def run(frames: Images) -> Images:
        inputs = model_inputs(bundle.manifest, frames, films)
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return np.asarray(graph(**tensors).numpy(), np.uint8)

    return System("PyTorch eager" if how == "eager" else "torch.compile", run, "fp32")


def opencv_dnn(bundle: Bundle, films: FilmBatch) -> System:
    """OpenCV's own runtime. Raises BackendError when it does not take the graph."""
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
        for name, value in model_inputs(bundle.manifest, frames, films).items():
            net.setInput(value, name)
        return np.asarray(net.forward("stylized"), np.uint8)

    return System("OpenCV DNN", run, "fp32")


def tflite(name: str, path: Path) -> System:
    """Somebody's TFLite model. Raises InputError, or BackendError where its runtime is not installed."""
    try:
        library = importlib.import_module("mst_deploy.benchmarks.comparisons.tflite")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ai_edge_litert":
            raise
        raise BackendError("needs the package 'ai-edge-litert': pip install ai-edge-litert") from error
    return System(name, library.Model(path, usable_cores()), "own", same_weights=False)


def timing(make: Callable[[], System], frame: Images) -> System | str:
    """The system once it has given a picture of the frame's size, or why it does not."""
    try:
        system = make()
        found = system.stylize(frame)
    except MstError as error:
        return str(error)
    except Exception as error:  # foreign programs raise anything; the report says so and goes on
        return f"{type(error).__name__}: {_first_line(error)}"
    if found.shape != frame.shape:
        return f"gave a picture of shape {found.shape} for one of {frame.shape}"
    return system


@dataclass(frozen=True)
class ExternalProgram:
    """``FUNCTION`` or ``FUNCTION,key=value,...`` of a Python file: (content, style, ...) -> picture.

    Pictures are (1, 3, H, W) float32 RGB in 0..1, of PyTorch. A function whose second parameter is among
    the keys, or that has none, gets no style: it has one of its own.
    """

    file: Path
    function: str
    arguments: dict[str, str]

    @classmethod
    def parse(cls, file: Path, text: str) -> ExternalProgram:
        """Raises InvalidArgument."""
        name, *pairs = text.split(",")
        if not name.isidentifier() or any("=" not in pair for pair in pairs):
            raise InvalidArgument(
                field="function", problem=f"give a function as NAME or NAME,key=value, not {text!r}"
            )
        return cls(file, name, dict(pair.split("=", 1) for pair in pairs))

    def load(self) -> Callable[..., Any]:
        """Run the file and find the function. Raises InputError."""
        spec = importlib.util.spec_from_file_location(f"peer_{self.file.stem}", self.file)
        if spec is None or spec.loader is None or not self.file.is_file():
            raise InputError(f"{self.file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"cannot run {self.file}: {type(error).__name__}: {error}") from error
        found = getattr(module, self.function, None)
        if not callable(found):
            raise InputError(f"{self.file} has no function {self.function!r}")
        return found  # type: ignore[no-any-return]


def external(program: ExternalProgram, style: Images) -> System:
    """Somebody's program with one style (1, H, W, 3) uint8. Raises InputError."""
    function, painting = program.load(), _tensor(style)
    extra = {name: _value(text) for name, text in program.arguments.items()}
    second = [*inspect.signature(function).parameters][1:2]
    styles = [painting] if second and second[0] not in extra else []

    @torch.inference_mode()
    def run(frames: Images) -> Images:
        found = function(_tensor(frames), *styles, **extra)
        return np.asarray((found.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy(), np.uint8)

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
