"""All ways of bringing the style in, trained alike and compared: ``python -m mst_deploy.training.compare``.

Every network sees the same photographs in the same order, as many of them, with the same settings and
seed. The conditioned ones learn all training artworks of the movements; a Johnson network learns one
artwork, so there is one for each movement. Compared are

* seen: the artwork of each movement that its Johnson network learned; all networks have seen it;
* unseen: held-out artworks of the same movements; a Johnson network can do nothing with them.

Photographs are held out in both. What is written can be continued: networks that are finished are kept.
All results are kept as sets in ``pictures/``, for ``mst eval images --pairs film-seen.csv`` and so on.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mst_deploy.cli.console import echo, progress
from mst_deploy.datasets import ImageFile, fingerprint, load_images, read_hash_list
from mst_deploy.errors import InputError
from mst_deploy.files import replacing
from mst_deploy.images import Image, center_crop, save_image
from mst_deploy.model.checkpoints import Networks, load_checkpoint, new_networks, save_checkpoint
from mst_deploy.model.injections import INJECTIONS
from mst_deploy.perceptual.distances import Distances
from mst_deploy.perceptual.vgg import Vgg19, load_vgg
from mst_deploy.training.config import PAPER, Stage, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.pretrained import load_trunk_into
from mst_deploy.training.run_folder import gather_facts
from mst_deploy.training.running import make_fabric
from mst_deploy.training.samples import default_workers
from mst_deploy.training.stylizer import Stylizer, stylize_pictures

# The deck's six movements and the folders that stand for them. No surrealist's works are in the public
# domain; symbolism, from which surrealism came, is in its place.
MOVEMENTS = {
    "Impressionism": ("impressionism",),
    "Cubism": ("cubism-and-orphism",),
    "Post-impressionism": ("post-impressionism-van-gogh", "post-impressionism-cezanne"),
    "Expressionism": ("expressionism-munch", "german-austrian-expressionism"),
    "Surrealism (symbolism)": ("symbolism",),
    "Abstraction": ("abstraction-kandinsky", "geometric-abstraction"),
}
CONDITIONED = tuple(name for name in INJECTIONS if name != "johnson")
VIEW = 256  # side of the compared pictures and artworks, pixels


@dataclass(frozen=True)
class Row:
    """Mean distances of one network (or a row of Johnson networks) on one movement."""

    movement: str
    injection: str
    artworks: str
    """seen or unseen."""
    pairs: int
    content: float
    style: float
    photo_style: float
    """Style distance of the photographs themselves."""


def settings(images: int, crop: int, batch: int) -> TrainConfig:
    """One configuration for all: ``images`` samples of ``crop`` pixels."""
    return TrainConfig(
        stages=(Stage(0.4, crop, batch, 10.0), Stage(1.0, crop, batch, 25.0)),
        steps=max(1, images // batch),
        warmup_steps=50,
        identity_share=0.0,
        temporal_weight=0.0,
        strength_share=0.0,
        color_shift_share=0.0,
        expressive_weight=1.0,
        style_views=4,
        ema_decay=0.99,
    )


def of_movement(images: list[ImageFile], movement: str) -> list[ImageFile]:
    return [image for image in images if image.group in MOVEMENTS[movement]]


def trained(
    path: Path,
    injection: str,
    styles: list[ImageFile],
    contents: list[ImageFile],
    config: TrainConfig,
    vgg: Vgg19,
    inception: Path | None,
    device: str,
) -> Networks:
    """The network in ``path``, trained now if it is not there yet."""
    if path.exists():
        return load_checkpoint(path)
    torch.manual_seed(config.seed)
    network = replace(PAPER.network, injection=injection)
    config = replace(config, network=network, gram_pretraining_steps=0)
    networks = new_networks(config.network)
    if networks.encoder is not None:
        load_trunk_into(networks.encoder, inception)
    fabric = make_fabric(device, config.precision)
    trainer = Trainer(
        config, networks, vgg, contents, styles, fabric, workers=default_workers(fabric.device.type)
    )
    trainer.initialize_encoder()
    with progress(path.stem, config.steps, unit="steps/s") as tell:
        trainer.run(lambda report: tell(report.step), lambda: None, log_every=10)
    save_checkpoint(path, trainer.result(vgg.describe()))
    return load_checkpoint(path)


@dataclass(frozen=True)
class View:
    """A picture that is compared, and what it is called in the sets that are kept."""

    name: str
    image: Image


def view_of(image: ImageFile) -> View:
    return View(image.name.rpartition(".")[0].replace("/", "_") + ".png", center_crop(image.decode(), VIEW))


def measure(
    networks: Networks,
    distances: Distances,
    movement: str,
    kind: str,
    photos: list[View],
    artworks: list[View],
    folder: Path,
) -> tuple[Row, Image]:
    """Mean distances over all photographs and artworks, and the first result as a picture.

    All pictures are kept in ``folder`` as a set that ``mst eval images`` measures.
    """
    stylizer = Stylizer(networks).eval()
    injection = networks.config.injection
    found, first = [], None
    for artwork in artworks:
        results = stylize_pictures(stylizer, distances.vgg, [photo.image for photo in photos], artwork.image)
        for photo, result in zip(photos, results, strict=True):
            first = result if first is None else first
            found.append(distances(photo.image, artwork.image, result))
            keep(folder, f"{injection}-{kind}", movement, photo, artwork, result)
    content, style, photo_style = (round(float(value), 4) for value in np.mean(found, axis=0))
    assert first is not None
    return Row(movement, injection, kind, len(found), content, style, photo_style), first


def keep(folder: Path, system: str, movement: str, photo: View, artwork: View, result: Image) -> None:
    """Add a result to the set ``folder``/``system``: three pictures and a line of its list of pairs."""
    name = f"{photo.name.removesuffix('.png')}--{artwork.name}"
    for place, view in (("content", photo), ("style", artwork), (system, View(name, result))):
        (folder / place).mkdir(parents=True, exist_ok=True)
        if place == system or not (folder / place / view.name).exists():
            save_image(folder / place / view.name, view.image)
    listed = folder / f"{system}.csv"
    with listed.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["content", "style", "stylized", "group"])
        writer.writerow([photo.name, artwork.name, name, movement])


def table(rows: list[Row], kind: str, value: str) -> str:
    """A Markdown table of one figure: movements down, injections across, means last."""
    names = [name for name in INJECTIONS if any(r.injection == name and r.artworks == kind for r in rows)]
    lines = [f"| movement | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    picked = {(r.movement, r.injection): getattr(r, value) for r in rows if r.artworks == kind}
    for movement in MOVEMENTS:
        if (movement, names[0]) in picked:
            cells = " | ".join(f"{picked[movement, name]:.3f}" for name in names)
            lines.append(f"| {movement} | {cells} |")
    means = [np.mean([v for (_, n), v in picked.items() if n == name]) for name in names]
    lines.append(f"| mean | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


def main(
    content: Annotated[list[Path], typer.Option(help="Photographs: folder, tar file or list.")],
    style: Annotated[list[Path], typer.Option(help="Artworks in one folder a movement.")],
    held_out: Annotated[
        Path, typer.Option(help="Text file of SHA-256 hashes of what is kept for measuring.")
    ],
    vgg: Annotated[Path, typer.Option(help="VGG-19 weights.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for networks, JSON and pictures.")],
    vgg_scales: Annotated[Path | None, typer.Option(help="Factors that normalize VGG-19.")] = None,
    inception: Annotated[Path | None, typer.Option(help="Inception-v3. Default: that of base.")] = None,
    images: Annotated[int, typer.Option(help="Samples each network sees.")] = 3200,
    crop: Annotated[int, typer.Option(help="Side of the crops, pixels.")] = 128,
    batch: Annotated[int, typer.Option(help="Samples a step.")] = 4,
    photos: Annotated[int, typer.Option(help="Held-out photographs for measuring.")] = 12,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train and compare the five conditioned networks and six Johnson networks."""
    output.mkdir(parents=True, exist_ok=True)
    kept = read_hash_list(held_out)
    contents, artworks = load_images(content, kept), load_images(style, kept)
    unseen = load_images(style, kept, keep=True)
    network = load_vgg(vgg, vgg_scales)
    config = settings(images, crop, batch)
    learned = [image for movement in MOVEMENTS for image in of_movement(artworks, movement)]
    if missing := [movement for movement in MOVEMENTS if not of_movement(artworks, movement)]:
        raise InputError(f"no artworks of {', '.join(missing)}; folders wanted: {MOVEMENTS[missing[0]]}")
    nets: dict[str, Networks] = {}
    for name in CONDITIONED:
        path = output / f"{name}.safetensors"
        nets[name] = trained(path, name, learned, contents, config, network, inception, device)
        echo(f"{name}: {nets[name].training['seconds']} s")
    for movement in MOVEMENTS:
        own = of_movement(artworks, movement)[:1]
        path = output / f"johnson-{MOVEMENTS[movement][0]}.safetensors"
        nets[movement] = trained(path, "johnson", own, contents, config, network, inception, device)
        echo(f"johnson, {movement}: {nets[movement].training['seconds']} s")
    views = [view_of(image) for image in load_images(content, kept, keep=True)[:photos]]
    distances = Distances(network)
    pictures_kept = output / "pictures"
    for stale in pictures_kept.glob("*.csv"):
        stale.unlink()
    rows: list[Row] = []
    sheet: list[Image] = []
    for movement in MOVEMENTS:
        line = []
        for kind, chosen in (
            ("seen", of_movement(artworks, movement)[:1]),
            ("unseen", of_movement(unseen, movement)),
        ):
            pictures = [view_of(image) for image in chosen]
            for name in (*CONDITIONED, movement) if kind == "seen" else CONDITIONED:
                if pictures:
                    row, first = measure(
                        nets[name], distances, movement, kind, views, pictures, pictures_kept
                    )
                    rows.append(row)
                    line += [first] if kind == "seen" else []
            if kind == "seen":
                line = [views[0].image, pictures[0].image, *line]
        sheet.append(np.concatenate(line, axis=1))
    save_image(output / "comparison.jpg", np.concatenate(sheet, axis=0))
    facts: dict[str, Any] = gather_facts(
        config=config.to_dict(),
        losses=network.describe(),
        size=VIEW,
        data={"content": fingerprint(contents), "style": fingerprint(learned)},
        seconds={name: net.training["seconds"] for name, net in nets.items()},
        learned=[image.name for image in learned],
    )
    facts.pop("command")
    with replacing(output / "comparison.json") as temporary:
        temporary.write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    for kind in ("seen", "unseen"):
        for value in ("style", "content"):
            print(f"\n{value} distance, {kind} artworks\n\n{table(rows, kind, value)}")


if __name__ == "__main__":
    typer.run(main)
