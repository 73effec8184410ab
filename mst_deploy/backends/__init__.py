"""Runtimes behind one contract (``base``), and the list of them (``registry``).

The names below are loaded when they are first used: the list alone must load no array library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mst_deploy.backends.base import (
        Backend,
        BackendBase,
        Batch,
        FilmBatch,
        Images,
        StageRunner,
        StyleEncoder,
        StylizeBackend,
        TilingBackend,
        TimedBackend,
        check_call,
        enough_memory,
        load_backend,
        model_inputs,
        open_generator,
        open_style_encoder,
    )

__all__ = [
    "Backend",
    "BackendBase",
    "Batch",
    "FilmBatch",
    "Images",
    "StageRunner",
    "StyleEncoder",
    "StylizeBackend",
    "TilingBackend",
    "TimedBackend",
    "check_call",
    "enough_memory",
    "load_backend",
    "model_inputs",
    "open_generator",
    "open_style_encoder",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("mst_deploy.backends.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
