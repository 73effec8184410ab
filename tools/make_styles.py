"""Make the shipped styles from ``examples/paintings``: ``python -m tools.make_styles [MODEL...]``.

Run it after a shipped model has changed; a style fits only the model that made it. Without names all models
get theirs. Each style is encoded from its painting, as by ``--style PAINTING``. With ``--optimize-style`` it
is optimized as well, as ``mst style optimize PAINTING`` does it: one to two minutes each on two cores. VGG-19
is then torchvision's unless ``--vgg`` gives another.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.backends import open_style_encoder
from mst_deploy.cli.options import VggOption, run_alone
from mst_deploy.images import load_image
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.film import STYLE_SUFFIX, save_style
from mst_deploy.model.zoo import MODELS, bundle_path, style_folder
from mst_deploy.styles.optimize import StyleOptimizer, normalized_vgg
from mst_deploy.styles.options import FOR_ALL
from mst_deploy.styles.resolve import as_style, make_style
from mst_deploy.styles.tuning_data import builtin_photos

PAINTINGS = Path(__file__).resolve().parents[1] / "examples" / "paintings"


def make_styles(model: str, vgg: Path | None, *, optimize_style: bool) -> None:
    """Replace all styles of one model."""
    bundle, folder = open_bundle(bundle_path(model)), style_folder(model)
    encoder = open_style_encoder(bundle, device="cpu")
    optimizer = StyleOptimizer(bundle, normalized_vgg(vgg, None), how=FOR_ALL) if optimize_style else None
    made = []
    with (PAINTINGS / "paintings.csv").open(encoding="utf-8", newline="") as file:
        for credit in csv.DictReader(file):
            name = credit.pop("name")
            path = PAINTINGS / f"{name}.jpg"
            style = make_style(encoder, path, name)
            note = "read"
            if optimizer is not None:
                optimized = optimizer(
                    style.film, builtin_photos(), as_style(load_image(path), bundle.manifest)
                )
                style, note = replace(style, film=optimized.film), optimized.describe()
            made.append(replace(style, credit=credit))
            print(f"{model} {name}: {note}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*{STYLE_SUFFIX}"):
        old.unlink()
    for style in made:
        save_style(folder / f"{style.name}{STYLE_SUFFIX}", style)


def main(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL...]")] = None,
    optimize_style: Annotated[
        bool, typer.Option("--optimize-style", help="Optimize each style for everyday photographs.")
    ] = False,
    vgg: VggOption = None,
) -> None:
    """Make the shipped styles again."""
    for wanted in models or MODELS:
        make_styles(wanted, vgg, optimize_style=optimize_style)


if __name__ == "__main__":
    run_alone(main)
