"""Flicker of a system over clips, beside its style: ``python -m mst_deploy.benchmarks.quality.clips``.

A result without style does not flicker: the source's own figure is the floor. So systems are compared at
equal style distance, and each is run at several strengths. Frames go through a system one by one;
the film row of a model is computed once a clip, as ``mst video`` does. Other people's systems are functions
as in ``others``.
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

from mst_deploy.backends import open_generator, open_style_encoder
from mst_deploy.benchmarks.quality.others import load_function
from mst_deploy.benchmarks.quality.video import measure_flicker
from mst_deploy.console import progress
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.film import look_at
from mst_deploy.images import Image, centre_crop, load_image, mix, resize_short_side
from mst_deploy.manifest import open_bundle
from mst_deploy.moments import FRAMES, moments_of, photographs
from mst_deploy.perceptual import Distances, as_tensor
from mst_deploy.pipeline import stylize_image
from mst_deploy.shipped import find_bundle
from mst_deploy.styling import as_style, encode_film
from mst_deploy.tuning import FOR_ALL, Tuner, Tuning, normalised_vgg
from mst_deploy.vgg import find_vgg, load_vgg
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.steady import Steadier

ARTWORK = 256  # side of the artwork as systems see it and as it is compared
LOOKED_AT = 4  # frames of a clip whose distances are measured

Frames = Callable[[Path, list[Image], Image, float], list[Image]]
"""(clip, its frames, artwork, strength) -> results of the same size."""


@dataclass(frozen=True)
class ClipRow:
    """One system on one clip with one artwork at one strength."""

    system: str
    strength: float
    clip: str
    artwork: str
    warping: float
    """Warping error between neighbouring frames, RGB distance."""
    floor: float
    """The same of the source."""
    style: float
    content: float
    tuning: str | None
    """How the film row was tuned, in words; None where it was not."""


def first_frames(path: Path, size: int, count: int) -> list[Image]:
    """The first frames of a clip, short side resized."""
    with VideoReader(path) as reader:
        return [resize_short_side(frame.image, size) for frame in islice(reader, count)]


def steadied(frames: list[Image], results: list[Image]) -> list[Image]:
    """As ``mst video --steady`` does it; results may lack some of the right and lower border."""
    steadier = Steadier()
    return [
        steadier(np.ascontiguousarray(frame[: result.shape[0], : result.shape[1]]), [result])[0]
        for frame, result in zip(frames, results, strict=True)
    ]


def model_frames(
    bundle: Path, tuner: Tuner | None, size: int, *, once: bool = False, steady: bool = False
) -> Frames:
    """A bundle as ``mst video`` runs it; with a tuner, after ``mst style tune --for CLIP``, or ``once``."""
    generator, encoder = open_generator(bundle), open_style_encoder(bundle)

    def run(clip: Path, frames: list[Image], artwork: Image, strength: float) -> list[Image]:
        film = encode_film(encoder, artwork)
        if tuner is not None:
            looked = photographs() if once else moments_of(clip, FRAMES, size)
            film = tuner(film, looked, as_style(artwork, encoder.manifest)).film
        look = look_at(encode_film(encoder, frames[0]), film, strength)
        painted = [stylize_image(frame, generator, look.film) for frame in frames]
        if steady:
            painted = steadied(frames, painted)
        return [mix(frame, picture, look.share) for frame, picture in zip(frames, painted, strict=True)]

    return run


def other_frames(program: Path, function: str, *, steady: bool = False) -> Frames:
    """Somebody else's function (content, style, alpha) -> image, frame by frame."""
    call = load_function(program, function)

    def run(clip: Path, frames: list[Image], artwork: Image, strength: float) -> list[Image]:
        results = []
        with torch.inference_mode():
            for frame in frames:
                high, wide = (side // 8 * 8 for side in frame.shape[:2])
                made = call(as_tensor(frame[:high, :wide]), as_tensor(artwork), strength).clamp(0, 1)
                pixels = made.mul(255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
                results.append(pixels)
        return steadied(frames, results) if steady else results

    return run


def measure(
    frames: list[Image], results: list[Image], artwork: Image, distances: Distances
) -> dict[str, float]:
    """Flicker between neighbours, and the mean distances of a few frames."""
    height, width = results[0].shape[:2]
    frames = [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
    (flicker,) = measure_flicker(zip(frames, results, strict=True), [1])
    looked = np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).round().astype(int)
    found = np.array([distances(frames[i], artwork, results[i])[:2] for i in looked])
    means = flicker.means()
    return {"warping": means["result"], "floor": means["source"], "content": float(found[:, 0].mean()),
            "style": float(found[:, 1].mean())}  # fmt: skip


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
    vgg_scales: Annotated[Path | None, typer.Option(help="Factors that normalise VGG-19.")] = None,
    tune: Annotated[
        Path | None, typer.Option(help="Tune each style to each clip; folder to keep the rows in.")
    ] = None,
    tune_once: Annotated[
        bool, typer.Option("--tune-once", help="With --tune: each style once, to the shipped photographs.")
    ] = False,
    steady: Annotated[bool, typer.Option("--steady", help="As mst video --steady makes them.")] = False,
    temporal_weight: Annotated[
        float, typer.Option(min=0.0, help="Of flicker when tuning, as in mst style tune.")
    ] = Tuning().temporal_weight,
    temporal_limit: Annotated[
        float, typer.Option(min=0.0, help="Of flicker's gradient when tuning, as in mst style tune.")
    ] = Tuning().temporal_limit,
) -> None:
    """Measure one system; give --model, or --program and --function."""
    if (model is None) == (program is None):
        raise InvalidArgument("give either --model or --program with --function")
    tuning = None
    distances = Distances(load_vgg(find_vgg(vgg), vgg_scales))
    if model is not None:
        tuner, bundle = None, find_bundle(model)
        if tune is not None:
            how = replace(
                FOR_ALL if tune_once else Tuning(),
                temporal_weight=temporal_weight,
                temporal_limit=temporal_limit,
            )
            tuning = f"temporal weight {how.temporal_weight:g}, limit {how.temporal_limit:g}"
            tuner = Tuner(open_bundle(bundle), normalised_vgg(vgg, vgg_scales), "cpu", how, tune)
        name = bundle.name if tuner is None else f"{bundle.name}, tuned{' once' if tune_once else ''}"
        run = model_frames(bundle, tuner, size, once=tune_once, steady=steady)
    else:
        assert program is not None
        name, run = function, other_frames(program, function, steady=steady)
    name += ", steady" if steady else ""
    known = json.loads(output.read_text()) if output.exists() else []
    strengths = [float(word) for word in strength.split(",")]
    with progress(name, len(clips) * len(style) * len(strengths), unit="results/s") as tell:
        for clip in clips:
            sources = first_frames(clip, size, frames)
            for path in style:
                artwork = centre_crop(load_image(path), ARTWORK)
                for value in strengths:
                    found = measure(sources, run(clip, sources, artwork, value), artwork, distances)
                    row = ClipRow(name, value, clip.stem, path.stem,
                                  **{key: round(figure, 5) for key, figure in found.items()},
                                  tuning=tuning)  # fmt: skip
                    known.append(asdict(row))
                    tell(len(known))
                    with replacing(output) as temporary:
                        temporary.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
