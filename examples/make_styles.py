"""Make the shipped styles from the paintings beside this file: ``python examples/make_styles.py [MODEL...]``.

Run it after a shipped model has changed; a style fits only the model that made it. Without names all
models get theirs.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

from mst_deploy.backends import open_style_encoder
from mst_deploy.film import STYLE_SUFFIX, save_style
from mst_deploy.shipped import MODELS, bundle_path, style_folder
from mst_deploy.styling import make_style

PAINTINGS = Path(__file__).parent / "paintings"


def make_styles(model: str) -> None:
    """Replace all styles of one model."""
    encoder, folder = open_style_encoder(bundle_path(model), device="cpu"), style_folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*{STYLE_SUFFIX}"):
        old.unlink()
    with (PAINTINGS / "paintings.csv").open(encoding="utf-8", newline="") as file:
        for credit in csv.DictReader(file):
            name = credit.pop("name")
            style = make_style(encoder, PAINTINGS / f"{name}.jpg", name)
            save_style(folder / f"{name}{STYLE_SUFFIX}", replace(style, credit=credit))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or MODELS:
        make_styles(wanted)
