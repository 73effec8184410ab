"""The commands ``mst eval ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.cli.errors import worded
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    StrengthOption,
    VggOption,
    requires,
    terminal,
)
from mst_deploy.errors import InvalidArgument

eval_app = typer.Typer(
    help="Measure how good results are: any system's, a model's, a video's.", no_args_is_help=True
)

SetContentOption = Annotated[
    list[Path], typer.Option(help="Photographs: folder, tar file or list (.txt); may be repeated.")
]
SetStyleOption = Annotated[
    list[Path], typer.Option(help="Artworks: folder, tar file or list (.txt); may be repeated.")
]
HeldOutOption = Annotated[
    Path | None, typer.Option(help="Text file of SHA-256 hashes: only these pictures are used.")
]
PairsPerStyleOption = Annotated[int, typer.Option(min=1, help="Photographs for every artwork.")]
MaxPairsOption = Annotated[
    int | None, typer.Option(min=1, help="Use no more than this many pairs, evenly spread over all.")
]
SideOption = Annotated[int, typer.Option(min=76, help="Side of the square pictures, pixels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")]
MetricsOption = Annotated[
    str | None,
    typer.Option("--metrics", help="Comma-separated; default: all that the weights at hand allow."),
]
VggScalesOption = Annotated[
    Path | None, typer.Option(help="Factors that normalize VGG-19. Default: not normalized.")
]
InceptionOption = Annotated[
    Path | None, typer.Option(help="FID's Inception (2015-12-05): measure fid768 and the style by Inception.")
]
LpipsOption = Annotated[bool, typer.Option("--lpips", help="Measure LPIPS; fetches AlexNet once (233 MB).")]
AlexnetOption = Annotated[Path | None, typer.Option(help="torchvision's AlexNet, for LPIPS.")]
ArtInceptionOption = Annotated[
    Path | None, typer.Option(help="art_inception.pth of ArtFID's authors: measure ArtFID.")
]
ModeOption = Annotated[
    str, typer.Option("--artfid-mode", help="art_fid, or art_fid_inf (extrapolated; 5,000 pairs at least).")
]
BatchOption = Annotated[int, typer.Option(min=1, help="Results measured at once, for GPUs.")]


@eval_app.command("images")
def eval_images(
    content: Annotated[Path, typer.Option(help="Folder of the photographs.")],
    style: Annotated[Path, typer.Option(help="Folder of the artworks.")],
    stylized: Annotated[Path, typer.Option(help="Folder of the results.")],
    output: OutputOption,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns content,style,stylized. Default: in order of names."),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the system. Default: the results' folder.")] = "",
    metrics: MetricsOption = None,
    vgg: VggOption = None,
    vgg_scales: VggScalesOption = None,
    inception: InceptionOption = None,
    lpips: LpipsOption = False,
    alexnet: AlexnetOption = None,
    art_inception: ArtInceptionOption = None,
    artfid_mode: ModeOption = "art_fid",
    batch: BatchOption = 1,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure existing results of any system."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    how = command.measuring(
        metrics,
        vgg,
        vgg_scales,
        inception,
        lpips,
        alexnet,
        art_inception,
        artfid_mode,
        batch,
        device,
        terminal(quiet=quiet or as_json),
    )
    _print_report(
        command.evaluate_images(content, style, stylized, pairs, output, how, name), output, as_json, quiet
    )


@eval_app.command("model")
def eval_model(
    content: SetContentOption,
    style: SetStyleOption,
    output: OutputOption,
    model: ModelArgument = None,
    held_out: HeldOutOption = None,
    pairs_per_style: PairsPerStyleOption = 2,
    max_pairs: MaxPairsOption = None,
    size: SideOption = 512,
    strength: StrengthOption = 1.0,
    optimize_style: Annotated[
        Path | None,
        typer.Option(
            help="Optimize each style for each photograph (see mst style optimize); folder to keep the FiLM "
            "vectors in."
        ),
    ] = None,
    tune_once: Annotated[
        bool,
        typer.Option(
            "--optimize-once", help="With --optimize-style: each style once, for the shipped photographs."
        ),
    ] = False,
    backend: BackendOption = "onnxrt",
    metrics: MetricsOption = None,
    vgg: VggOption = None,
    vgg_scales: VggScalesOption = None,
    inception: InceptionOption = None,
    lpips: LpipsOption = False,
    alexnet: AlexnetOption = None,
    art_inception: ArtInceptionOption = None,
    artfid_mode: ModeOption = "art_fid",
    batch: BatchOption = 1,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize photographs with a model, then measure the results. A stopped run is resumed."""
    from mst_deploy.model.zoo import resolve_model

    if tune_once and optimize_style is None:
        raise InvalidArgument(
            "--optimize-once says how to tune; give --optimize-style and a folder for the rows too"
        )

    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    how = command.measuring(
        metrics,
        vgg,
        vgg_scales,
        inception,
        lpips,
        alexnet,
        art_inception,
        artfid_mode,
        batch,
        device,
        terminal(quiet=quiet or as_json),
    )
    wanted = command.Targets(content, style, held_out, pairs_per_style, size, max_pairs)
    found = command.evaluate_model(
        resolve_model(model),
        wanted,
        output,
        how,
        strength=strength,
        backend=backend,
        optimize_style=optimize_style,
        once=tune_once,
    )
    _print_report(found, output, as_json, quiet)


@eval_app.command("identity")
def eval_identity(
    content: SetContentOption,
    style: SetStyleOption,
    output: OutputOption,
    held_out: HeldOutOption = None,
    pairs_per_style: PairsPerStyleOption = 2,
    max_pairs: MaxPairsOption = None,
    size: SideOption = 512,
    vgg: VggOption = None,
    vgg_scales: VggScalesOption = None,
    inception: InceptionOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the photographs themselves as if they were results: the baseline without any style."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    how = command.measuring(
        None, vgg, vgg_scales, inception, device=device, reporter=terminal(quiet=quiet or as_json)
    )
    wanted = command.Targets(content, style, held_out, pairs_per_style, size, max_pairs)
    _print_report(command.evaluate_identity(wanted, output, how), output, as_json, quiet)


@eval_app.command("optimum")
def eval_optimum(
    content: SetContentOption,
    style: SetStyleOption,
    output: OutputOption,
    held_out: HeldOutOption = None,
    pairs_per_style: PairsPerStyleOption = 2,
    max_pairs: MaxPairsOption = None,
    size: SideOption = 256,
    style_weight: Annotated[float, typer.Option(min=0.0, help="Weight of style against content.")] = 5.0,
    steps: Annotated[int, typer.Option(min=1, help="L-BFGS steps for every picture.")] = 200,
    vgg: VggOption = None,
    vgg_scales: VggScalesOption = None,
    inception: InceptionOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Optimize every picture on the measured distances themselves (slow), then measure: the upper bound."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    how = command.measuring(
        None, vgg, vgg_scales, inception, device=device, reporter=terminal(quiet=quiet or as_json)
    )
    wanted = command.Targets(content, style, held_out, pairs_per_style, size, max_pairs)
    found = command.evaluate_optimum(wanted, output, how, style_weight=style_weight, steps=steps)
    _print_report(found, output, as_json, quiet)


@eval_app.command("video")
def eval_video(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The clip that was stylized.")],
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What became of it, as many frames.")],
    gaps: Annotated[
        str, typer.Option("--gaps", help="Frames between the compared ones, comma-separated.")
    ] = "1,5",
    flow: Annotated[
        str, typer.Option(help="dis or farneback (estimated), or a folder of .flo files (given).")
    ] = "dis",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSON file with every frame's figure.")
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure flicker: the warping error of a result, beside that of its source."""
    from mst_deploy.cli.console import print_result
    from mst_deploy.errors import InvalidArgument

    try:
        wanted = [int(gap) for gap in gaps.split(",")]
    except ValueError:
        raise InvalidArgument(f"cannot use {gaps!r} as gaps: give whole numbers, such as 1,5") from None
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    found = command.evaluate_video(source, result, wanted, flow, output, terminal(quiet=quiet or as_json))
    lines = [
        f"gap {gap}: result {figures['result']:.4g}, source {figures['source']:.4g}, "
        f"{100 * figures['visible']:.0f} % of the pixels compared"
        for gap, figures in found["gaps"].items()
    ]
    print_result("\n".join(lines), found, as_json=as_json, quiet=quiet)


@eval_app.command("compare")
def eval_compare(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Folders or report.json files.")],
    group: Annotated[
        str | None, typer.Option("--by-group", help="Also show this figure by group (movement).")
    ] = None,
) -> None:
    """Make one table of several reports, if they can be compared."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    print(command.compare(reports, group))


@eval_app.command("sheet")
def eval_sheet(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FORM]...", help="Further forms for --answers.")
    ] = None,
    content: Annotated[Path | None, typer.Option(help="Folder of the photographs.")] = None,
    style: Annotated[Path | None, typer.Option(help="Folder of the artworks.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns content,style,stylized. Default: in order of names."),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of results or of a model, or base or lite; two at least."),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Compare each with each. Default: the first with every other.")
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the sheets.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="File that tells which is which. Default: OUTPUT-key.json.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Order of the sheets, and which is A.")] = 0,
    size: Annotated[int, typer.Option(min=256, help="Longer side of a result, pixels at least.")] = 640,
    answers: Annotated[
        list[Path] | None, typer.Option(help="Filled form: count the votes; may be repeated.")
    ] = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a blind comparison for people: sheets without names and a form; with --answers and --key count the
    votes."""
    from mst_deploy.cli.console import print_result

    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    if answers:
        if key is None:
            raise InvalidArgument("votes need the key that was written with the sheets; give it with --key")
        text, votes = command.count_answers([*answers, *(more or [])], key)
        print_result(text, votes, as_json=as_json, quiet=quiet)
        return
    if more:
        raise InvalidArgument(f"cannot use {more[0]}: forms are given with --answers")
    if content is None or style is None or output is None:
        raise InvalidArgument("sheets need --content, --style, --system (twice) and -o; votes need --answers")
    made = command.make_sheets(
        system or [],
        command.Shown(content, style, pairs, seed, size, each),
        output,
        key,
        command.Running(backend, device, terminal(quiet=quiet or as_json)),
    )
    text = (
        f"{made['sheets']} sheets in {made['folder']}, form {made['form']}; keep the key apart: {made['key']}"
    )
    print_result(text, made, as_json=as_json, quiet=quiet)


def _print_report(found: dict[str, Any], output: Path, as_json: bool, quiet: bool) -> None:
    from mst_deploy.cli.console import print_result

    summary = found["summary"]
    means = [f"{name} {value['mean']:.4g}" for name, value in summary["means"].items()]
    means += [f"{name} {value:.4g}" for name, value in summary["whole_set"].items()]
    sizes = ", ".join(summary["sizes"])
    lines = [f"{found['system']}: {summary['pairs']} pairs of {sizes}: {', '.join(means)}"]
    lines += [f"not measured: {worded(note)}" for note in found["missing"]]
    lines.append(f"{output / 'report.html'}")
    print_result("\n".join(lines), found, as_json=as_json, quiet=quiet)
