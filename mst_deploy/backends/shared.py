"""A backend that threads share; with ``auto``, tiles of ONNX Runtime for pictures too large for a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from mst_deploy.backends.base import (
    BackendBase,
    Batch,
    FilmBatch,
    Images,
    StylizeBackend,
    TilingBackend,
    open_generator,
)
from mst_deploy.backends.choice import Choice
from mst_deploy.backends.registry import find_spec
from mst_deploy.environment import version
from mst_deploy.errors import BackendError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas


def open_shared(bundle: Bundle, choice: Choice, threads: int | None = None) -> SharedBackend:
    """Open the backend of a choice for several threads; ``threads`` limits those that it computes with.

    Raises as ``open_generator`` does.

    A backend on the CPU that was not named, and cannot stylize in tiles, leaves pictures too large for a call
    to ONNX Runtime.
    """
    generator = open_generator(bundle, choice.backend, choice.device, threads)

    def open_tiles() -> TilingBackend | None:
        with open_generator(bundle, "onnxrt", "cpu") as onnxrt:
            return onnxrt.tiling()

    leaves_tiles = not choice.named and generator.device == "cpu"
    return SharedBackend(generator, full_name(choice.backend), open_tiles if leaves_tiles else None)


def full_name(backend: str) -> str:
    """Return a backend, NAME or NAME:PRECISION, with versions of its packages: others give other bytes."""
    packages = find_spec(backend.partition(":")[0]).packages
    found = [(name, version(name)) for distributions in packages.values() for name in distributions]
    return ", ".join([backend, *(f"{name} {number}" for name, number in found if number)])


class SharedBackend:
    """A backend that several threads may use: one call at a time.

    A backend whose ``stream`` overlaps two batches (TensorRT) is taken for a whole stream; other threads
    wait.
    """

    def __init__(
        self,
        backend: StylizeBackend,
        name: str = "",
        tiles: Callable[[], TilingBackend | None] | None = None,
    ) -> None:
        """``name`` differs between backends that give other bytes; ``tiles`` opens what stylizes large
        pictures where the backend itself has no way to."""
        self.backend, self.manifest, self.device = backend, backend.manifest, backend.device
        self.name = name or type(backend).__name__
        self._tiles = tiles
        self._lock = threading.RLock()
        self._streaming = False

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        with self._lock:
            if self._streaming:  # by this very thread, or the lock would not be free
                raise BackendError(
                    "the model is in the middle of a video; close its iterator of frames before using the "
                    "session for something else in the same thread, or open a second Stylizer"
                )
            return self.backend(frames, film_params, canvas)

    def tiling(self) -> TilingBackend | None:
        """Return the backend that stylizes large pictures in tiles, with sessions of its own; None if there
        is none."""
        return self.backend.tiling() or (self._tiles() if self._tiles else None)

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Yield the stylized batches in order."""
        if getattr(type(self.backend), "stream", None) is BackendBase.stream:
            for batch in batches:
                yield self(*batch)
            return
        with self._lock:
            self._streaming = True
            try:
                yield from self.backend.stream(batches)
            finally:
                self._streaming = False

    def close(self) -> None:
        with self._lock:
            self.backend.close()

    def __enter__(self) -> Self:
        self.backend.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.backend.__exit__(*error)
