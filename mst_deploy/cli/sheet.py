"""The command ``mst sheet``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli.image import enough_memory, note_further_frames
from mst_deploy.cli.job import refuse_times, report_choice
from mst_deploy.cli.options import LimitOptions, MessageOptions
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable
from mst_deploy.options import INPUT_OUTPUT, STYLE, Option
from mst_deploy.styles.options import StrengthOptions
from mst_deploy.styles.timeline import StyleKey, Timeline

if TYPE_CHECKING:
    from mst_deploy.images import Alpha, Image
    from mst_deploy.stylizer import Stylizer


@dataclass(frozen=True)
class SheetOptions:
    """A picture, the styles to show it in, and the sheet."""

    source: Annotated[
        Path, Option("A picture, or a video for its first frame.", metavar="IN", positional=True)
    ]
    style: Annotated[
        tuple[str, ...],
        Option(
            "An image, a style file, or the name of a shipped style. Repeat it for several. Default: all "
            "shipped styles of the model.",
            STYLE,
            metavar="STYLE",
            letter="s",
        ),
    ] = ()
    output: Annotated[Path | None, Option("Result file. Default: IN-sheet.jpg beside IN.", INPUT_OUTPUT)] = (
        None
    )
    columns: Annotated[
        int | None,
        Option("Pictures in a row. Default: so that the sheet is about 4:3.", INPUT_OUTPUT, minimum=1),
    ] = None
    size: Annotated[
        int,
        Option("Long side of each picture on the sheet, in pixels.", INPUT_OUTPUT, minimum=32, maximum=4096),
    ] = 480
    limits: LimitOptions = field(default_factory=LimitOptions)
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False


def sheet(
    options: SheetOptions, strength: StrengthOptions, model: GeneratorOptions, messages: MessageOptions
) -> None:
    """Show one picture in all shipped styles, or in those given, on one labeled sheet.

    The picture is stylized at the size that it has on the sheet; the source comes first.
    """
    from mst_deploy.cli.console import print_result
    from mst_deploy.contact_sheet import best_columns, contact_sheet
    from mst_deploy.images import on_white, resize_long_side
    from mst_deploy.images.files import check_writable, save_image
    from mst_deploy.jobs.inputs import files_read
    from mst_deploy.stylizer import Stylizer

    source, size = options.source, options.size
    look = strength.timeline((StyleKey("style"),))
    refuse_times(look)
    asked = [replace(look, styles=(StyleKey(name),)) for name in options.style]
    target = options.output or source.with_name(f"{source.stem}-sheet.jpg")
    if target.is_dir():
        target /= f"{source.stem}-sheet.jpg"
    check_writable(target)
    with options.limits.applied(), enough_memory(source):
        read = [path for timeline in asked or [look] for path in files_read(timeline, model.folder)]
        require_writable(target, source, force=options.force, read=read)
        image, transparency = first_picture(source, quiet=messages.quiet)
        picture = resize_long_side(image, size)
        alpha = None if transparency is None else resize_long_side(transparency, size)
        with Stylizer(
            model.model, backend=model.backend, device=model.device, precision=model.precision
        ) as stylizer:
            timelines = asked or [replace(look, styles=(key,)) for key in shipped_styles(stylizer)]
            stylized = _stylized(picture, timelines, stylizer, quiet=messages.silent)
            report_choice(stylizer.choice, quiet=messages.quiet)
            facts = {
                "model": stylizer.manifest.name,
                "backend": stylizer.backend_name,
                "device": stylizer.device,
            }
        names = [timeline.label for timeline in timelines]
        chosen = options.columns or best_columns(len(names) + 1, picture.shape[1], picture.shape[0])
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
    text = f"{target}  {len(names)} styles, {width}x{height}"
    print_result(text, values, as_json=messages.as_json, quiet=messages.quiet)


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
    with progress("stylizing", len(plans), unit="pictures/s", quiet=quiet) as on_progress:
        for done, plan in enumerate(plans, start=1):
            made.append(stylizer.image(picture, plan))
            on_progress(done)
    return made


def first_picture(source: Path, *, quiet: bool) -> tuple[Image, Alpha | None]:
    """A picture file, or the first frame of a video: (H, W, 3) uint8 RGB, and its alpha (H, W) if it has any.

    Raises InputError.
    """
    from mst_deploy.images.files import IMAGE_SUFFIXES, load_picture, probe_picture
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
