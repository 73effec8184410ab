"""Make the table of short runs in docs/recipe.md: one change each, the same number of steps.

    python -m tools.docs.make_runs --set REPORT --output FOLDER -- --content FOLDER --style FOLDER ...

Arguments after ``--`` go to ``mst train joint``. REPORT is a folder of ``mst eval model --held-out``, whose
pairs are measured. Runs whose figures are in docs/runs.json already are not made again.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mst_deploy.images import Image, load_image
from mst_deploy.model.checkpoints import Networks, load_checkpoint
from mst_deploy.perceptual.distances import Distances, as_tensor
from mst_deploy.perceptual.vgg import STYLE_TAPS, load_vgg
from mst_deploy.training.config import LITE, Stage, TrainConfig
from tools.docs import DOCS

SHIFT = (3, 2)  # down and right, pixels: a motion that no layer's grid shares
STEPS = 240


def stage(style_weight: float = 15.0, crop: int = 96, batch: int = 4) -> tuple[Stage, ...]:
    return (Stage(1.0, crop, batch, style_weight),)


BASIS = replace(
    LITE,
    stages=stage(),
    steps=STEPS,
    learning_rate=1.5e-3,
    warmup_steps=20,
    ema_decay=0.98,
    style_views=1,
    halo_weight=0.0,
)
CHANGES: dict[str, TrainConfig] = {
    "none": BASIS,
    "other seed": replace(BASIS, seed=2),
    "style weight 30": replace(BASIS, stages=stage(30.0)),
    "style weight 7.5": replace(BASIS, stages=stage(7.5)),
    "no temporal term": replace(BASIS, temporal_weight=0.0),
    "temporal weight 450": replace(BASIS, temporal_weight=450.0),
    "styles by relu1_1 .. relu3_1": replace(BASIS, style_layers=STYLE_TAPS[:3]),
    "styles by relu3_1 and relu4_1": replace(BASIS, style_layers=STYLE_TAPS[2:4]),
    "Gram matrices relative to the batch": replace(BASIS, style_own_size=False),
    "crops of 136, half as many": replace(BASIS, stages=stage(crop=136), steps=STEPS // 2),
    "styles at one zoom": replace(BASIS, style_zoom=1.0),
    "three views, two in other palettes": replace(BASIS, style_views=3, color_shift_share=1.0),
    "zero padding": replace(BASIS, network=replace(BASIS.network, padding="zero")),
    "style in the residual blocks alone": replace(BASIS, film_layers=("blocks",)),
    "style everywhere but in them": replace(BASIS, film_layers=("stem", "down", "up")),
    "style from the residual blocks on": replace(BASIS, film_layers=("blocks", "up")),
    "half the learning rate": replace(BASIS, learning_rate=7.5e-4),
    "constant rate": replace(BASIS, schedule="constant"),
    "no averaging of weights": replace(BASIS, ema_decay=0.0),
    "encoder at the generator's rate": replace(BASIS, encoder_rate=1.0),
    "encoder at rest": replace(BASIS, encoder_rate=0.0),
    "no strengths below 1": replace(BASIS, strength_share=0.0),
    "no pairs with themselves": replace(BASIS, identity_share=0.0),
    "all movements alike": replace(BASIS, expressive_weight=1.0),
    "a term against halos": replace(BASIS, halo_weight=10_000.0),
}


def measured(networks: Networks, folder: Path, distances: Distances) -> dict[str, float]:
    """Return means over the pairs of an evaluation: style, content, and the flicker under SHIFT."""
    assert networks.encoder is not None
    rows = []
    with (folder / "pairs.csv").open() as file:
        for pair in csv.DictReader(file):
            photo, artwork = (load_image(folder / kind / pair[kind]) for kind in ("content", "style"))
            with torch.inference_mode():
                _, film = networks.encoder(as_tensor(artwork))
            painted = paint(networks, photo, film)
            content, style, _ = distances(photo, artwork, painted)
            rows.append((style, content, shift_flicker(networks, photo, film)))
    style, content, flicker = np.mean(rows, axis=0)
    return {
        "style": round(float(style), 4),
        "content": round(float(content), 4),
        "flicker": round(float(flicker), 5),
    }


@torch.inference_mode()
def paint(networks: Networks, photo: Image, film: torch.Tensor) -> Image:
    stylized = networks.generator(as_tensor(photo), film)[0]
    return np.asarray((stylized * 255).round().byte().permute(1, 2, 0).numpy(), np.uint8)


def shift_flicker(networks: Networks, photo: Image, film: torch.Tensor) -> float:
    """Return the mean squared difference, in 0..1, of the results of two windows where they overlap."""
    down, right = SHIFT
    first = paint(networks, np.ascontiguousarray(photo[:-down, :-right]), film)
    second = paint(networks, np.ascontiguousarray(photo[down:, right:]), film)
    difference = first[down:, right:].astype(np.float64) - second[:-down, :-right]
    return float(np.square(difference / 255).mean())


def main(
    training: Annotated[list[str], typer.Argument(help="Options of mst train joint, after --.")],
    pairs: Annotated[Path, typer.Option("--set", help="Folder of mst eval model.")],
    output: Annotated[Path, typer.Option(help="Folder for the runs.")],
    prune_from: Annotated[str, typer.Option(help="What the runs' network is cut out of.")] = "base",
    most: Annotated[int, typer.Option(help="Stop after so many new runs.")] = 100,
) -> None:
    """Train and measure every change."""
    given = dict(zip(training[::2], training[1::2], strict=True))
    distances = Distances(load_vgg(Path(given["--vgg"]), Path(given["--vgg-scales"])))
    output.mkdir(parents=True, exist_ok=True)
    file = DOCS / "runs.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for number, (name, config) in enumerate(CHANGES.items()):
        if name in found or most == 0:
            continue
        most -= 1
        run = output / f"{number:02d}"
        recipe = output / f"{number:02d}.json"
        recipe.write_text(json.dumps(config.to_dict()))
        command = [
            sys.executable,
            "-m",
            "mst_deploy",
            "train",
            "joint",
            *training,
            "--prune-from",
            prune_from,
            "--recipe",
            str(recipe),
            "--quiet",
            "-o",
            str(run),
        ]
        subprocess.run(command, check=True)
        figures = measured(load_checkpoint(run / "weights.safetensors"), pairs, distances)
        found[name] = {"steps": config.steps, **figures}
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(name, found[name], flush=True)


if __name__ == "__main__":
    typer.run(main)
