"""mst (multi-style transfer): render videos and pictures in the style of any painting.

    import mst_deploy as mst

    with mst.Stylizer() as stylizer, mst.open_video("in.mp4") as clip:
        frames = stylizer.frames(clip, "starry-night")
        mst.write_video("out.mp4", frames, clip)

Importing the package loads no framework; the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mst_deploy.errors import (
        BackendError,
        BundleError,
        InputError,
        InvalidArgument,
        MissingDependency,
        MstError,
        OutputError,
    )
    from mst_deploy.jobs.options import RenderOptions
    from mst_deploy.jobs.render_file import RenderResult
    from mst_deploy.live import LiveSession, open_live
    from mst_deploy.model.film import Style
    from mst_deploy.pipeline.events import FramesDone, Note, Started
    from mst_deploy.pipeline.live_options import LiveOptions
    from mst_deploy.size import Size
    from mst_deploy.styles.timeline import StrengthKey, StrokeSizeKey, StrokesKey, StyleKey, Timeline
    from mst_deploy.styles.timeline_yaml import load_timeline
    from mst_deploy.stylizer import Stylizer, open_video, write_video
    from mst_deploy.video.codecs import EncodeOptions
    from mst_deploy.video.info import Frame
    from mst_deploy.video.options import ReadOptions
    from mst_deploy.video.sinks import FrameSink
    from mst_deploy.video.sources import FrameSource
    from mst_deploy.video.time_ranges import TimeRange

_HOMES = {
    "errors": (
        "BackendError",
        "BundleError",
        "InputError",
        "InvalidArgument",
        "MissingDependency",
        "MstError",
        "OutputError",
    ),
    "jobs.options": ("RenderOptions",),
    "jobs.render_file": ("RenderResult",),
    "live": ("LiveSession", "open_live"),
    "model.film": ("Style",),
    "pipeline.events": ("FramesDone", "Note", "Started"),
    "pipeline.live_options": ("LiveOptions",),
    "size": ("Size",),
    "styles.timeline": ("StrengthKey", "StrokeSizeKey", "StrokesKey", "StyleKey", "Timeline"),
    "styles.timeline_yaml": ("load_timeline",),
    "stylizer": ("Stylizer", "open_video", "write_video"),
    "video.codecs": ("EncodeOptions",),
    "video.info": ("Frame",),
    "video.options": ("ReadOptions",),
    "video.sinks": ("FrameSink",),
    "video.sources": ("FrameSource",),
    "video.time_ranges": ("TimeRange",),
}
"""Modules and the public names that are reached through the package."""
_RENAMED = {
    "JobOptions": "RenderOptions",
    "Model": "Stylizer",
    "open_model": "Stylizer",
    "stylize": "Stylizer.frames",
    "stylize_file": "Stylizer.file",
    "stylize_still": "Stylizer.image",
}

__all__ = [
    "BackendError",
    "BundleError",
    "EncodeOptions",
    "Frame",
    "FrameSink",
    "FrameSource",
    "FramesDone",
    "InputError",
    "InvalidArgument",
    "LiveOptions",
    "LiveSession",
    "MissingDependency",
    "MstError",
    "Note",
    "OutputError",
    "ReadOptions",
    "RenderOptions",
    "RenderResult",
    "Size",
    "Started",
    "StrengthKey",
    "StrokeSizeKey",
    "StrokesKey",
    "Style",
    "StyleKey",
    "Stylizer",
    "TimeRange",
    "Timeline",
    "load_timeline",
    "open_live",
    "open_video",
    "write_video",
]


def __getattr__(name: str) -> _Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(_import_module(f"mst_deploy.{module}"), name)
    if name in _RENAMED:
        raise AttributeError(f"{__name__}.{name} is now called {_RENAMED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
