"""Data sets of images: named files, read and decoded on access.

A source is a folder (searched recursively), a tar file, or a text file with one path per line. Images are
named by their path inside the source; the folder of an image is its group (an art movement, for example). A
list of SHA-256 hashes separates held-out images from training images.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from mst_deploy.errors import InputError
from mst_deploy.images import IMAGE_SUFFIXES, Image, decode_image

MIN_SIDE = 32
"""Shortest usable side in pixels: smaller images have nothing to learn from."""


@dataclass(frozen=True)
class ImageFile:
    """One encoded image: a file of its own, a range of a tar file, or bytes in memory."""

    name: str
    path: Path | None = None
    offset: int = 0
    size: int = 0
    content: bytes = field(default=b"", repr=False)

    @property
    def data(self) -> bytes:
        """Return the encoded bytes. Raises InputError if the file no longer exists."""
        if self.path is None:
            return self.content
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error

    @property
    def group(self) -> str:
        """Return the name of the image's folder inside the source; "" without one."""
        return PurePosixPath(self.name).parent.name

    @cached_property
    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of the encoded bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def decode(self) -> Image:
        """Decode to (H, W, 3) uint8 RGB. Raises InputError if it is not an image, or too small."""
        image = decode_image(self.data, self.name)
        if min(image.shape[:2]) < MIN_SIDE:
            raise InputError(
                f"{self.name} has {image.shape[1]}x{image.shape[0]} pixels; {MIN_SIDE} is the least"
            )
        return image


def read_hash_list(path: Path) -> frozenset[str]:
    """Return the first word of every line that is not blank or a comment. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of hashes {path}: {error}") from error
    return frozenset(line.split()[0] for line in lines if line.strip() and line[0] != "#")


def load_images(
    sources: Iterable[Path], held_out: frozenset[str] = frozenset(), *, keep: bool = False
) -> list[ImageFile]:
    """Return all images of the sources in order of name, without the held-out ones (or, with ``keep``, only
    them).

    Raises InputError if a source does not exist or no image is left.
    """
    sources = list(sources)
    images = [image for source in sources for image in _list_source(source)]
    chosen = images
    if held_out or keep:  # hashing reads every file
        chosen = [image for image in images if (image.sha256 in held_out) == keep]
    if not chosen:
        listed = ", ".join(str(source) for source in sources)
        raise InputError(
            f"no images in {listed} (found {len(images)}, held out "
            f"{len(images) - len(chosen)}); give folders, tar files or lists of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(chosen, key=lambda image: image.name)


def fingerprint(images: Sequence[ImageFile]) -> str:
    """Return one SHA-256 over the SHA-256 of all files in order of name: the identity of a data set."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.sha256.encode())
    return digest.hexdigest()


def _list_source(source: Path) -> Iterator[ImageFile]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield ImageFile(path.relative_to(source).as_posix(), path, 0, path.stat().st_size)
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source, "r:*") as archive:
            plain = _is_plain_tar(source)
            for member in archive:
                if not member.isfile() or not is_image_name(member.name):
                    continue
                if plain:
                    yield ImageFile(member.name, source, member.offset_data, member.size)
                else:
                    file = archive.extractfile(member)
                    yield ImageFile(member.name, content=file.read() if file else b"")
    elif source.is_file() and source.suffix.lower() == ".txt":
        yield from _read_list(source)
    else:
        raise InputError(f"{source} is neither a folder nor a tar file nor a list (.txt) of images")


def _read_list(source: Path) -> Iterator[ImageFile]:
    """Yield the images of a list with one path per line, relative to its folder; blank lines and #
    comments are skipped."""
    for line in source.read_text(encoding="utf-8").splitlines():
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        path = source.parent / entry
        if not path.is_file():
            raise InputError(f"{source} names {entry}, which does not exist beside it")
        yield ImageFile(entry, path, 0, path.stat().st_size)


def is_image_name(name: str) -> bool:
    """Return whether a name has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_plain_tar(source: Path) -> bool:
    """Return whether the tar file is uncompressed, so that members can be read in place."""
    try:
        with tarfile.open(source, "r:"):
            return True
    except tarfile.ReadError:
        return False
