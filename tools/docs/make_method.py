"""Make the plots and figures of docs/method.md.

    python -m tools.docs.make_method averaging  --content FOLDER --style FOLDER --networks FOLDER --vgg FILE
    python -m tools.docs.make_method patches    --content FOLDER --style FOLDER --networks FOLDER --vgg FILE
    python -m tools.docs.make_method embeddings --style FOLDER

``--networks`` is the folder that ``python -m mst_deploy.training.compare`` wrote. Figures go to
docs/method.json, pictures to docs/method_*.png and .jpg. Needs the extra [plots].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import torch
import typer

from mst_deploy.backends import Images, open_generator, open_style_encoder
from mst_deploy.benchmarks.quality.statistics import (
    PALETTE,
    STROKES,
    kept_spread,
    palette,
    seam_contrast,
    seams,
    strokes,
)
from mst_deploy.cli.console import progress
from mst_deploy.datasets import ImageFile, load_images, read_hash_list
from mst_deploy.images import center_crop, resize_short_side, save_image
from mst_deploy.model.checkpoints import load_checkpoint
from mst_deploy.model.injections.patch import FEATURES, match
from mst_deploy.model.zoo import resolve_model
from mst_deploy.perceptual.distances import as_tensor
from mst_deploy.perceptual.vgg import Vgg19, load_vgg
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles.resolve import encode_film
from mst_deploy.training.compare import CONDITIONED, MOVEMENTS, VIEW, of_movement
from mst_deploy.training.style_network import StyleNetwork, stylize_pictures
from tools.docs import DOCS, HELD_OUT

mpl.use("Agg")
from matplotlib import pyplot as plt

PHOTOS = 6
SHOWN = 14  # movements with a color of their own on the map
STATISTICS = {"palette": (palette, PALETTE), "strokes": (strokes, STROKES)}

app = typer.Typer(help=__doc__, add_completion=False)
ContentOption = Annotated[list[Path], typer.Option(help="Photographs: folder or tar file.")]
StyleOption = Annotated[list[Path], typer.Option(help="Artworks in one folder a movement, or tar files.")]
NetworksOption = Annotated[Path, typer.Option(help="Folder of the comparison's networks.")]
VggOption = Annotated[Path, typer.Option(help="VGG-19 weights.")]
ScalesOption = Annotated[Path | None, typer.Option(help="Factors that normalize VGG-19.")]


def keep(name: str, figures: dict[str, Any]) -> None:
    """Put figures under a name into method.json."""
    file = DOCS / "method.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=2, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=2))


def held_out_photos(content: list[Path]) -> list[Images]:
    kept = read_hash_list(HELD_OUT)
    return [center_crop(image.decode(), VIEW) for image in load_images(content, kept, keep=True)[:PHOTOS]]


def spread_table(results: list[list[Images]], artworks: list[Images]) -> dict[str, float]:
    """Return the kept spread of palette and strokes, mean over photographs; ``results`` by photograph, then
    style."""
    return {
        name: round(
            float(
                np.mean(
                    [
                        kept_spread([measure(picture) for picture in row], [measure(art) for art in artworks])
                        for row in results
                    ]
                )
            ),
            3,
        )
        for name, (measure, _) in STATISTICS.items()
    }


@app.command()
def averaging(
    content: ContentOption,
    style: StyleOption,
    networks: NetworksOption,
    vgg: VggOption,
    vgg_scales: ScalesOption = None,
) -> None:
    """Measure how much of the differences between styles is kept in the results."""
    kept = read_hash_list(HELD_OUT)
    photos = held_out_photos(content)
    unseen = [image.decode() for image in load_images(style, kept, keep=True)]
    artworks = [center_crop(image, VIEW) for image in unseen]
    generator, encoder = open_generator(resolve_model()), open_style_encoder(resolve_model())
    films = [encode_film(encoder, image) for image in unseen]
    results: list[list[Images]] = []
    with progress("shipped model", len(photos) * len(films), unit="pictures/s") as on_progress:
        for photo in photos:
            results.append([])
            for film in films:
                results[-1].append(stylize_image(photo, generator, film))
                on_progress(sum(map(len, results)))
    figures: dict[str, Any] = {
        "shipped model, unseen artworks": {**spread_table(results, artworks), "styles": len(artworks)}
    }
    plot_averaging(results, artworks)
    figures.update(spread_of_networks(networks, load_vgg(vgg, vgg_scales), photos, load_images(style, kept)))
    keep("averaging", figures)


def spread_of_networks(
    folder: Path, vgg: Vgg19, photos: list[Images], artworks: list[ImageFile]
) -> dict[str, Any]:
    """Measure the same for the networks of the comparison, on the six artworks that all of them were trained
    on."""
    own = {movement: of_movement(artworks, movement)[0] for movement in MOVEMENTS}
    crops = {movement: center_crop(image.decode(), VIEW) for movement, image in own.items()}
    figures = {}
    for name in (*CONDITIONED, "johnson"):
        columns = []
        for movement, crop in crops.items():
            file = f"johnson-{MOVEMENTS[movement][0]}" if name == "johnson" else name
            stylizer = StyleNetwork(load_checkpoint(folder / f"{file}.safetensors")).eval()
            columns.append(stylize_pictures(stylizer, vgg, photos, crop))
        results = [list(row) for row in zip(*columns, strict=True)]
        figures[f"{name}, six seen artworks"] = {
            **spread_table(results, list(crops.values())),
            "styles": len(crops),
        }
    return figures


def plot_averaging(results: list[list[Images]], artworks: list[Images]) -> None:
    """Plot each statistic of a result against that of its style, with the line of no averaging."""
    chosen = [("palette", 0), ("palette", 1), ("palette", 2), ("strokes", 0), ("strokes", 2), ("strokes", 4)]
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), constrained_layout=True)
    for axis, (kind, index) in zip(axes.flat, chosen, strict=True):
        measure, names = STATISTICS[kind]
        wanted = np.array([measure(art)[index] for art in artworks])
        found = np.array([[measure(picture)[index] for picture in row] for row in results])
        slope = np.polyfit(np.tile(wanted, len(found)), found.ravel(), 1)[0]
        limits = [min(wanted.min(), found.min()), max(wanted.max(), found.max())]
        axis.plot(limits, limits, color="0.6", linewidth=1)
        for row in found:
            axis.plot(wanted, row, ".", markersize=4, alpha=0.5, color="tab:blue")
        label = names[index] if kind == "palette" or index == 4 else f"detail of {names[index]}"
        axis.set_title(f"{label}: slope {slope:.2f}", fontsize=10)
    figure.supxlabel("in the artwork")
    figure.supylabel("in the stylized photograph")
    figure.savefig(DOCS / "method_averaging.png", dpi=90)


@app.command()
def patches(
    content: ContentOption,
    style: StyleOption,
    networks: NetworksOption,
    vgg: VggOption,
    vgg_scales: ScalesOption = None,
) -> None:
    """Measure how often patch matching separates neighbors, and how visible it is."""
    network = load_vgg(vgg, vgg_scales)
    photos = held_out_photos(content)
    artworks = load_images(style, read_hash_list(HELD_OUT))
    nets = {
        name: StyleNetwork(load_checkpoint(networks / f"{name}.safetensors")).eval()
        for name in ("patch", "film")
    }
    torn, contrast, sheet = [], {name: [] for name in (*nets, "photo")}, []  # type: ignore[var-annotated]
    for movement in MOVEMENTS:
        crop = center_crop(of_movement(artworks, movement)[0].decode(), VIEW)
        with torch.inference_mode():
            offered = network(as_tensor(crop))[FEATURES][0]
            maps = [match(network(as_tensor(photo))[FEATURES][0], offered).numpy() for photo in photos]
        tears = [seams(found, offered.shape[2] - 2) for found in maps]
        torn += [tear.mean() for tear in tears]
        made = {name: stylize_pictures(net, network, photos, crop) for name, net in nets.items()}
        made["photo"] = photos
        for name, pictures in made.items():
            contrast[name] += [seam_contrast(p, t) for p, t in zip(pictures, tears, strict=True)]
        shown = np.repeat(resize_mask(tears[1])[..., None], 3, axis=2)
        sheet.append(np.concatenate([photos[1], crop, made["film"][1], made["patch"][1], shown], axis=1))
    save_image(DOCS / "method_patches.jpg", np.concatenate(sheet[1::2], axis=0))
    keep(
        "patches",
        {
            "neighbors torn apart": round(float(np.mean(torn)), 3),
            "step at seams over step elsewhere": {
                name: round(float(np.mean(values)), 3) for name, values in contrast.items()
            },
            "pairs": len(torn),
        },
    )


def resize_mask(seam: Any) -> Images:
    """Resize a seam map (h, w-1) to a VIEW x VIEW gray picture: white where neighbors were separated."""
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(~seam).float()[None, None], (VIEW, VIEW), mode="nearest"
    )
    return np.asarray((1 - scaled[0, 0].numpy()) * 255, np.uint8)


@app.command()
def embeddings(style: StyleOption) -> None:
    """Plot the embeddings of artworks by the shipped encoder, by t-SNE, colored by movement."""
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    images = load_images(style)
    encoder = open_style_encoder(resolve_model())
    points = []
    with progress("encoding", len(images), unit="pictures/s") as on_progress:
        for done, image in enumerate(images, start=1):
            picture = resize_short_side(image.decode(), encoder.manifest.style_size)
            points.append(encoder(picture[None])[0][0])
            on_progress(done)
    z = np.stack(points)
    groups = np.array([image.group for image in images])
    neighbors = NearestNeighbors(n_neighbors=6).fit(z).kneighbors(z, return_distance=False)[:, 1:]
    alike = float(np.mean(groups[neighbors] == groups[:, None]))
    chance = float(np.mean([(np.sum(groups == group) - 1) / (len(groups) - 1) for group in groups]))
    placed = TSNE(perplexity=20, random_state=0, init="pca").fit_transform(z)
    names = [name for folders in MOVEMENTS.values() for name in folders]
    others = [name for name in sorted(set(groups)) if name not in names]
    names += sorted(others, key=lambda name: (-int(np.sum(groups == name)), name))[: SHOWN - len(names)]
    figure, axis = plt.subplots(figsize=(10, 7), constrained_layout=True)
    rest = ~np.isin(groups, names)
    axis.scatter(placed[rest, 0], placed[rest, 1], s=12, color="0.8", label="other movements")
    for index, name in enumerate(names):
        own = placed[groups == name]
        axis.scatter(own[:, 0], own[:, 1], s=30, color=plt.get_cmap("tab20")(index), label=name)
    axis.set_axis_off()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, frameon=False)
    figure.savefig(DOCS / "method_embeddings.png", dpi=90)
    keep(
        "embeddings",
        {
            "artworks": len(images),
            "movements": len(set(groups)),
            "share of the five nearest from the same movement": round(alike, 3),
            "by chance": round(chance, 3),
        },
    )


if __name__ == "__main__":
    app()
