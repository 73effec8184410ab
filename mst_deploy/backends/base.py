"""Backends with one contract: uint8 frames, a uint8 canvas and float32 FiLM vectors in, uint8 frames out.

``open_generator`` chooses the module; only that module imports the framework. A model owns its device and is
a context manager.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends.registry import BACKENDS, find_spec, split_precision
from mst_deploy.errors import BackendError, InvalidArgument, MstError
from mst_deploy.model.bundle import Bundle, Manifest, open_bundle
from mst_deploy.model.canvas import Canvas, still_canvas
from mst_deploy.onnx_passes.stage import Stage

Images = NDArray[np.uint8]
"""RGB images, (N, H, W, 3) uint8."""
FilmBatch = NDArray[np.float32]
"""FiLM vectors, (N, P) float32: one per image."""
Batch = tuple[Images, FilmBatch] | tuple[Images, FilmBatch, Canvas | None]
"""Arguments of one call of a generator."""

DEVICES = ("auto", "cpu", "cuda")


OUT_OF_MEMORY = re.compile(r"out of memory|bad.?alloc|(can.?.?not|can't|failed to|unable to) allocate", re.I)
"""How runtimes say that they get no more memory."""


class StylizeBackend(Protocol):
    """Generator that stylizes batches of frames."""

    manifest: Manifest
    device: str
    """Device that it really runs on: cpu or cuda."""

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        """Stylize frames (N, H, W, 3) uint8 with FiLM vectors (N, P) float32 -> (N, H, W, 3) uint8.

        ``canvas`` (N, H, W, 1) uint8 is for models that have one; by default it is that of a still with seed
        0. Raises InvalidArgument, see ``check_call``.
        """
        ...

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Stylize batches one after the other, in order; a backend may overlap two of them."""
        ...

    def tiling(self) -> TilingBackend | None:
        """Return what stylizes large pictures in tiles; None where a backend or model has no way to."""
        ...

    def close(self) -> None:
        """Free the model's resources; it cannot be called afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class TilingBackend(Protocol):
    """What runs the generator stage by stage over tiles, for pictures that do not fit into memory."""

    def stages(self) -> Sequence[Stage]:
        """Return the stages, in their order."""
        ...

    def open(self, stage: Stage) -> StageRunner:
        """Return what runs a stage on its inputs by name."""
        ...


StageRunner = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""Inputs of a stage by name -> its outputs by name; they may be overwritten by the next call."""


class BackendBase:
    """Default implementation of the protocol's common methods."""

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Call the generator once for each batch."""
        for batch in batches:
            yield cast(StylizeBackend, self)(*batch)

    def tiling(self) -> TilingBackend | None:
        """Return what stylizes large pictures in tiles; None where a backend or model has no way to."""
        return None

    def close(self) -> None:
        """Do nothing: by default there is nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ClosedModel:
    """Stands where the network of a closed model was: every use is a BackendError."""

    def __call__(self, *arguments: object) -> NoReturn:
        raise BackendError("the model was closed while it was still in use; close it after the last frame")

    def __getattr__(self, name: str) -> NoReturn:
        self()


CLOSED: Any = ClosedModel()


class TimedBackend(BackendBase):
    """Generator whose call has three steps, so that each can be timed."""

    manifest: Manifest

    def prepare(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Any:
        """Return the inputs of the runtime, on its device if possible."""
        raise NotImplementedError

    def compute(self, prepared: Any) -> Any:
        """Run the network; return when it is done."""
        raise NotImplementedError

    def finish(self, computed: Any) -> Images:
        """Return the output of the runtime as an array that the caller owns."""
        raise NotImplementedError

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        with enough_memory(frames.shape):
            return self.finish(self.compute(self.prepare(frames, film_params, canvas)))


@contextmanager
def enough_memory(shape: tuple[int, ...]) -> Iterator[None]:
    """Turn what a runtime raises when it cannot allocate into BackendError; ``shape`` is (N, H, W, 3).

    Runtimes share no class for it: Python and NumPy have MemoryError, PyTorch and ONNX Runtime raise
    RuntimeError and classes of their own, OpenVINO passes on what the C++ library says.
    """
    try:
        yield
    except MstError:
        raise
    except Exception as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        count, height, width = shape[:3]
        what = f"a picture of {width}x{height}" if count == 1 else f"{count} pictures of {width}x{height}"
        raise BackendError(
            f"not enough memory to stylize {what}; make it smaller, take fewer at a time, close other "
            "programs, or choose the model lite"
        ) from error


class StyleEncoder(Protocol):
    """Encoder of style images."""

    manifest: Manifest

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        """Encode styles (N, H, W, 3) uint8 -> embeddings (N, d), FiLM vectors (N, P), both float32."""
        ...


class Backend(Protocol):
    """Interface of a backend module."""

    def open_generator(self, bundle: Bundle, device: str, **how: Any) -> StylizeBackend: ...

    def open_style_encoder(self, bundle: Bundle, device: str, **how: str) -> StyleEncoder: ...


def load_backend(name: str) -> Backend:
    """Import the module of a backend. Raises InvalidArgument, or MissingDependency with the fix."""
    spec = find_spec(name)
    try:
        return cast(Backend, import_module(spec.module))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in spec.packages:
            raise
        raise spec.missing(missing) from error


def open_generator(
    bundle: Bundle | Path, backend: str = "onnxrt", device: str = "auto", threads: int | None = None
) -> StylizeBackend:
    """Open the generator of a bundle. Raises BundleError, BackendError or MissingDependency.

    ``device`` auto takes CUDA when this machine can run it and the CPU otherwise; asking for cuda and
    getting less is an error. ``backend`` may end in a precision: openvino:bf16. ``threads`` limits those of
    the processor; None leaves it to the runtime. Raises InvalidArgument for a backend, a precision, a device
    or threads that do not exist or do not go with the backend.
    """
    name, precision = split_precision(backend)
    how: dict[str, Any] = dict(precision)
    if threads is not None:
        if threads < 1:
            raise InvalidArgument(field="threads", problem=f"threads must be 1 or more, got {threads}")
        if not find_spec(name).threads:
            able = ", ".join(spec.name for spec in BACKENDS.values() if spec.threads)
            raise InvalidArgument(
                field="threads",
                problem=f"[option:threads] has no effect on {name}",
                hint=f"it is for {able}",
            )
        how["threads"] = threads
    return load_backend(name).open_generator(_opened(bundle), _usable(name, device), **how)


def open_style_encoder(bundle: Bundle | Path, backend: str = "onnxrt", device: str = "auto") -> StyleEncoder:
    """Open the style encoder of a bundle; arguments and errors as for :func:`open_generator`."""
    name, how = split_precision(backend)
    return load_backend(name).open_style_encoder(_opened(bundle), _usable(name, device), **how)


def model_inputs(
    manifest: Manifest, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None
) -> dict[str, NDArray[Any]]:
    """Return the inputs of a generator's graph by name, contiguous. Raises InvalidArgument, see
    ``check_call``."""
    check_call(manifest, frames, film_params, canvas)
    inputs: dict[str, NDArray[Any]] = {
        "frames": np.ascontiguousarray(frames),
        "film": np.ascontiguousarray(film_params),
    }
    if manifest.canvas_bands:
        if canvas is None:
            height, width = frames.shape[1:3]
            canvas = np.repeat(still_canvas(height, width)[None], len(frames), axis=0)
        inputs["canvas"] = np.ascontiguousarray(canvas)
    return inputs


def check_call(
    manifest: Manifest, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None
) -> None:
    """Raise InvalidArgument, with the shapes found, for arguments that the contract does not allow."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise InvalidArgument(
            field="frames", problem=f"frames must be (N, H, W, 3) uint8, got {frames.shape} {frames.dtype}"
        )
    if film_params.dtype != np.float32 or film_params.shape != (len(frames), manifest.film_size):
        raise InvalidArgument(
            field="films",
            problem=(
                f"films must be ({len(frames)}, {manifest.film_size}) float32, got {film_params.shape} "
                f"{film_params.dtype}"
            ),
        )
    if min(frames.shape[1:3]) < manifest.min_size:
        raise InvalidArgument(
            field="frames",
            problem=(
                f"frames must be at least {manifest.min_size} pixels on each side, got "
                f"{frames.shape[2]}x{frames.shape[1]}"
            ),
        )
    if canvas is None:
        return
    if not manifest.canvas_bands:
        raise InvalidArgument(
            field="canvas",
            problem=f"the model {manifest.name} paints without a canvas",
            hint="leave the canvas out",
        )
    if canvas.dtype != np.uint8 or canvas.shape != (*frames.shape[:3], 1):
        raise InvalidArgument(
            field="canvas",
            problem=(
                f"a canvas must be {(*frames.shape[:3], 1)} uint8 like its frames, got {canvas.shape} "
                f"{canvas.dtype}"
            ),
        )


def _opened(bundle: Bundle | Path) -> Bundle:
    return open_bundle(bundle) if isinstance(bundle, Path) else bundle


def check_device(device: str) -> None:
    """Raise InvalidArgument for a device that does not exist."""
    if device not in DEVICES:
        raise InvalidArgument(
            field="device", problem=f"unknown device {device!r}", hint=f"choose one of {', '.join(DEVICES)}"
        )


def _usable(name: str, device: str) -> str:
    """The device itself if the backend can run on it. Raises InvalidArgument."""
    check_device(device)
    runs_on = find_spec(name).devices
    if device != "auto" and not runs_on:
        raise InvalidArgument(
            field="device",
            problem=f"the server of the backend {name} has a device of its own",
            hint="leave [option:device] out",
        )
    if device != "auto" and device not in runs_on:
        others = [spec.name for spec in BACKENDS.values() if device in spec.devices and not spec.hidden]
        raise InvalidArgument(
            field="device",
            problem=f"the backend {name} runs on {' and '.join(runs_on)} only, not on {device}",
            hint=f"use [option:device] {runs_on[0]}, or [option:backend] {' or '.join(others)}",
        )
    return device
