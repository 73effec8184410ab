"""Options of live video."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from mst_deploy.errors import InvalidArgument
from mst_deploy.options import INPUT_OUTPUT, Option


@dataclass(frozen=True)
class LiveOptions:
    """Options of live video."""

    fps: Annotated[
        float | None,
        Option(
            "Frames per second to keep: the stylized picture gets smaller where the machine is too slow, and "
            "larger again, at most once in 5 s.",
            INPUT_OUTPUT,
        ),
    ] = None
    """Frames per second to hold with a smaller picture; it excludes ``size``."""
    size: Annotated[
        str | None,
        Option("Size to stylize at: WIDTHxHEIGHT, or the short side. Default: as the source.", INPUT_OUTPUT),
    ] = None
    """Size to stylize at: ``WIDTHxHEIGHT`` or the short side; None for that of the source."""
    min_size: Annotated[
        int, Option("Short side in pixels that [option:fps] does not go below.", INPUT_OUTPUT, minimum=2)
    ] = 180
    """Short side in pixels below which the picture is not made to hold ``fps``."""
    sink_size: Annotated[
        str | None,
        Option(
            "Size of what sinks get, as [option:size]. Default: the size that is stylized at.", INPUT_OUTPUT
        ),
    ] = None
    """Size of what sinks get, written as ``size``; None for the size to stylize at."""
    max_fps: Annotated[
        float | None,
        Option("Drop pictures above so many a second, as soon as they come.", INPUT_OUTPUT),
    ] = None
    """Frames per second above which pictures are dropped as soon as they come."""
    similar: Annotated[
        float,
        Option(
            "Show the last painted picture again where the next one differs from its source by less than so "
            "many levels of 255, on average. 0 paints all.",
            INPUT_OUTPUT,
        ),
    ] = 0.0
    """Mean absolute difference to the picture painted last, in levels of 0 to 255, below which that is shown
    again; 0 paints all."""
    loop: Annotated[bool, Option("Begin a file again at its end.", INPUT_OUTPUT)] = False
    """Whether a file begins again at its end."""
    retry: Annotated[
        float,
        Option("Seconds to wait for a source that is gone, until giving up.", INPUT_OUTPUT, minimum=0),
    ] = 30.0
    """Seconds to wait for a source that is gone."""
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False
    """Whether to overwrite existing files."""
    audio: Annotated[
        bool, Option("Send the sound of the source, in step with the pictures.", INPUT_OUTPUT)
    ] = True
    """Whether sinks that can take sound get that of the source."""

    def __post_init__(self) -> None:
        if self.fps is not None and self.size is not None:
            raise InvalidArgument(
                field="fps",
                problem="[option:fps] chooses the size and [option:size] fixes it",
                hint="leave out one of them",
            )
        if self.max_fps is not None and not (math.isfinite(self.max_fps) and self.max_fps > 0):
            raise InvalidArgument(
                field="max_fps", problem=f"[option:max_fps] must be above 0, got {self.max_fps:g}"
            )
        if not (math.isfinite(self.similar) and 0 <= self.similar <= 255):
            raise InvalidArgument(
                field="similar", problem=f"[option:similar] is a level from 0 to 255, got {self.similar:g}"
            )
