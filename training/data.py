"""Images for training: encoded files held in memory, decoded and cropped when they are drawn.

A source is a folder (searched recursively) or a tar file. Images are named by their path inside the
source; the folder an image lies in is its group (an art movement, say). Files whose SHA-256 stands in
a held-out list are never returned to the trainer.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InputError
from mst_deploy.images import IMAGE_SUFFIXES, decode_image, resize_short_side

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True)
class StoredImage:
    """One encoded file."""

    name: str
    data: bytes

    @property
    def group(self) -> str:
        return PurePosixPath(self.name).parent.name

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def decode(self) -> Image:
        return decode_image(self.data, self.name)


def read_hash_list(path: Path) -> frozenset[str]:
    """The first word of every line that is not blank or a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line.strip() and line[0] != "#")


def load_images(
    sources: Iterable[Path], held_out: frozenset[str] = frozenset(), *, keep: bool = False
) -> list[StoredImage]:
    """All images of the sources in order of name, without the held-out ones (or, with keep, only them).

    Raises InputError when a source does not exist or nothing is left.
    """
    sources = list(sources)
    images = [image for source in sources for image in _read_source(source)]
    chosen = [image for image in images if (image.sha256 in held_out) == keep]
    if not chosen:
        listed = ", ".join(str(source) for source in sources)
        raise InputError(
            f"no images to train on in {listed} (found {len(images)}, held out "
            f"{len(images) - len(chosen)}); give folders or tar files with {', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(chosen, key=lambda image: image.name)


def _read_source(source: Path) -> Iterator[StoredImage]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield StoredImage(path.relative_to(source).as_posix(), path.read_bytes())
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    yield StoredImage(member.name, file.read())
    else:
        raise InputError(f"{source} is neither a folder nor a tar file of images")


def group_weights(
    images: Sequence[StoredImage], favoured: Iterable[str], factor: float
) -> NDArray[np.float64]:
    """Drawing probability of each image: groups weigh alike (favoured ones more), images in one alike."""
    groups = [image.group for image in images]
    size = {group: groups.count(group) for group in set(groups)}
    boosted = set(favoured)
    raw = np.array([(factor if group in boosted else 1.0) / size[group] for group in groups])
    return np.asarray(raw / raw.sum(), np.float64)


def random_crop(image: Image, size: int, zoom: float, rng: np.random.Generator) -> Image:
    """A (size, size, 3) crop, mirrored half of the time, of the image at size * 1..zoom short side."""
    image = resize_short_side(image, round(size * rng.uniform(1.0, zoom)))
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    crop = image[top : top + size, left : left + size]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def shift_colours(image: Image, rng: np.random.Generator) -> Image:
    """The same picture in another palette: hue turned, saturation scaled.

    A few hundred paintings hold few palettes; with this the encoder has to read the palette off the
    picture instead of recognising the painting.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 256)) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.6, 1.5), 0, 255)
    turned = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
    return np.asarray(turned, np.uint8)
