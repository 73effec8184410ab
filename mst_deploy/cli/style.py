"""The commands ``mst style``: make, tune, list."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.backends.registry import AUTO
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    QuietOption,
    VggOption,
    requires,
)
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable

style_app = typer.Typer(
    help="Make reusable style files, tune them to a video, list the shipped ones.", no_args_is_help=True
)


@style_app.command("make")
def style_make(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of the style.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Style file to write (.safetensors); one image only."),
    ] = None,
    strokes: Annotated[
        float | None, typer.Option(min=0, max=2, help="Strokes that the style has by default: 0 to 2.")
    ] = None,
    stroke_size: Annotated[
        float | None, typer.Option(min=0.5, max=3, help="Their size by default: 0.5 to 3.")
    ] = None,
    model: ModelOption = None,
    backend: BackendOption = AUTO,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read the style off pictures once; the small files work wherever --style does."""
    from mst_deploy.backends import open_style_encoder
    from mst_deploy.backends.auto import resolve
    from mst_deploy.cli.console import print_result, progress
    from mst_deploy.image_files import MAX_PIXELS, limited_pixels
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.film import STYLE_SUFFIX, save_style
    from mst_deploy.model.zoo import resolve_model
    from mst_deploy.styles.resolve import make_style

    if output and len(images) > 1:
        raise InvalidArgument(f"-o names one file, but there are {len(images)} images; leave it out")
    _check_suffix(output, STYLE_SUFFIX)
    targets = [
        require_writable(output or path.with_suffix(STYLE_SUFFIX), path, force=force) for path in images
    ]
    with progress("reading styles", len(images), unit="styles/s", quiet=quiet or as_json) as on_progress:
        bundle = open_bundle(resolve_model(model))
        choice = resolve(bundle, backend, device)
        encoder = open_style_encoder(bundle, choice.backend, choice.device)
        chosen = strokes is not None or stroke_size is not None
        if chosen and not encoder.manifest.canvas_bands:
            raise InvalidArgument(
                f"the model {encoder.manifest.name} paints without a canvas; leave out --strokes and "
                "--stroke-size"
            )
        for done, (path, target) in enumerate(zip(images, targets, strict=True), start=1):
            with limited_pixels(max_pixels or MAX_PIXELS):
                style = make_style(encoder, path, name=target.stem)
            if chosen:
                style = replace(
                    style,
                    strokes=1.0 if strokes is None else strokes,
                    stroke_size=1.0 if stroke_size is None else stroke_size,
                )
            save_style(target, style)
            on_progress(done)
    names = [str(target) for target in targets]
    print_result("\n".join(names), {"outputs": names}, as_json=as_json, quiet=quiet)


@style_app.command("optimize")
def style_optimize(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture of the style.")],
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--for",
            metavar="FILE",
            help="Video or picture to be stylized; may be repeated. Default: everyday photographs, for a "
            "style that serves every picture.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Style file. Default: IMAGE-FILE.safetensors, or IMAGE-tuned.safetensors, beside IMAGE.",
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames sampled from each video.")] = 3,
    size: Annotated[int, typer.Option(min=64, help="Maximum short side of these frames in pixels.")] = 320,
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient descent.")] = 16,
    style_weight: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Weight of style against content; more matches the painting better. Default: 4, or 8 for "
            "everyday photographs.",
        ),
    ] = None,
    temporal_weight: Annotated[
        float,
        typer.Option(
            min=0.0, help="Weight of flicker in videos; more flickers less and matches the painting less."
        ),
    ] = 0.6,
    temporal_limit: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Limit of the flicker's gradient, as a multiple of the style's: below 1 the style "
            "dominates; inf is no limit.",
        ),
    ] = 0.5,
    model: ModelOption = None,
    vgg: VggOption = None,
    vgg_scales: Annotated[
        Path | None, typer.Option(help="Factors that normalize VGG-19. Default: taken from photographs.")
    ] = None,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Optimize a style to match its painting more closely. Stylizing with it takes as long as before.

    The encoder computes a style from a painting in one pass. Gradient descent improves it, for the given
    videos or pictures or for all, in one to three minutes on a CPU. Use the style file with --style.
    """
    from mst_deploy.backends import open_style_encoder
    from mst_deploy.cli.console import print_result, progress
    from mst_deploy.image_files import MAX_PIXELS, limited_pixels
    from mst_deploy.images import load_image
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.film import STYLE_SUFFIX, save_style
    from mst_deploy.model.zoo import resolve_model
    from mst_deploy.styles.resolve import as_style, make_style
    from mst_deploy.styles.tuning_data import builtin_photos, sample_frames

    if image.suffix == STYLE_SUFFIX:
        raise InvalidArgument(f"{image} holds no picture any more; tune with the image it was made from")
    name = f"{image.stem}-{files[0].stem if files else 'optimized'}"
    _check_suffix(output, STYLE_SUFFIX)
    target = require_writable(output or image.with_name(name + STYLE_SUFFIX), image, force=force)
    with requires("export", "mst style optimize"):
        from mst_deploy.styles import optimize as tuning
    bundle = open_bundle(resolve_model(model))
    with limited_pixels(max_pixels or MAX_PIXELS):
        style = make_style(open_style_encoder(bundle), image, name=target.stem)
        painting = as_style(load_image(image), bundle.manifest)
        moments = [moment for path in files or () for moment in sample_frames(path, frames, size)]
    how = tuning.OptimizeOptions() if files else tuning.FOR_ALL
    moments = moments or builtin_photos()
    how = replace(
        how,
        steps=steps,
        style_weight=how.style_weight if style_weight is None else style_weight,
        temporal_weight=temporal_weight,
        temporal_limit=temporal_limit,
    )
    style_optimizer = tuning.StyleOptimizer(bundle, tuning.normalized_vgg(vgg, vgg_scales), device, how)
    with progress("tuning", how.steps, unit="steps/s", quiet=quiet or as_json) as on_progress:
        optimized = style_optimizer(style.film, moments, painting, on_progress)
    save_style(target, replace(style, film=optimized.film))
    print_result(
        f"{target}: {optimized.describe()}",
        {"output": str(target), "before": asdict(optimized.before), "after": asdict(optimized.after)},
        as_json=as_json,
        quiet=quiet,
    )


@style_app.command("list")
def style_list(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """List the styles shipped for a model with artist, title and year."""
    from mst_deploy.cli.console import print_result
    from mst_deploy.model.bundle import read_manifest
    from mst_deploy.model.zoo import resolve_model, styles_for

    styles = styles_for(read_manifest(resolve_model(model)).model_id).values()
    width = max((len(style.name) for style in styles), default=0)
    lines = [
        f"{style.name:{width}}  {style.credit.get('artist', '')}: {style.credit.get('title', '')}"
        f" ({style.credit.get('year', '')})"
        for style in styles
    ]
    print_result(
        "\n".join(lines) or "no styles are shipped for this model; make your own with mst style make --model",
        {"styles": [{"name": style.name, **style.credit} for style in styles]},
        as_json=as_json,
    )


def _check_suffix(output: Path | None, suffix: str) -> None:
    if output and output.suffix != suffix:
        raise InvalidArgument(f"a style file ends in {suffix}, not {output.suffix!r}")
