"""The command ``mst image``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.cli.job import (
    Job,
    MaskOption,
    OutsideOption,
    PreserveOption,
    SeedOption,
    StrengthsOption,
    StrokeSizeOption,
    StrokesOption,
    StylesOption,
    TimelineOption,
    TuneOption,
    TuneVggOption,
    timeline_of,
)
from mst_deploy.errors import InvalidArgument
from mst_deploy.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SizeOption,
    free_to_write,
)


def image(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="Pictures, folders or patterns ('*.jpg').")
    ],
    style: StylesOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Result file; for several inputs, an existing folder."),
    ] = None,
    size: SizeOption = None,
    strength: StrengthsOption = None,
    strokes: StrokesOption = None,
    stroke_size: StrokeSizeOption = None,
    seed: SeedOption = None,
    preserve_color: PreserveOption = False,
    mask: MaskOption = None,
    outside: OutsideOption = None,
    timeline: TimelineOption = None,
    tune: TuneOption = False,
    vgg: TuneVggOption = None,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylise pictures. Results are named IN-STYLE beside the inputs unless -o says otherwise."""
    from mst_deploy.console import answer, progress
    from mst_deploy.images import IMAGE_SUFFIXES, load_image, resize, save_image
    from mst_deploy.jobs.inputs import expand
    from mst_deploy.looks.masks import open_mask
    from mst_deploy.pipeline import Size, stylize_picture

    looks = timeline_of(style, strength, preserve_color, mask, outside, timeline, strokes, stroke_size, seed)
    if looks.changes:
        raise InvalidArgument("a picture has no time: give styles, strength and strokes without @TIME")
    wanted = Size.parse(size) if size else Size()
    files = expand(inputs, IMAGE_SUFFIXES)
    targets = [
        free_to_write(_target(path, looks.label, output, many=len(files) > 1), path, force=force)
        for path in files
    ]
    if len(set(targets)) < len(targets):
        raise InvalidArgument("two inputs would be written to the same file; stylise them one by one")
    gained: dict[str, Any] = {}
    with (
        progress("stylising", len(files), unit="pictures/s", quiet=quiet or as_json) as tell,
        open_mask(looks.mask) as where,
        Job(looks, model, backend, device, tune=tune, vgg=vgg) as job,
    ):
        for done, (path, target) in enumerate(zip(files, targets, strict=True), start=1):
            own_looks, gain = job.looks_for(path, tell=partial(tell, done - 1), quiet=quiet or as_json)
            gained |= {str(target): gain["tuned"]} if gain else {}
            picture = load_image(path)
            picture = resize(picture, *wanted.applied(picture.shape[1], picture.shape[0]))
            save_image(target, stylize_picture(picture, job.generator, own_looks, where))
            tell(done)
    names = [str(target) for target in targets]
    facts = {**job.facts(), **({"tuned": gained} if tune else {})}
    answer("\n".join(names), {"outputs": names, **facts}, as_json=as_json, quiet=quiet)


def _target(path: Path, label: str, output: Path | None, *, many: bool) -> Path:
    suffix = path.suffix.lower() or ".png"
    if output is None:
        return path.with_name(f"{path.stem}-{label}{suffix}")
    if many and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    return output / f"{path.stem}-{label}{suffix}" if output.is_dir() else output
