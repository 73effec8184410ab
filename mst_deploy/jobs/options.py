"""Options of a rendering from file to file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from mst_deploy.options import INPUT_OUTPUT, MODEL, VIDEO, Option
from mst_deploy.size import Size
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.options import ReadOptions

ResultSize = Annotated[
    Size,
    Option(
        "Result size: WIDTHxHEIGHT, or one number for the short side. Default: as the input.",
        INPUT_OUTPUT,
        parse=Size.parse,
    ),
]


@dataclass(frozen=True)
class RenderOptions:
    """Options of a rendering, apart from its style."""

    read: ReadOptions = field(default_factory=ReadOptions)
    size: ResultSize = field(default_factory=Size)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    batch: Annotated[int, Option("Frames in one call of the model, for GPUs.", MODEL, minimum=1)] = 1
    deflicker: Annotated[
        bool,
        Option(
            "Less flicker: average each stylized frame with up to four before it, moved along with the "
            "picture. Where much moves, strokes get a little softer.",
            VIDEO,
        ),
    ] = False
    """See :mod:`video.deflicker`."""
    part_frames: int = 120
    """Frames of one segment of the result: a crash loses at most these."""
    resume: Annotated[bool, Option("Go on with what a crash or Ctrl-C left unfinished.", INPUT_OUTPUT)] = (
        False
    )
    """Resume an unfinished job beside the output, if there is one."""
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False
    """Discard an unfinished job instead of refusing to start."""
