"""The command ``mst sheet``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mst_deploy.backends.registry import AUTO
from mst_deploy.cli.image import enough_memory, note_further_frames
from mst_deploy.cli.job import (
    PreserveOption,
    SeedOption,
    StrengthsOption,
    StrokeSizeOption,
    StrokesOption,
    refuse_times,
    tell_choice,
    timeline_of,
)
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
)
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable
from mst_deploy.styles.timeline import StyleKey, Timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mst_deploy.images import Alpha, Image
    from mst_deploy.stylizer import Stylizer


def sheet(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a video for its first frame.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            "-s",
            metavar="STYLE",
            help="An image, a style file, or the name of a shipped style. Repeat it for several. Default: "
            "all shipped styles of the model.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Result file. Default: IN-sheet.jpg beside IN.")
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures in a row. Default: so that the sheet is about 4:3."),
    ] = None,
    size: Annotated[
        int, typer.Option(min=32, max=4096, help="Long side of each picture on the sheet, in pixels.")
    ] = 480,
    strength: StrengthsOption = None,
    strokes: StrokesOption = None,
    stroke_size: StrokeSizeOption = None,
    seed: SeedOption = None,
    preserve_color: PreserveOption = False,
    model: ModelOption = None,
    backend: BackendOption = AUTO,
    precision: PrecisionOption = AUTO,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one picture in all shipped styles, or in those given, on one labeled sheet.

    The picture is stylized at the size that it has on the sheet; the source comes first.
    """
    from mst_deploy.cli.console import print_result
    from mst_deploy.contact_sheet import best_columns, contact_sheet
    from mst_deploy.image_files import MAX_PIXELS, check_writable, limited_pixels, save_image
    from mst_deploy.jobs.inputs import files_read
    from mst_deploy.stylizer import Stylizer

    look = timeline_of(
        [StyleKey("style")], strength, preserve_color, None, None, None, strokes, stroke_size, seed
    )
    refuse_times(look)
    asked = [replace(look, styles=(StyleKey(name),)) for name in style or []]
    target = output or source.with_name(f"{source.stem}-sheet.jpg")
    if target.is_dir():
        target /= f"{source.stem}-sheet.jpg"
    check_writable(target)
    with limited_pixels(max_pixels or MAX_PIXELS), enough_memory(source):
        folder = Path(model) if model else None
        read = [path for timeline in asked or [look] for path in files_read(timeline, folder)]
        require_writable(target, source, force=force, read=read)
        image, transparency = first_picture(source, quiet=quiet)
        picture = scaled(image, size)
        alpha = None if transparency is None else scaled(transparency, size)
        with Stylizer(model, backend=backend, device=device, precision=precision) as stylizer:
            timelines = asked or [replace(look, styles=(key,)) for key in shipped_styles(stylizer)]
            stylized = _stylized(picture, timelines, stylizer, quiet=quiet or as_json)
            tell_choice(stylizer.choice, quiet=quiet)
            facts = {
                "model": stylizer.manifest.name,
                "backend": stylizer.backend_name,
                "device": stylizer.device,
            }
        names = [timeline.label for timeline in timelines]
        chosen = columns or best_columns(len(names) + 1, picture.shape[1], picture.shape[0])
        cells = [on_white(each, alpha) for each in (picture, *stylized)]
        made = contact_sheet(cells, ["source", *names], chosen)
        save_image(target, made)
    height, width = made.shape[:2]
    values = {
        "output": str(target),
        "styles": names,
        "columns": min(chosen, len(names) + 1),
        "width": width,
        "height": height,
        "strength": look.strength[0].strength,
        **facts,
    }
    print_result(f"{target}  {len(names)} styles, {width}x{height}", values, as_json=as_json, quiet=quiet)


def shipped_styles(stylizer: Stylizer) -> list[StyleKey]:
    """All ready-made styles of the model. Raises InvalidArgument for a model without any."""
    found = [StyleKey(style.name) for style in stylizer.styles()]
    if not found:
        raise InvalidArgument(
            field="style",
            problem=f"the model {stylizer.manifest.name} has no shipped styles to show",
            hint="name pictures or style files with [option:style]",
        )
    return found


def _stylized(picture: Image, timelines: list[Timeline], stylizer: Stylizer, *, quiet: bool) -> list[Image]:
    """The picture in each of the styles; all of them are read first."""
    from mst_deploy.cli.console import progress

    plans = [stylizer.plan(timeline) for timeline in timelines]
    made = []
    with progress("stylizing", len(plans), unit="pictures/s", quiet=quiet) as tell:
        for done, plan in enumerate(plans, start=1):
            made.append(stylizer.image(picture, plan))
            tell(done)
    return made


def first_picture(source: Path, *, quiet: bool) -> tuple[Image, Alpha | None]:
    """A picture file, or the first frame of a video: (H, W, 3) uint8 RGB, and its alpha (H, W) if it has any.

    Raises InputError.
    """
    from mst_deploy.image_files import IMAGE_SUFFIXES, load_picture, probe_picture
    from mst_deploy.jobs.inputs import VIDEO_SUFFIXES
    from mst_deploy.stylizer import open_video

    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES and suffix not in IMAGE_SUFFIXES:
        with open_video(source) as video:
            first = next(iter(video))
        return first.image, first.alpha
    note_further_frames(source, probe_picture(source), quiet=quiet)
    picture = load_picture(source)
    return picture.image, picture.alpha


def on_white(image: Image, alpha: Alpha | None) -> Image:
    """(H, W, 3) as it looks on white paper, with the transparency (H, W)."""
    import numpy as np

    from mst_deploy.images import masked

    return image if alpha is None else masked(image, np.full_like(image, 255), alpha)


def scaled(image: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Resample (H, W, ...) so that the longer side has ``long_side`` pixels; the shape is kept."""
    from mst_deploy.images import resize

    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    return resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
