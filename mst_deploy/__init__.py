"""mst: multi-style video rendering.

    import mst_deploy as mst

    with mst.open_model() as model, mst.open_video("in.mp4") as clip:
        frames = mst.stylize(clip, model, "starry-night")
        mst.write_video("out.mp4", frames, clip)

Importing the package loads no framework; the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mst_deploy.api import (
        Model,
        open_model,
        open_video,
        stylize,
        stylize_file,
        stylize_still,
        write_video,
    )
    from mst_deploy.errors import MstError
    from mst_deploy.jobs.video_job import JobOptions
    from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
    from mst_deploy.video.reader import Frame

HOMES = {
    "api": ("Model", "open_model", "open_video", "stylize", "stylize_file", "stylize_still", "write_video"),
    "errors": ("MstError",),
    "jobs.video_job": ("JobOptions",),
    "styles.timeline": ("StrengthKey", "StyleKey", "Timeline"),
    "video.reader": ("Frame",),
}
"""Modules and the names that are reached through the package."""

__all__ = [
    "Frame",
    "JobOptions",
    "Model",
    "MstError",
    "StrengthKey",
    "StyleKey",
    "Timeline",
    "open_model",
    "open_video",
    "stylize",
    "stylize_file",
    "stylize_still",
    "write_video",
]


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"mst_deploy.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
