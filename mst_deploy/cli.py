"""The command line: ``mst``. Commands parse, call the library, print; nothing heavy is imported here.

Exit codes: 0 done; 1 an error, told in one line on stderr; 2 a wrong option or argument;
130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy import __version__
from mst_deploy.cli_bench import bench_app
from mst_deploy.cli_engines import build, engines_app
from mst_deploy.cli_eval import eval_app
from mst_deploy.cli_train import train_app
from mst_deploy.errors import InvalidArgument, MstError
from mst_deploy.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SizeOption,
    StrengthOption,
    StyleOption,
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


@app.command()
def image(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Pictures to stylise.")],
    style: StyleOption,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Result file; for several inputs, an existing folder."),
    ] = None,
    size: SizeOption = None,
    strength: StrengthOption = 1.0,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylise pictures. Results are named IN-STYLE beside the inputs unless -o says otherwise."""
    from mst_deploy.console import answer, progress
    from mst_deploy.images import load_image, resize, save_image
    from mst_deploy.pipeline import Size, stylize_image

    wanted = Size.parse(size) if size else Size()
    targets = [
        free_to_write(_image_target(path, style, output, many=len(inputs) > 1), path, force=force)
        for path in inputs
    ]
    if len(set(targets)) < len(targets):
        raise InvalidArgument("two inputs would be written to the same file; stylise them one by one")
    with (
        progress("stylising", len(inputs), unit="pictures/s", quiet=quiet or as_json) as tell,
        _Job(style, strength, model, backend, device) as job,
    ):
        for done, (path, target) in enumerate(zip(inputs, targets, strict=True), start=1):
            picture = load_image(path)
            picture = resize(picture, *wanted.applied(picture.shape[1], picture.shape[0]))
            save_image(target, stylize_image(picture, job.generator, job.film_of(picture)))
            tell(done)
    answer(
        "\n".join(str(target) for target in targets),
        {"outputs": [str(target) for target in targets], **job.facts()},
        as_json=as_json,
        quiet=quiet,
    )


@app.command()
def video(
    input: Annotated[Path, typer.Argument(metavar="IN", help="The video to stylise.")],
    style: StyleOption,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Result file: .mp4, .m4v, .mov or .mkv."),
    ] = None,
    size: SizeOption = None,
    strength: StrengthOption = 1.0,
    codec: Annotated[str, typer.Option(help="h264, hevc, av1, vp9 or ffv1.")] = "h264",
    crf: Annotated[
        int | None,
        typer.Option(help="Coding quality; lower is better and larger. Default: no visible loss."),
    ] = None,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylise a video: same frames at the same times, the sound untouched.

    The result is named IN-STYLE beside the input unless -o says otherwise.
    """
    from mst_deploy.console import answer, progress, say
    from mst_deploy.pipeline import Size, stylize_video
    from mst_deploy.video import VideoReader
    from mst_deploy.video_writer import EncodeOptions, default_suffix

    options = EncodeOptions(codec, crf)
    wanted = Size.parse(size) if size else Size()
    with VideoReader(input) as reader:
        info = reader.info
    target = output or input.with_name(f"{input.stem}-{_label(style)}{default_suffix(info)}")
    free_to_write(target, input, force=force)
    width, height = wanted.applied(info.width, info.height)
    if width % 2 or height % 2:
        say(
            f"note: {width}x{height} is odd, so the colour is written in 4:4:4, which some players "
            f"cannot show; --size {width + width % 2}x{height + height % 2} avoids it",
            quiet=quiet,
        )
    for loss in info.not_kept:
        say(f"note: not kept: {loss}", quiet=quiet)
    with (
        _Job(style, strength, model, backend, device) as job,
        progress(f"{input.name} ({job.generator.device})", info.frames, quiet=quiet or as_json) as tell,
    ):
        result = stylize_video(
            input, target, job.generator, job.film_of, size=wanted, options=options, on_frame=tell
        )
    facts = {
        "output": str(target),
        "frames": result.frames,
        "width": result.width,
        "height": result.height,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "not_kept": list(info.not_kept),
        **job.facts(),
    }
    answer(
        f"{target}  {result.frames} frames, {result.width}x{result.height}, "
        f"{result.seconds:.1f} s ({result.fps:.1f} fps, {job.generator.device})",
        facts,
        as_json=as_json,
        quiet=quiet,
    )


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
    from mst_deploy.styling import make_style

    if output and len(images) > 1:
        raise InvalidArgument(f"-o names one file, but there are {len(images)} images; leave it out")
    if output and output.suffix != STYLE_SUFFIX:
        raise InvalidArgument(f"a style file ends in {STYLE_SUFFIX}, not {output.suffix!r}")
    targets = [free_to_write(output or path.with_suffix(STYLE_SUFFIX), path, force=force) for path in images]
    with progress("reading styles", len(images), unit="styles/s", quiet=quiet or as_json) as tell:
        encoder = open_style_encoder(_bundle(model), backend, device)
        for done, (path, target) in enumerate(zip(images, targets, strict=True), start=1):
            save_style(target, make_style(encoder, path, name=target.stem))
            tell(done)
    names = [str(target) for target in targets]
    answer("\n".join(names), {"outputs": names}, as_json=as_json, quiet=quiet)


@style_app.command("list")
def style_list(as_json: JsonOption = False) -> None:
    """List the shipped styles with artist, title and year."""
    from mst_deploy.console import answer
    from mst_deploy.shipped import load_shipped_styles

    styles = load_shipped_styles()
    width = max((len(style.name) for style in styles), default=0)
    lines = [
        f"{style.name:{width}}  {style.credit.get('artist', '')}: {style.credit.get('title', '')}"
        f" ({style.credit.get('year', '')})"
        for style in styles
    ]
    answer(
        "\n".join(lines),
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
        Path | None,
        typer.Argument(help="Checkpoint (.safetensors) or bundle folder. Default: the shipped model."),
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
        build(target, size=engine, quiet=quiet, as_json=as_json)


class _Job:
    """Model, style and strength of one command; film rows are made when a picture is at hand."""

    def __init__(self, style: str, strength: float, model: Path | None, backend: str, device: str) -> None:
        from mst_deploy.backends import open_generator, open_style_encoder
        from mst_deploy.styling import find_style, make_style

        bundle = _bundle(model)
        found = find_style(style, bundle.manifest)
        self.encoder = None
        if isinstance(found, Path) or strength != 1.0:
            self.encoder = open_style_encoder(bundle, backend, device)
        if isinstance(found, Path):
            found = make_style(self.encoder, found)  # type: ignore[arg-type]
        self.style, self.strength, self.backend = found, strength, backend
        self.generator = open_generator(bundle, backend, device)

    def film_of(self, picture: Any) -> Any:
        from mst_deploy.styling import film_for

        return film_for(self.style, self.strength, picture, self.encoder)

    def facts(self) -> dict[str, Any]:
        return {
            "style": self.style.name,
            "strength": self.strength,
            "model": self.generator.manifest.name,
            "backend": self.backend,
            "device": self.generator.device,
        }

    def __enter__(self) -> _Job:
        self.generator.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.generator.__exit__(*error)


def _bundle(model: Path | None) -> Any:
    from mst_deploy.manifest import open_bundle
    from mst_deploy.shipped import DEFAULT_BUNDLE

    return open_bundle(model or DEFAULT_BUNDLE)


def _label(style: str) -> str:
    """The part of a file name that stands for a style."""
    return Path(style).stem or "styled"


def _image_target(path: Path, style: str, output: Path | None, *, many: bool) -> Path:
    suffix = path.suffix.lower() or ".png"
    if output is None:
        return path.with_name(f"{path.stem}-{_label(style)}{suffix}")
    if many and not output.is_dir():
        raise InvalidArgument(f"for several inputs -o must be an existing folder; {output} is not")
    return output / f"{path.stem}-{_label(style)}{suffix}" if output.is_dir() else output


def main() -> None:
    """Entry point: errors meant for people become one line and exit code 1."""
    try:
        app()
    except MstError as error:
        print(f"mst: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
