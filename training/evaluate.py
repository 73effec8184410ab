"""Held-out figures of a bundle: ``python -m mst_deploy.training.evaluate --help``.

Every held-out style is paired with held-out photographs, stylised as a user would do it, and compared
in the normalised VGG-19: relative content distance at relu4_1, relative Gram distance at relu1_1..4_1.
Both are 0 for equality; the photograph itself has content 0 and the largest style distance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mst_deploy.backends import Generator, Images, StyleEncoder, open_generator, open_style_encoder
from mst_deploy.console import progress
from mst_deploy.images import resize_short_side
from mst_deploy.pipeline import stylize_image
from mst_deploy.shipped import DEFAULT_BUNDLE
from mst_deploy.styling import encode_film
from mst_deploy.training.data import StoredImage, load_images, read_hash_list
from mst_deploy.training.losses import gram, style_loss
from mst_deploy.training.vgg import STYLE_TAPS, Vgg19, load_vgg

SIZE = 384  # side of the compared pictures, pixels


@dataclass(frozen=True)
class Pair:
    """Distances of one stylised photograph, and of the photograph itself from the style."""

    content: str
    style: str
    content_distance: float
    style_distance: float
    photo_style_distance: float


@torch.inference_mode()
def evaluate_pairs(
    generator: Generator,
    encoder: StyleEncoder,
    vgg: Vgg19,
    pairs: list[tuple[StoredImage, StoredImage]],
) -> list[Pair]:
    """Stylise and compare every (content, style) pair at SIZE x SIZE centre crops."""
    results = []
    with progress("evaluating", len(pairs), unit="pairs/s") as tell:
        for done, (content, style) in enumerate(pairs, start=1):
            photo, artwork = centre_crop(content.decode()), centre_crop(style.decode())
            stylized = stylize_image(photo, generator, encode_film(encoder, style.decode()))
            results.append(Pair(content.name, style.name, *distances(vgg, photo, artwork, stylized)))
            tell(done)
    return results


@torch.inference_mode()
def distances(vgg: Vgg19, photo: Images, artwork: Images, stylized: Images) -> tuple[float, float, float]:
    """Relative content distance, relative style distance, and the photo's own style distance.

    Pictures (H, W, 3) uint8; the artwork may have another size.
    """
    taps = [vgg(as_tensor(image)) for image in (photo, artwork, stylized)]
    grams = [{name: gram(tapped[name]) for name in STYLE_TAPS[:4]} for tapped in taps]
    wanted, found = taps[0]["relu4_1"], taps[2]["relu4_1"]
    content = float((found - wanted).square().sum() / wanted.square().sum())
    return content, float(style_loss(grams[2], grams[1])), float(style_loss(grams[0], grams[1]))


def centre_crop(image: Images, size: int = SIZE) -> Images:
    """(size, size, 3) out of the middle of the image at short side ``size``."""
    image = resize_short_side(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def as_tensor(image: Images) -> torch.Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def pair_up(
    contents: list[StoredImage], styles: list[StoredImage], each: int
) -> list[tuple[StoredImage, StoredImage]]:
    """``each`` photographs for every style, in turn, the same in every run."""
    return [
        (contents[(index * each + turn) % len(contents)], style)
        for index, style in enumerate(styles)
        for turn in range(each)
    ]


def main(
    content: Annotated[list[Path], typer.Option(help="Folder or tar file of photographs.")],
    style: Annotated[list[Path], typer.Option(help="Folder or tar file of artworks.")],
    held_out: Annotated[Path, typer.Option(help="Text file of SHA-256 hashes: only these are used.")],
    vgg: Annotated[Path, typer.Option(help="VGG-19 weights.")],
    vgg_scales: Annotated[Path | None, typer.Option(help="Factors that normalise VGG-19.")] = None,
    model: Annotated[Path, typer.Option(help="Model bundle.")] = DEFAULT_BUNDLE,
    each: Annotated[int, typer.Option(help="Photographs per style.")] = 2,
) -> None:
    """Mean held-out distances of a bundle as JSON."""
    kept = read_hash_list(held_out)
    pairs = pair_up(load_images(content, kept, keep=True), load_images(style, kept, keep=True), each)
    results = evaluate_pairs(
        open_generator(model), open_style_encoder(model), load_vgg(vgg, vgg_scales), pairs
    )
    means = {
        name: round(float(np.mean([getattr(result, name) for result in results])), 4)
        for name in ("content_distance", "style_distance", "photo_style_distance")
    }
    medians = {
        f"median_{name}": round(float(np.median([getattr(result, name) for result in results])), 4)
        for name in means
    }
    print(json.dumps({"pairs": len(results), "size": SIZE, **means, **medians}, indent=2))


if __name__ == "__main__":
    typer.run(main)
