"""Measure the flicker of a system over clips beside its style: ``python -m
mst_deploy.benchmarks.quality.clips``.

A result without style does not flicker: the source's own figure is the floor. So systems are compared at
equal style distance, and each is run at several strengths. Frames go through a system one by one; the FiLM
vector of a model is computed once per clip, as in ``mst video``. External systems are functions as in
``external``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mst_deploy.benchmarks.quality.external import load_function
from mst_deploy.benchmarks.quality.video import measure_flicker
from mst_deploy.cli.console import progress
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.images import Image, center_crop, load_image, mix, resize_short_side
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.film import at_strength
from mst_deploy.model.zoo import resolve_model
from mst_deploy.perceptual.distances import Distances, as_tensor
from mst_deploy.perceptual.vgg import find_vgg, load_vgg
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles.optimize import StyleOptimizer, normalized_vgg
from mst_deploy.styles.options import FOR_ALL, FRAMES, OptimizeOptions
from mst_deploy.styles.resolve import as_style
from mst_deploy.styles.tuning_data import builtin_photos, sample_frames
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.deflicker import Deflicker
from mst_deploy.video.reader import VideoReader

ARTWORK = 256  # side in pixels of the artwork, both as input of the systems and as reference
SAMPLED_FRAMES = 4  # frames of a clip whose distances are measured

Frames = Callable[[Path, list[Image], Image, float], list[Image]]
"""(clip, its frames, artwork, strength) -> results of the same size."""


@dataclass(frozen=True)
class ClipRow:
    """Figures of one system on one clip with one artwork at one strength."""

    system: str
    strength: float
    clip: str
    artwork: str
    warping: float
    """Warping error between neighboring frames, RGB distance."""
    floor: float
    """Warping error of the source."""
    style: float
    content: float
    tuning: str | None
    """Options of the style optimization; None without one."""


def first_frames(path: Path, size: int, count: int) -> list[Image]:
    """Return the first ``count`` frames of a clip (H, W, 3) uint8, with the short side resized to ``size``
    pixels."""
    with VideoReader(path) as reader:
        return [resize_short_side(frame.image, size) for frame in islice(reader, count)]


def deflickered(frames: list[Image], results: list[Image]) -> list[Image]:
    """Return the results as ``mst video --deflicker`` makes them.

    Results may lack a part of the right and lower border.
    """
    deflicker_filter = Deflicker()
    return [
        deflicker_filter(np.ascontiguousarray(frame[: result.shape[0], : result.shape[1]]), [result])[0]
        for frame, result in zip(frames, results, strict=True)
    ]


def model_frames(
    bundle: Path,
    optimizer: StyleOptimizer | None,
    size: int,
    *,
    once: bool = False,
    deflicker: bool = False,
) -> Frames:
    """Return a function that runs a bundle as ``mst video`` does.

    With an optimizer the style is optimized for the clip first, as by ``mst style optimize --for CLIP``, or
    with ``once`` for the built-in photographs.
    """
    stylizer = Stylizer(bundle)

    def run(clip: Path, frames: list[Image], artwork: Image, strength: float) -> list[Image]:
        film = stylizer.style(artwork).film
        if optimizer is not None:
            sampled = builtin_photos() if once else sample_frames(clip, FRAMES, size)
            film = optimizer(film, sampled, as_style(artwork, stylizer.manifest)).film
        frame_plan = at_strength(stylizer.style(frames[0]).film, film, strength)
        canvas = MovingCanvas(*frames[0].shape[:2]) if stylizer.manifest.canvas_bands else None
        stylized = [
            stylize_image(frame, stylizer.backend, frame_plan.film, None if canvas is None else canvas(frame))
            for frame in frames
        ]
        if deflicker:
            stylized = deflickered(frames, stylized)
        return [
            mix(frame, picture, frame_plan.opacity) for frame, picture in zip(frames, stylized, strict=True)
        ]

    return run


def other_frames(program: Path, function: str, *, deflicker: bool = False) -> Frames:
    """Return a function that runs an external function (content, style, alpha) -> image, frame by frame."""
    call = load_function(program, function)

    def run(clip: Path, frames: list[Image], artwork: Image, strength: float) -> list[Image]:
        results = []
        with torch.inference_mode():
            for frame in frames:
                high, wide = (side // 8 * 8 for side in frame.shape[:2])
                output = call(as_tensor(frame[:high, :wide]), as_tensor(artwork), strength).clamp(0, 1)
                pixels = output.mul(255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
                results.append(pixels)
        return deflickered(frames, results) if deflicker else results

    return run


def measure(
    frames: list[Image], results: list[Image], artwork: Image, distances: Distances
) -> dict[str, float]:
    """Return the flicker between neighboring frames, and the mean distances of a few frames."""
    height, width = results[0].shape[:2]
    frames = [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
    (flicker,) = measure_flicker(zip(frames, results, strict=True), [1])
    sampled = np.linspace(0, len(frames) - 1, min(SAMPLED_FRAMES, len(frames))).round().astype(int)
    values = np.array([distances(frames[i], artwork, results[i])[:2] for i in sampled])
    means = flicker.means()
    return {
        "warping": means["result"],
        "floor": means["source"],
        "content": float(values[:, 0].mean()),
        "style": float(values[:, 1].mean()),
    }


def main(
    clips: Annotated[list[Path], typer.Argument(help="Videos.")],
    style: Annotated[list[Path], typer.Option(help="Artworks (image files).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file; rows are added to it.")],
    model: Annotated[str | None, typer.Option(help="Shipped model (base, lite) or bundle to run.")] = None,
    program: Annotated[Path | None, typer.Option(help="Python file of another system.")] = None,
    function: Annotated[str, typer.Option(help="The function in it.")] = "",
    strength: Annotated[str, typer.Option(help="Strengths, separated by commas.")] = "1",
    size: Annotated[int, typer.Option(help="Short side of the frames.")] = 384,
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 16,
    vgg: Annotated[Path | None, typer.Option(help="VGG-19 weights.")] = None,
    vgg_scales: Annotated[Path | None, typer.Option(help="Scales that normalize VGG-19.")] = None,
    optimize_style: Annotated[
        Path | None,
        typer.Option(help="Optimize each style for each clip; folder to keep the optimized styles in."),
    ] = None,
    optimize_once: Annotated[
        bool,
        typer.Option(
            "--optimize-once", help="With --optimize-style: each style once, for the shipped photographs."
        ),
    ] = False,
    deflicker: Annotated[
        bool, typer.Option("--deflicker", help="As mst video --deflicker makes them.")
    ] = False,
    temporal_weight: Annotated[
        float, typer.Option(min=0.0, help="Weight of flicker in this optimization, as in mst style optimize.")
    ] = OptimizeOptions().temporal_weight,
    temporal_limit: Annotated[
        float, typer.Option(min=0.0, help="Limit of the flicker's gradient, as in mst style optimize.")
    ] = OptimizeOptions().temporal_limit,
) -> None:
    """Measure one system; give --model, or --program and --function."""
    if (model is None) == (program is None):
        raise InvalidArgument(
            field="model", problem="give either [option:model] or [option:program] with [option:function]"
        )
    tuning = None
    distances = Distances(load_vgg(find_vgg(vgg), vgg_scales))
    if model is not None:
        optimizer, bundle = None, resolve_model(model)
        if optimize_style is not None:
            how = replace(
                FOR_ALL if optimize_once else OptimizeOptions(),
                temporal_weight=temporal_weight,
                temporal_limit=temporal_limit,
            )
            tuning = f"temporal weight {how.temporal_weight:g}, limit {how.temporal_limit:g}"
            optimizer = StyleOptimizer(
                open_bundle(bundle), normalized_vgg(vgg, vgg_scales), "cpu", how, optimize_style
            )
        name = bundle.name if optimizer is None else f"{bundle.name}, tuned{' once' if optimize_once else ''}"
        run = model_frames(bundle, optimizer, size, once=optimize_once, deflicker=deflicker)
    else:
        assert program is not None
        name, run = function, other_frames(program, function, deflicker=deflicker)
    name += ", steady" if deflicker else ""
    known = json.loads(output.read_text()) if output.exists() else []
    strengths = [float(word) for word in strength.split(",")]
    with progress(name, len(clips) * len(style) * len(strengths), unit="results/s") as on_progress:
        for clip in clips:
            sources = first_frames(clip, size, frames)
            for path in style:
                artwork = center_crop(load_image(path), ARTWORK)
                for value in strengths:
                    values = measure(sources, run(clip, sources, artwork, value), artwork, distances)
                    row = ClipRow(
                        name,
                        value,
                        clip.stem,
                        path.stem,
                        **{key: round(figure, 5) for key, figure in values.items()},
                        tuning=tuning,
                    )
                    known.append(asdict(row))
                    on_progress(len(known))
                    with replacing(output) as temporary:
                        temporary.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
