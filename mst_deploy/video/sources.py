"""Sources of frames: their protocol and their kinds.

A new kind is one module with a class that has the members of ``FrameSource``, and one entry of ``SOURCES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, Self, cast

from mst_deploy.errors import InputError
from mst_deploy.video.demuxing import is_pattern, is_pipe
from mst_deploy.video.info import Frame, VideoInfo
from mst_deploy.video.options import ReadOptions


class FrameSource(Protocol):
    """Frames in display order, to be read once. A context manager.

    Frames are upright, (H, W, 3) uint8 RGB; their times are in units of ``info.time_base``. Iterating raises
    InputError where the source cannot be read further.
    """

    @property
    def info(self) -> VideoInfo:
        """Return size, rate, colors and times, available before the first frame."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Describe the damage of the source so far, for people."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True)
class SourceSpec:
    """One kind of source."""

    name: str
    accepts: Callable[[Path], bool]
    """Function that returns whether a name given by the user means this kind."""
    module: str
    """Name of the module, imported when the kind is used."""
    opener: str
    """Name of the function in the module: (path, ReadOptions) -> FrameSource."""


SOURCES = [
    SourceSpec("pipe", is_pipe, "mst_deploy.video.reader", "VideoReader"),
    SourceSpec("numbered pictures", is_pattern, "mst_deploy.video.reader", "VideoReader"),
    SourceSpec("file", lambda path: True, "mst_deploy.video.reader", "VideoReader"),
]
"""Kinds in the order in which they are tried; the first that accepts a name opens it."""


def open_source(path: Path, options: ReadOptions | None = None) -> FrameSource:
    """Open the source of a name. Raises InputError, and MissingDependency for a kind that needs a package."""
    for spec in SOURCES:
        if spec.accepts(path):
            opener = getattr(import_module(spec.module), spec.opener)
            return cast(FrameSource, opener(path, options or ReadOptions()))
    raise InputError(f"nothing here can read {path}; known are: {', '.join(spec.name for spec in SOURCES)}")
