"""The command ``mst image``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.cli.job import (
    BackgroundStyleOption,
    Job,
    MaskOption,
    OptimizeStyleOption,
    OptimizeVggOption,
    PreserveOption,
    SeedOption,
    StrengthsOption,
    StrokeSizeOption,
    StrokesOption,
    StylesOption,
    TimelineOption,
    timeline_of,
)
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SizeOption,
)
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable


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
    background_style: BackgroundStyleOption = None,
    timeline: TimelineOption = None,
    optimize_style: OptimizeStyleOption = False,
    vgg: OptimizeVggOption = None,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize pictures. Results are named IN-STYLE beside the inputs unless -o says otherwise."""
    from mst_deploy.cli.console import print_result, progress
    from mst_deploy.images import IMAGE_SUFFIXES, load_image, resize, save_image
    from mst_deploy.jobs.inputs import expand
    from mst_deploy.size import Size

    timeline_ = timeline_of(
        style, strength, preserve_color, mask, background_style, timeline, strokes, stroke_size, seed
    )
    if timeline_.changes:
        raise InvalidArgument("a picture has no time: give styles, strength and strokes without @TIME")
    wanted = Size.parse(size) if size else Size()
    files = expand(inputs, IMAGE_SUFFIXES)
    targets = [
        require_writable(_target(path, timeline_.label, output, many=len(files) > 1), path, force=force)
        for path in files
    ]
    if len(set(targets)) < len(targets):
        raise InvalidArgument("two inputs would be written to the same file; stylize them one by one")
    gained: dict[str, Any] = {}
    with (
        progress("stylizing", len(files), unit="pictures/s", quiet=quiet or as_json) as tell,
        Job(timeline_, model, backend, device, optimize_style=optimize_style, vgg=vgg) as job,
    ):
        for done, (path, target) in enumerate(zip(files, targets, strict=True), start=1):
            own_plan, gain = job.plan_for(path, tell=partial(tell, done - 1), quiet=quiet or as_json)
            gained |= {str(target): gain["tuned"]} if gain else {}
            picture = load_image(path)
            picture = resize(picture, *wanted.applied(picture.shape[1], picture.shape[0]))
            save_image(target, job.stylizer.image(picture, own_plan))
            tell(done)
    names = [str(target) for target in targets]
    facts = {**job.facts(), **({"tuned": gained} if optimize_style else {})}
    print_result("\n".join(names), {"outputs": names, **facts}, as_json=as_json, quiet=quiet)


def _target(path: Path, label: str, output: Path | None, *, many: bool) -> Path:
    suffix = path.suffix.lower() or ".png"
    if output is None:
        return path.with_name(f"{path.stem}-{label}{suffix}")
    if many and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    return output / f"{path.stem}-{label}{suffix}" if output.is_dir() else output
