"""Make the shipped styles from the paintings beside this file: ``python examples/make_styles.py``.

Run it after the shipped model has changed; a style fits only the model that made it.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from mst_deploy.backends import open_style_encoder
from mst_deploy.film import STYLE_SUFFIX, save_style
from mst_deploy.shipped import DEFAULT_BUNDLE, STYLE_FOLDER
from mst_deploy.styling import make_style

PAINTINGS = Path(__file__).parent / "paintings"


def main() -> None:
    encoder = open_style_encoder(DEFAULT_BUNDLE, device="cpu")
    STYLE_FOLDER.mkdir(exist_ok=True)
    for old in STYLE_FOLDER.glob(f"*{STYLE_SUFFIX}"):
        old.unlink()
    with (PAINTINGS / "paintings.csv").open(encoding="utf-8", newline="") as file:
        for credit in csv.DictReader(file):
            name = credit.pop("name")
            style = make_style(encoder, PAINTINGS / f"{name}.jpg", name)
            save_style(STYLE_FOLDER / f"{name}{STYLE_SUFFIX}", replace(style, credit=credit))


if __name__ == "__main__":
    main()
