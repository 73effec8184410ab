"""Results to measure: a set of photographs and artworks through something that stylizes.

What is made is a set on disk (``sets``): ``content/``, ``style/``, ``artwork/``, ``stylized/`` and
``pairs.csv``, so that others can measure the very same pictures. Results that are there already are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mst_deploy.benchmarks.quality.painted import ARTWORK_SIDE
from mst_deploy.benchmarks.quality.sets import ARTWORKS, PAIRS, Pair, write_pairs
from mst_deploy.datasets import ImageFile
from mst_deploy.errors import InputError
from mst_deploy.images import Image, center_crop, load_image, save_image
from mst_deploy.model.film import at_strength
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles.optimize import StyleOptimizer
from mst_deploy.styles.resolve import as_style
from mst_deploy.styles.tuning_data import FramePair, builtin_photos
from mst_deploy.stylizer import Stylizer


class System(Protocol):
    """Anything that makes a result (H, W, 3) of a photograph (H, W, 3) and an artwork (h, w, 3), uint8."""

    def __call__(self, photo: Image, artwork: Image) -> Image: ...


@dataclass
class Model:
    """A model as a user runs it."""

    stylizer: Stylizer
    strength: float = 1.0
    optimizer: StyleOptimizer | None = None
    """Fits the row to each photograph, or once to the shipped ones."""
    once: bool = False

    def __call__(self, photo: Image, artwork: Image) -> Image:
        own = None if self.strength == 1.0 else self.stylizer.style(photo).film
        film = self.stylizer.style(artwork).film
        if self.optimizer is not None:
            moments = builtin_photos() if self.once else [FramePair(photo)]
            film = self.optimizer(film, moments, as_style(artwork, self.stylizer.manifest)).film
        return stylize_image(photo, self.stylizer.backend, at_strength(own, film, self.strength))


def photograph_itself(photo: Image, artwork: Image) -> Image:
    """The floor of every style figure."""
    return photo


def pair_up(
    contents: Sequence[ImageFile], styles: Sequence[ImageFile], each: int, most: int | None = None
) -> list[tuple[ImageFile, ImageFile]]:
    """``each`` photographs for every artwork, in turn, the same in every run.

    ``most`` keeps that many of the pairs, evenly spread over them. Raises InputError.
    """
    if each > len(contents):
        raise InputError(f"{each} photographs for every artwork are wanted, there are {len(contents)}")
    pairs = [
        (contents[(index * each + turn) % len(contents)], style)
        for index, style in enumerate(styles)
        for turn in range(each)
    ]
    kept = len(pairs) if most is None else min(most, len(pairs))
    return [pairs[index * len(pairs) // kept] for index in range(kept)]


def make_set(
    wanted: Sequence[tuple[ImageFile, ImageFile]],
    system: System,
    folder: Path,
    size: int,
    tell: Callable[[int], None],
) -> list[Pair]:
    """Stylize every (photograph, artwork) at size x size center crops into a set on disk.

    The artwork is shown to the system as the same crop it is compared with; ``artwork/`` has that crop at
    512x512, whatever the size. Raises InputError.
    """
    for role in ("content", "style", ARTWORKS, "stylized"):
        (folder / role).mkdir(parents=True, exist_ok=True)
    pairs = []
    for done, (content, style) in enumerate(wanted, start=1):
        pair = Pair(
            _stored(content, folder / "content", size),
            _stored(style, folder / "style", size),
            folder / "stylized" / f"{_label(content)}--{_label(style)}.png",
            style.group,
            _stored(style, folder / ARTWORKS, ARTWORK_SIDE),
        )
        if not pair.stylized.exists():
            save_image(pair.stylized, system(load_image(pair.content), load_image(pair.style)))
        pairs.append(pair)
        tell(done)
    write_pairs(folder / PAIRS, pairs)
    return pairs


def _stored(image: ImageFile, folder: Path, size: int) -> Path:
    path = folder / f"{_label(image)}.png"
    if not path.exists():
        save_image(path, center_crop(image.decode(), size))
    return path


def _label(image: ImageFile) -> str:
    """The name inside its source without folders' slashes, so that equal names of two folders differ."""
    return image.name.rpartition(".")[0].replace("/", "_")
