"""Make the tables and plots of docs/recipe.md.

    python docs/make_recipe.py summaries --content FOLDER --style FOLDER --vgg FILE --inception FILE
    python docs/make_recipe.py frontier  --ours REPORT --others REPORT --others REPORT ...

Figures go to docs/recipe.json, the plot to docs/recipe_frontier.png. Needs the extra [plots].
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from mst_deploy.console import progress
from mst_deploy.image_sets import load_images, read_hash_list
from mst_deploy.inception import STAGES
from mst_deploy.networks import NetworkConfig, StyleEncoder, colour_covariances, moments
from mst_deploy.perceptual import GRAM_LAYERS, as_tensor, gram_target
from mst_deploy.training.data import random_crop, shift_colours
from mst_deploy.vgg import load_vgg
from mst_deploy.weights import load_inception

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
HELD_OUT = HERE.parent / "training" / "held_out.txt"
SIDE = 256
ENTRIES = 1500  # of each Gram matrix, drawn at random: enough for its relative distance
PHOTOS = 800
STEPS, BATCH, RATE = 260, 128, 1e-3
EMBEDDING, HIDDEN = 256, 512

EARLY = ["picture", "Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d"]
CHOICES = {
    "mean of Mixed_6e (published)": (["Mixed_6e mean"], 0),
    "moments of Mixed_6e": (["Mixed_6e"], 0),
    "moments of the picture": (["picture"], 0),
    "moments of Mixed_5d": (["Mixed_5d"], 0),
    "moments of picture, 2b, 4a, 5d": (EARLY, 0),
    "moments of picture, 2b, 4a, 5d, 6e": ([*EARLY, "Mixed_6e"], 0),
    "moments of picture, 2b, 4a, 5d; hidden layer": (EARLY, HIDDEN),
    "mean of Mixed_6e; hidden layer": (["Mixed_6e mean"], HIDDEN),
}

app = typer.Typer(help=__doc__, add_completion=False)


def keep(name: str, figures: Any) -> None:
    """Put figures under a name into recipe.json."""
    file = HERE / "recipe.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


@dataclass(frozen=True)
class Looked:
    """What the networks say of N pictures."""

    summaries: dict[str, Tensor]
    """Name -> (N, numbers)."""
    grams: Tensor
    """(N, layers, ENTRIES)."""
    sizes: Tensor
    """(N, layers): Euclidean length of ``grams``."""
    held_out: Tensor
    """(N,) bool."""


def pictures(content: list[Path], style: list[Path]) -> list[tuple[Any, bool]]:
    """Crops of artworks, of the same in other palettes, and of photographs; True marks the held out."""
    kept = read_hash_list(HELD_OUT)
    rng = np.random.default_rng(0)
    found = [(random_crop(art.decode(), SIDE, 1.0, rng), True) for art in load_images(style, kept, keep=True)]
    learnt = load_images(style, kept)
    for art in learnt:
        found.append((random_crop(art.decode(), SIDE, 1.8, rng), False))
    for art in learnt:
        found.append((shift_colours(random_crop(art.decode(), SIDE, 1.8, rng), rng), False))
    photos = load_images(content, kept)
    for index in rng.permutation(len(photos))[:PHOTOS]:
        found.append((random_crop(photos[index].decode(), SIDE, 1.2, rng), False))
    return found


def summaries_of(encoder: StyleEncoder, image: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "picture", torch.cat([moments(image), colour_covariances(image)], dim=1)
    for name, features in zip(STAGES, encoder.trunk.stages(image * 2 - 1), strict=True):
        yield name, moments(features)
        yield f"{name} mean", features.float().mean(dim=(2, 3))


@torch.no_grad()
def look(found: list[tuple[Any, bool]], encoder: StyleEncoder, vgg: Any) -> Looked:
    rng = np.random.default_rng(0)
    chosen = {name: torch.from_numpy(rng.permutation(size)[:ENTRIES]) for name, size in
              zip(GRAM_LAYERS, (64**2, 128**2, 256**2, 512**2), strict=True)}  # fmt: skip
    rows: list[dict[str, Tensor]] = []
    grams = []
    with progress("looking", len(found), unit="pictures/s") as tell:
        for number, (picture, _) in enumerate(found, 1):
            image = as_tensor(picture)
            with torch.autocast("cpu", torch.bfloat16):
                rows.append(dict(summaries_of(encoder, image)))
                target = gram_target(vgg(image))
            grams.append(torch.stack([target[name].flatten()[chosen[name]] for name in GRAM_LAYERS]))
            tell(number)
    every = torch.stack(grams)
    return Looked({name: torch.cat([row[name] for row in rows]) for name in rows[0]}, every,
                  every.norm(dim=2), torch.tensor([held for _, held in found]))  # fmt: skip


class Reader(nn.Module):
    """The encoder's head, as StyleEncoder has it, and a linear map to Gram entries in the place of film."""

    def __init__(self, inputs: int, hidden: int, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        self.project = nn.Linear(inputs, EMBEDDING)
        self.hidden = nn.Linear(inputs, hidden) if hidden else None
        self.correct = nn.Linear(max(hidden, 1), EMBEDDING, bias=False)
        nn.init.zeros_(self.correct.weight)
        self.read = nn.Linear(EMBEDDING, mean.numel())
        nn.init.normal_(self.read.weight, std=0.01)
        nn.init.zeros_(self.read.bias)

    def forward(self, summary: Tensor) -> Tensor:
        h = self.project(summary)
        if self.hidden is not None:
            h = h + self.correct(F.relu(self.hidden(summary)))
        z = EMBEDDING**0.5 * F.normalize(h, dim=1)
        found: Tensor = self.read(z).view(-1, *self.mean.shape) * self.spread + self.mean
        return found


def learn(looked: Looked, names: list[str], hidden: int) -> dict[str, float]:
    """Mean and median over the held-out artworks of ||G - T||^2 / ||T||^2, mean over layers."""
    torch.manual_seed(0)
    known = ~looked.held_out
    raw = torch.cat([looked.summaries[name] for name in names], dim=1)
    summary = (raw - raw[known].mean(dim=0)) / (raw[known].std(dim=0) + 1e-5)
    target = looked.grams
    reader = Reader(summary.shape[1], hidden, target[known].mean(dim=0), target[known].std(dim=0))
    optimizer = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=0.01)
    rows = known.nonzero()[:, 0]

    def distance(index: Tensor) -> Tensor:
        error = (reader(summary[index]) - target[index]) / looked.sizes[index][:, :, None]
        return error.square().sum(dim=2).mean(dim=1)

    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        distance(rows[torch.randint(len(rows), (BATCH,))]).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        found = distance(looked.held_out.nonzero()[:, 0])
    return {"numbers": summary.shape[1], "mean": round(found.mean().item(), 3),
            "median": round(found.median().item(), 3)}  # fmt: skip


@app.command()
def summaries(
    content: Annotated[list[Path], typer.Option(help="Photographs: folder or tar file.")],
    style: Annotated[list[Path], typer.Option(help="Artworks: folders or tar files.")],
    vgg: Annotated[Path, typer.Option(help="VGG-19 weights.")],
    inception: Annotated[Path, typer.Option(help="Inception-v3 to Mixed_6e.")],
    vgg_scales: Annotated[Path | None, typer.Option(help="Factors that normalise VGG-19.")] = None,
) -> None:
    """How much of an unseen artwork's Gram matrices can be read off what the encoder knows of it."""
    encoder = StyleEncoder(NetworkConfig(statistics="mean", hidden_size=0)).eval()
    load_inception(encoder, inception)
    looked = look(pictures(content, style), encoder, load_vgg(vgg, vgg_scales))
    keep("summaries", {name: learn(looked, *choice) for name, choice in CHOICES.items()})


@app.command()
def frontier(
    ours: Annotated[list[Path], typer.Option(help="Reports of mst eval, one for each strength.")],
    others: Annotated[list[Path], typer.Option(help="Reports of other systems.")],
) -> None:
    """Style against content, both lower is better, on the same pairs."""
    figure, axes = plt.subplots(figsize=(7, 5))
    points = {}
    for path in [*ours, *others]:
        report = json.loads((path / "report.json").read_text())
        means = report["summary"]["means"]
        points[report["system"]] = (means["content"]["mean"], means["style"]["mean"])
    mine = [points[json.loads((path / "report.json").read_text())["system"]] for path in ours]
    axes.plot(*zip(*sorted(mine), strict=True), "o-", label="mst, by strength")
    for name, (x, y) in list(points.items())[len(ours) :]:
        axes.plot(x, y, "s", label=name)
    axes.set(xlabel="content distance", ylabel="style distance", yscale="log", title="Held-out pairs, mean")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "recipe_frontier.png", dpi=120, bbox_inches="tight")
    keep("frontier", {name: {"content": x, "style": y} for name, (x, y) in points.items()})


if __name__ == "__main__":
    app()
