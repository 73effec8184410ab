"""Make the table of docs/recipe.md: how well Gram matrices can be predicted from the encoder's statistics.

    python -m tools.docs.make_recipe --content FOLDER --style FOLDER --vgg FILE --inception FILE

Figures go to docs/recipe.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mst_deploy.cli.console import progress
from mst_deploy.datasets import load_images, read_hash_list
from mst_deploy.model.checkpoints import load_inception
from mst_deploy.model.inception import STAGES
from mst_deploy.model.networks import NetworkConfig, StyleEncoder, color_covariances, moments
from mst_deploy.perceptual.distances import GRAM_LAYERS, as_tensor, gram_target
from mst_deploy.perceptual.vgg import load_vgg
from mst_deploy.training.data import random_crop, shift_colors
from mst_deploy.training.encoder_init import fitted, gram_coordinates, gram_entries, pretrain_to_grams, whiten
from tools.docs import DOCS, HELD_OUT

SIDE = 256
PHOTOS = 800
HIDDEN = 512
MIXTURES = 64
FEW = 2  # views of each artwork in the smaller set


@dataclass(frozen=True)
class Choice:
    """A choice of the encoder's statistics, and of their training."""

    names: tuple[str, ...]
    hidden_layers: int = 0
    views: int = FEW
    steps: int = 3000


EARLY = ("picture", "Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d")
VIEWS = 8
CHOICES = {
    "mean of Mixed_6e (published)": Choice(("Mixed_6e mean",)),
    "moments of Mixed_6e": Choice(("Mixed_6e",)),
    "moments of the picture": Choice(("picture",)),
    "moments of Mixed_5d": Choice(("Mixed_5d",)),
    "moments of picture, 2b, 4a, 5d": Choice(EARLY),
    "moments of picture, 2b, 4a, 5d, 6e": Choice((*EARLY, "Mixed_6e")),
    "mean of Mixed_6e; hidden layer": Choice(("Mixed_6e mean",), 1),
    "moments of picture, 2b, 4a, 5d; hidden layer": Choice(EARLY, 1),
    "the same in 260 steps": Choice(EARLY, 1, steps=260),
    "the same, 8 views of each artwork": Choice(EARLY, 1, VIEWS),
    "two hidden layers, 8 views": Choice(EARLY, 2, VIEWS),
    "the same, 12,000 steps": Choice(EARLY, 2, VIEWS, steps=12_000),
    "and covariances of 2b": Choice((*EARLY, "Conv2d_2b_3x3 covariances"), 2, VIEWS),
    "and covariances of 2b, 4a": Choice(
        (*EARLY, "Conv2d_2b_3x3 covariances", "Conv2d_4a_3x3 covariances"), 2, VIEWS
    ),
    "and covariances of 2b, 4a, 5d": Choice(
        (*EARLY, "Conv2d_2b_3x3 covariances", "Conv2d_4a_3x3 covariances", "Mixed_5d covariances"), 2, VIEWS
    ),
}

app = typer.Typer(help=__doc__, add_completion=False)


def keep(name: str, figures: Any) -> None:
    """Put figures under a name into recipe.json."""
    file = DOCS / "recipe.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


@dataclass(frozen=True)
class NetworkOutputs:
    """Outputs of the networks for N pictures."""

    summaries: dict[str, Tensor]
    """Statistics by name, (N, numbers) each."""
    entries: Tensor
    """Entries of the Gram matrices, (N, layers, entries)."""
    view: Tensor
    """Number of the view (N,): 0 for photographs, -1 for held-out artworks, else 1, 2, ..."""


def pictures(content: list[Path], style: list[Path]) -> list[tuple[Any, int]]:
    """Yield crops of artworks, some in other palettes, and of photographs, with the number of the view."""
    kept = read_hash_list(HELD_OUT)
    rng = np.random.default_rng(0)
    found = [(random_crop(art.decode(), SIDE, 1.0, rng), -1) for art in load_images(style, kept, keep=True)]
    learned = load_images(style, kept)
    for view in range(1, VIEWS + 1):
        for art in learned:
            crop = random_crop(art.decode(), SIDE, 1.8, rng)
            found.append((crop if view == 1 else shift_colors(crop, rng), view))
    photos = load_images(content, kept)
    for index in rng.permutation(len(photos))[:PHOTOS]:
        found.append((random_crop(photos[index].decode(), SIDE, 1.2, rng), 0))
    return found


def summaries_of(encoder: StyleEncoder, image: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "picture", torch.cat([moments(image), color_covariances(image)], dim=1)
    for name, features in zip(STAGES, encoder.trunk.stages(image * 2 - 1), strict=True):
        yield name, moments(features)
        yield f"{name} mean", features.float().mean(dim=(2, 3))
        yield f"{name} covariances", covariances(features)


def covariances(features: Tensor) -> Tensor:
    """Return covariances of MIXTURES fixed mixtures of the channels: (N, C, H, W) -> (N, M (M + 1) / 2)
    float32."""
    flat = features.float().flatten(2)
    count = min(MIXTURES, flat.shape[1])
    fixed = torch.Generator().manual_seed(0)
    mixing: Tensor = torch.linalg.qr(torch.randn(flat.shape[1], count, generator=fixed)).Q.T  # (M, C)
    mixed = mixing @ (flat - flat.mean(dim=2, keepdim=True))
    products = mixed @ mixed.transpose(1, 2) / flat.shape[2]
    upper = torch.triu_indices(count, count)
    return products[:, upper[0], upper[1]]


@torch.no_grad()
def network_outputs(found: list[tuple[Any, int]], encoder: StyleEncoder, vgg: Any) -> NetworkOutputs:
    rows: list[dict[str, Tensor]] = []
    entries = []
    with progress("evaluating", len(found), unit="pictures/s") as on_progress:
        for number, (picture, _) in enumerate(found, 1):
            image = as_tensor(picture)
            with torch.autocast("cpu", torch.bfloat16):
                rows.append(dict(summaries_of(encoder, image)))
                target = gram_target(vgg(image))
            entries.append(gram_entries({name: target[name][0] for name in GRAM_LAYERS}))
            on_progress(number)
    together = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return NetworkOutputs(together, torch.stack(entries), torch.tensor([view for _, view in found]))


def head(config: NetworkConfig, numbers: int) -> StyleEncoder:
    """Return a style encoder for statistics of any length; its Inception is not used."""
    encoder = StyleEncoder(config)
    encoder.project = nn.Linear(numbers, config.embedding_size)
    if config.hidden_size:
        encoder.hidden = nn.Linear(numbers, config.hidden_size)
    encoder.center, encoder.spread = torch.zeros(numbers), torch.ones(numbers)
    return encoder


def learn(outputs: NetworkOutputs, choice: Choice) -> dict[str, float]:
    """Return mean and median over the held-out artworks of ||G - T||^2 / ||T||^2, mean over layers.

    The embedding is trained as the shipped encoder's was (``encoder_init``); then the entries are predicted
    from it by least squares.
    """
    torch.manual_seed(0)
    known, unseen = (outputs.view >= 0) & (outputs.view <= choice.views), outputs.view < 0
    summary = torch.cat([outputs.summaries[name] for name in choice.names], dim=1)
    config = NetworkConfig(
        hidden_size=HIDDEN if choice.hidden_layers else 0, hidden_layers=max(1, choice.hidden_layers)
    )
    encoder = head(config, summary.shape[1])
    whiten(encoder, summary[known])
    pretrain_to_grams(encoder, summary[known], gram_coordinates(outputs.entries[known]), choice.steps)
    sizes = outputs.entries.norm(dim=2)
    with torch.no_grad():
        read = fitted(encoder.embed(summary[known]), outputs.entries[known].flatten(1))
        found = read(encoder.embed(summary[unseen])).view(-1, *outputs.entries.shape[1:])
    missed = (found - outputs.entries[unseen]).norm(dim=2) / sizes[unseen]
    distance = missed.square().mean(dim=1)
    return {
        "numbers": summary.shape[1],
        "mean": round(distance.mean().item(), 3),
        "median": round(distance.median().item(), 3),
    }


@app.command()
def summaries(
    content: Annotated[list[Path], typer.Option(help="Photographs: folder or tar file.")],
    style: Annotated[list[Path], typer.Option(help="Artworks: folders or tar files.")],
    vgg: Annotated[Path, typer.Option(help="VGG-19 weights.")],
    inception: Annotated[Path, typer.Option(help="Inception-v3 to Mixed_6e.")],
    vgg_scales: Annotated[Path | None, typer.Option(help="Factors that normalize VGG-19.")] = None,
    cache: Annotated[Path | None, typer.Option(help="File that keeps the outputs of the networks.")] = None,
) -> None:
    """Measure how well the Gram matrices of an unseen artwork can be predicted from the encoder's
    statistics."""
    encoder = StyleEncoder(NetworkConfig(statistics="mean", hidden_size=0)).eval()
    load_inception(encoder, inception)
    if cache is not None and cache.exists():
        outputs = NetworkOutputs(**torch.load(cache, weights_only=True))
    else:
        outputs = network_outputs(pictures(content, style), encoder, load_vgg(vgg, vgg_scales))
        if cache is not None:
            torch.save(vars(outputs), cache)
    keep("summaries", {name: learn(outputs, choice) for name, choice in CHOICES.items()})


if __name__ == "__main__":
    app()
