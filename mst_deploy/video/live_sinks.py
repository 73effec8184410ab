"""The kinds of live sinks: network streams, a file, a window, a virtual camera, MJPEG over HTTP, nothing.

The size of a sink is fixed; frames of another size are scaled to it. Each sink is used by one thread. A new
kind is one class with the members of ``FrameSink`` and one entry of ``LIVE_SINKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from mst_deploy.errors import InvalidArgument
from mst_deploy.video.live_encoding import FILES, PIPE, STREAMS
from mst_deploy.video.live_sink import LiveSinkBase, SinkSettings
from mst_deploy.video.live_source import hidden, scheme_of
from mst_deploy.video.sinks import FrameSink

DISPLAYS, ENCODING = "mst_deploy.video.live_displays", "mst_deploy.video.live_encoding"
KINDS = (
    "window, virtual-camera[:DEVICE], udp:// tcp:// rtmp:// rtsp://, a file (.mp4, .mov, .mkv, .ts), "
    "mjpeg:[HOST:]PORT, - (MPEG-TS to standard output), null"
)


class NullSink(LiveSinkBase):
    """A sink that discards frames."""


@dataclass(frozen=True)
class LiveSinkSpec:
    """One kind of live sink."""

    name: str
    accepts: Callable[[str], bool]
    """Function that returns whether a name given by the user means this kind."""
    opener: str
    """Name of the function in the module: (name, SinkSettings) -> FrameSink."""
    module: str = __name__
    """Name of the module, imported when the kind is used."""


LIVE_SINKS = [
    LiveSinkSpec("null", lambda name: name == "null", "NullSink"),
    LiveSinkSpec("window", lambda name: name == "window", "WindowSink", DISPLAYS),
    LiveSinkSpec(
        "camera", lambda name: name.partition(":")[0] == "virtual-camera", "VirtualCameraSink", DISPLAYS
    ),
    LiveSinkSpec(
        "mjpeg", lambda name: name.partition(":")[0] == "mjpeg", "MjpegSink", "mst_deploy.video.mjpeg"
    ),
    LiveSinkSpec("network", lambda name: scheme_of(name) in STREAMS, "EncodedSink", ENCODING),
    LiveSinkSpec("pipe", lambda name: name == PIPE, "EncodedSink", ENCODING),
    LiveSinkSpec(
        "file", lambda name: not scheme_of(name) and suffix_of(name) in FILES, "EncodedSink", ENCODING
    ),
]
"""Kinds in the order in which they are tried; the first that accepts a name opens it. Names are text: a path
would lose slashes."""


def live_sink_spec(name: str) -> LiveSinkSpec:
    """Return the kind of sink that a name means. Raises InvalidArgument."""
    for spec in LIVE_SINKS:
        if spec.accepts(name):
            return spec
    raise InvalidArgument(f"cannot use {hidden(name)!r} as a sink; known are: {KINDS}")


def open_live_sink(name: str, settings: SinkSettings) -> FrameSink:
    """Open the sink of a name. Raises OutputError, InvalidArgument, MissingDependency."""
    spec = live_sink_spec(name)
    return cast(FrameSink, getattr(import_module(spec.module), spec.opener)(name, settings))


def suffix_of(name: str) -> str:
    """Return the suffix in lower case: ``.mp4`` for ``clips/Out.MP4``."""
    return Path(name).suffix.lower()
