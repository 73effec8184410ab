"""The commands ``mst style``: make, optimize, list."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from mst_deploy.backends.options import DEVICE_HELP, MODEL_HELP, ModelOptions
from mst_deploy.cli.options import JsonOptions, LimitOptions, MessageOptions, requires
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import require_writable
from mst_deploy.options import INPUT_OUTPUT, MODEL, STROKES, Option
from mst_deploy.styles.options import FOR_ALL, FRAME_SIZE, FRAMES, OptimizeOptions

OPTIMIZATION = "Optimization"


@dataclass(frozen=True)
class MakeOptions:
    """Pictures to make styles of."""

    images: Annotated[tuple[Path, ...], Option("Pictures of the style.", metavar="IMAGE...", positional=True)]
    output: Annotated[
        Path | None, Option("Style file to write (.safetensors); one image only.", INPUT_OUTPUT)
    ] = None
    strokes: Annotated[
        float | None,
        Option("Strokes that the style has by default: 0 to 2.", STROKES, minimum=0, maximum=2),
    ] = None
    stroke_size: Annotated[
        float | None, Option("Their size by default: 0.5 to 3.", STROKES, minimum=0.5, maximum=3)
    ] = None
    limits: LimitOptions = field(default_factory=LimitOptions)
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False


def style_make(
    options: MakeOptions, model: ModelOptions, limits: LimitOptions, messages: MessageOptions
) -> None:
    """Compute style files from pictures; they are small and work wherever --style does."""
    from mst_deploy.backends import open_style_encoder
    from mst_deploy.backends.auto import resolve
    from mst_deploy.cli.console import print_result, progress
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.film import STYLE_SUFFIX, save_style
    from mst_deploy.model.zoo import resolve_model
    from mst_deploy.styles.resolve import make_style

    images, output, force = options.images, options.output, options.force
    strokes, stroke_size = options.strokes, options.stroke_size
    if output and len(images) > 1:
        raise InvalidArgument(f"-o names one file, but there are {len(images)} images; leave it out")
    _check_suffix(output, STYLE_SUFFIX)
    targets = [
        require_writable(output or path.with_suffix(STYLE_SUFFIX), path, force=force) for path in images
    ]
    with progress("reading styles", len(images), unit="styles/s", quiet=messages.silent) as on_progress:
        bundle = open_bundle(resolve_model(model.model))
        choice = resolve(bundle, model.backend, model.device)
        encoder = open_style_encoder(bundle, choice.backend, choice.device)
        chosen = strokes is not None or stroke_size is not None
        if chosen and not encoder.manifest.canvas_bands:
            raise InvalidArgument(
                f"the model {encoder.manifest.name} paints without a canvas; leave out --strokes and "
                "--stroke-size"
            )
        for done, (path, target) in enumerate(zip(images, targets, strict=True), start=1):
            with options.limits.applied():
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
    values = {"outputs": names}
    print_result("\n".join(names), values, as_json=messages.as_json, quiet=messages.quiet)


@dataclass(frozen=True)
class OptimizedStyleOptions:
    """A painting, what its style is optimized for, and the optimization."""

    image: Annotated[Path, Option("Picture of the style.", metavar="IMAGE", positional=True)]
    files: Annotated[
        tuple[Path, ...],
        Option(
            "Video or picture to be stylized; may be repeated. Default: everyday photographs, for a style "
            "that serves every picture.",
            INPUT_OUTPUT,
            metavar="FILE",
            name="for",
        ),
    ] = ()
    output: Annotated[
        Path | None,
        Option(
            "Style file. Default: IMAGE-FILE.safetensors, or IMAGE-optimized.safetensors, beside IMAGE.",
            INPUT_OUTPUT,
        ),
    ] = None
    frames: Annotated[int, Option("Frames sampled from each video.", OPTIMIZATION, minimum=1)] = FRAMES
    size: Annotated[
        int, Option("Maximum short side of these frames in pixels.", OPTIMIZATION, minimum=64)
    ] = FRAME_SIZE
    steps: Annotated[int, Option("Steps of gradient descent.", OPTIMIZATION, minimum=1)] = (
        OptimizeOptions.steps
    )
    style_weight: Annotated[
        float | None,
        Option(
            "Weight of style against content; more matches the painting better. Default: "
            f"{OptimizeOptions.style_weight:g}, or {FOR_ALL.style_weight:g} for everyday photographs.",
            OPTIMIZATION,
            minimum=0.0,
        ),
    ] = None
    temporal_weight: Annotated[
        float,
        Option(
            "Weight of flicker in videos; more flickers less and matches the painting less.",
            OPTIMIZATION,
            minimum=0.0,
        ),
    ] = OptimizeOptions.temporal_weight
    temporal_limit: Annotated[
        float,
        Option(
            "Limit of the flicker's gradient, as a multiple of the style's: below 1 the style dominates; inf "
            "is no limit.",
            OPTIMIZATION,
            minimum=0.0,
        ),
    ] = OptimizeOptions.temporal_limit
    model: Annotated[str | None, Option(MODEL_HELP, MODEL, metavar="MODEL")] = None
    device: Annotated[str, Option(DEVICE_HELP, MODEL)] = "auto"
    vgg: Annotated[
        Path | None,
        Option("VGG-19: .pth or .safetensors. Default: downloaded once.", OPTIMIZATION),
    ] = None
    vgg_scales: Annotated[
        Path | None,
        Option(
            "Scales of VGG-19's channels (.safetensors) that normalize its activations. Default: computed "
            "from photographs.",
            OPTIMIZATION,
        ),
    ] = None
    limits: LimitOptions = field(default_factory=LimitOptions)
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False


def style_optimize(options: OptimizedStyleOptions, messages: MessageOptions) -> None:
    """Optimize a style to match its painting more closely. Stylizing with it takes as long as before.

    The encoder computes a style from a painting in one pass. Gradient descent improves it, for the given
    videos or pictures or for all, in one to three minutes on a CPU. Use the style file with --style.
    """
    from mst_deploy.backends import open_style_encoder
    from mst_deploy.cli.console import print_result, progress
    from mst_deploy.images import load_image
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.film import STYLE_SUFFIX, save_style
    from mst_deploy.model.zoo import resolve_model
    from mst_deploy.styles.resolve import as_style, make_style
    from mst_deploy.styles.tuning_data import builtin_photos, sample_frames

    image, files, output = options.image, options.files, options.output
    if image.suffix == STYLE_SUFFIX:
        raise InvalidArgument(
            f"{image} is a style file, which holds no picture; optimize the image it was made from"
        )
    name = f"{image.stem}-{files[0].stem if files else 'optimized'}"
    _check_suffix(output, STYLE_SUFFIX)
    target = require_writable(output or image.with_name(name + STYLE_SUFFIX), image, force=options.force)
    with requires("export", "mst style optimize"):
        from mst_deploy.styles import optimize as optimization
    bundle = open_bundle(resolve_model(options.model))
    with options.limits.applied():
        style = make_style(open_style_encoder(bundle), image, name=target.stem)
        painting = as_style(load_image(image), bundle.manifest)
        moments = [moment for path in files for moment in sample_frames(path, options.frames, options.size)]
    how = OptimizeOptions() if files else FOR_ALL
    moments = moments or builtin_photos()
    how = replace(
        how,
        steps=options.steps,
        style_weight=how.style_weight if options.style_weight is None else options.style_weight,
        temporal_weight=options.temporal_weight,
        temporal_limit=options.temporal_limit,
    )
    vgg = optimization.normalized_vgg(options.vgg, options.vgg_scales)
    style_optimizer = optimization.StyleOptimizer(bundle, vgg, options.device, how)
    with progress("optimizing", how.steps, unit="steps/s", quiet=messages.silent) as on_progress:
        optimized = style_optimizer(style.film, moments, painting, on_progress)
    save_style(target, replace(style, film=optimized.film))
    print_result(
        f"{target}: {optimized.describe()}",
        {"output": str(target), "before": asdict(optimized.before), "after": asdict(optimized.after)},
        as_json=messages.as_json,
        quiet=messages.quiet,
    )


@dataclass(frozen=True)
class ListOptions:
    """A model whose styles are listed."""

    model: Annotated[str | None, Option(MODEL_HELP, metavar="MODEL")] = None


def style_list(options: ListOptions, messages: JsonOptions) -> None:
    """List the styles shipped for a model with artist, title and year."""
    from mst_deploy.cli.console import print_result
    from mst_deploy.model.bundle import read_manifest
    from mst_deploy.model.zoo import resolve_model, styles_for

    styles = styles_for(read_manifest(resolve_model(options.model)).model_id).values()
    width = max((len(style.name) for style in styles), default=0)
    lines = [
        f"{style.name:{width}}  {style.credit.get('artist', '')}: {style.credit.get('title', '')}"
        f" ({style.credit.get('year', '')})"
        for style in styles
    ]
    print_result(
        "\n".join(lines) or "no styles are shipped for this model; make your own with mst style make --model",
        {"styles": [{"name": style.name, **style.credit} for style in styles]},
        as_json=messages.as_json,
    )


def _check_suffix(output: Path | None, suffix: str) -> None:
    if output and output.suffix != suffix:
        raise InvalidArgument(f"a style file ends in {suffix}, not {output.suffix!r}")
