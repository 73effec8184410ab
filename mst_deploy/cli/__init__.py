"""The command line: ``mst``. Commands parse, call the library, print; nothing heavy is imported here.

Exit codes: 0 done; 1 an error, told in one line on stderr; 2 a wrong option or argument;
130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mst_deploy import __version__
from mst_deploy.cli.bench import bench_app
from mst_deploy.cli.engines import build, engines_app
from mst_deploy.cli.eval import eval_app
from mst_deploy.cli.image import image
from mst_deploy.cli.train import train_app
from mst_deploy.cli.video import video
from mst_deploy.errors import InvalidArgument, MstError, error_line
from mst_deploy.options import (
    MODEL_HELP,
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    free_to_write,
    room,
)

app = typer.Typer(
    name="mst",
    help="Render videos and pictures in the style of any painting.",
    epilog="Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
style_app = typer.Typer(help="Make reusable style files; list the shipped ones.", no_args_is_help=True)
app.add_typer(style_app, name="style")
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(engines_app, name="engines")
app.command("image")(image)
app.command("video")(video)
app.add_typer(bench_app, name="bench")
app.command("build")(build)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"mst {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Render videos and pictures in the style of any painting."""


@style_app.command("make")
def style_make(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of the style.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Style file to write (.safetensors); one image only."),
    ] = None,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read the style off pictures once; the small files work wherever --style does."""
    from mst_deploy.backends import open_style_encoder
    from mst_deploy.console import answer, progress
    from mst_deploy.film import STYLE_SUFFIX, save_style
    from mst_deploy.manifest import open_bundle
    from mst_deploy.shipped import find_bundle
    from mst_deploy.styling import make_style

    if output and len(images) > 1:
        raise InvalidArgument(f"-o names one file, but there are {len(images)} images; leave it out")
    if output and output.suffix != STYLE_SUFFIX:
        raise InvalidArgument(f"a style file ends in {STYLE_SUFFIX}, not {output.suffix!r}")
    targets = [free_to_write(output or path.with_suffix(STYLE_SUFFIX), path, force=force) for path in images]
    with progress("reading styles", len(images), unit="styles/s", quiet=quiet or as_json) as tell:
        encoder = open_style_encoder(open_bundle(find_bundle(model)), backend, device)
        for done, (path, target) in enumerate(zip(images, targets, strict=True), start=1):
            save_style(target, make_style(encoder, path, name=target.stem))
            tell(done)
    names = [str(target) for target in targets]
    answer("\n".join(names), {"outputs": names}, as_json=as_json, quiet=quiet)


@style_app.command("list")
def style_list(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """List the styles shipped for a model with artist, title and year."""
    from mst_deploy.console import answer
    from mst_deploy.manifest import read_manifest
    from mst_deploy.shipped import find_bundle, styles_for

    styles = styles_for(read_manifest(find_bundle(model)).model_id).values()
    width = max((len(style.name) for style in styles), default=0)
    lines = [
        f"{style.name:{width}}  {style.credit.get('artist', '')}: {style.credit.get('title', '')}"
        f" ({style.credit.get('year', '')})"
        for style in styles
    ]
    answer(
        "\n".join(lines) or "no styles are shipped for this model; make your own with mst style make --model",
        {"styles": [{"name": style.name, **style.credit} for style in styles]},
        as_json=as_json,
    )


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine can run, and the exact line that installs what is missing."""
    from mst_deploy.console import answer
    from mst_deploy.doctor import examine, report

    findings = examine()
    answer(report(findings), findings, as_json=as_json)


@app.command()
def export(
    source: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help=f"Checkpoint (.safetensors) or model. {MODEL_HELP}"),
    ] = None,
    precision: Annotated[str, typer.Option(help="Type of the convolutions: fp16, fp32 or bf16.")] = "fp16",
    opset: Annotated[
        int, typer.Option(help="ONNX operator set: 20, or 17 for parsers such as TensorRT 8.6's.")
    ] = 20,
    engine: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Also build a TensorRT engine for frames of this size."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Bundle folder to write. Default: NAME-PRECISION here."),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as two ONNX graphs with a manifest, verified against PyTorch."""
    target = room("export").export(
        source, precision, output, opset=opset, force=force, quiet=quiet, as_json=as_json
    )
    if engine is not None:
        build(str(target.absolute()), size=engine, quiet=quiet, as_json=as_json)


def main() -> None:
    """Entry point: errors meant for people become one line and exit code 1."""
    try:
        app()
    except MstError as error:
        print(f"mst: {error_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None
