"""Make the pictures of the README and the model card with a shipped model, ``base`` unless another is named.

    python -m tools.docs.make_pictures header
    python -m tools.docs.make_pictures sheet --content FOLDER --style FOLDER
    python -m tools.docs.make_pictures strokes --before BUNDLE

``header`` needs only the repository. ``sheet`` takes any folders of pictures: rows are contents, columns
are the styles of the folder, on the left those that the model was trained on. ``strokes`` compares the model
with an earlier one on the shipped clip.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from mst_deploy.backends import Images, open_generator, open_style_encoder
from mst_deploy.files import replacing
from mst_deploy.images import load_image, resize, resize_short_side
from mst_deploy.model.film import FilmParams
from mst_deploy.model.zoo import DEFAULT_MODEL, bundle_path, load_shipped_styles
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles.resolve import encode_film
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.reader import VideoReader
from tools.docs import DOCS, ROOT, save_jpeg

HEADER_STYLES = (
    "starry-night",
    "great-wave",
    "the-scream",
    "udnie",
    "the-kiss",
    "calavera",
    "joy-of-life",
    "zodiac",
)
GAP = 6  # white pixels between cells
CLIP_LINES, CLIP_FRAMES, CLIP_STEP = 240, 30, 80  # each second frame of 25 a second, milliseconds
HEADER_BYTES, SHEET_BYTES, CLIP_BYTES = 340_000, 1_000_000, 700_000

app = typer.Typer(help=__doc__, add_completion=False)


def grid(rows: list[list[Images]]) -> Images:
    """Combine cells of one size to one picture with white gaps."""
    padding = ((0, GAP), (0, GAP), (0, 0))
    lines = [
        np.concatenate([np.pad(cell, padding, constant_values=255) for cell in row], axis=1) for row in rows
    ]
    return np.concatenate(lines, axis=0)[:-GAP, :-GAP]


def fill(image: Images, width: int, height: int) -> Images:
    """Resize and crop around the center to exactly width x height."""
    scale = max(width / image.shape[1], height / image.shape[0])
    wide, high = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    image = resize(image, wide, high)
    left, top = (wide - width) // 2, (high - height) // 2
    return image[top : top + height, left : left + width]


@app.command()
def header(output: Path = DOCS / "header.jpg", model: str = DEFAULT_MODEL) -> None:
    """Make one frame of the shipped clip in eight shipped styles, each with its painting in the corner."""
    with VideoReader(ROOT / "examples" / "bunny.mp4") as reader:
        frame = next(frame.image for index, frame in enumerate(reader) if index == 60)
    films = {style.name: style.film for style in load_shipped_styles(model)}
    cells = [frame]
    with open_generator(bundle_path(model)) as generator:
        for name in HEADER_STYLES:
            cell = stylize_image(frame, generator, films[name]).copy()
            painting = load_image(ROOT / "examples" / "paintings" / f"{name}.jpg")
            inset = cv2.copyMakeBorder(
                fill(painting, 100, 100), 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255,) * 3
            )
            cell[-106:, -106:] = inset
            cells.append(cell)
    cells = [resize(cell, 512, 288) for cell in cells]
    save_jpeg(output, grid([cells[0:3], cells[3:6], cells[6:9]]), HEADER_BYTES)


@app.command()
def sheet(
    content: Annotated[Path, typer.Option(help="Folder of pictures for the rows.")],
    style: Annotated[Path, typer.Option(help="Folder of artworks for the columns, in order of name.")],
    output: Path = DOCS / "contact_sheet.jpg",
    width: int = 384,
    height: int = 288,
    model: str = DEFAULT_MODEL,
) -> None:
    """Make a sheet of every content in every style."""
    encoder = open_style_encoder(bundle_path(model))
    contents = [fill(load_image(path), width, height) for path in sorted(content.iterdir())]
    styles = [load_image(path) for path in sorted(style.iterdir())]
    films: list[FilmParams] = [encode_film(encoder, image) for image in styles]
    rows = [[np.full((height, width, 3), 255, np.uint8), *(fill(image, width, height) for image in styles)]]
    with open_generator(bundle_path(model)) as generator:
        rows += [[image, *(stylize_image(image, generator, film) for film in films)] for image in contents]
    whole = grid(rows)
    save_jpeg(output, resize_short_side(whole, min(whole.shape[0], 1200)), SHEET_BYTES)


@app.command()
def strokes(
    before: Annotated[Path, typer.Option(help="Folder of the bundle on the left.")],
    output: Path = DOCS / "strokes.webp",
    model: str = DEFAULT_MODEL,
    style: str = "starry-night",
) -> None:
    """Make a clip of an earlier bundle and the model side by side: the shipped clip in one painting."""
    painting = load_image(ROOT / "examples" / "paintings" / f"{style}.jpg")
    halves: list[list[Images]] = []
    for bundle in (before, bundle_path(model)):
        with Stylizer(bundle) as stylizer, VideoReader(ROOT / "examples" / "bunny.mp4") as reader:
            frames = stylizer.frames(reader, stylizer.style(painting), size=str(CLIP_LINES))
            halves.append([frame.image for frame in islice(frames, 0, 2 * CLIP_FRAMES, 2)])
    animation = cv2.Animation()
    animation.frames = [
        cv2.cvtColor(grid([[left, right]]), cv2.COLOR_RGB2BGR) for left, right in zip(*halves, strict=True)
    ]
    animation.durations = [CLIP_STEP] * len(animation.frames)
    for quality in range(90, 19, -5):
        with replacing(output) as temporary:
            cv2.imwriteanimation(str(temporary), animation, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if output.stat().st_size <= CLIP_BYTES:
            break
    print(f"{output.name}: {output.stat().st_size} bytes, quality {quality}")


if __name__ == "__main__":
    app()
