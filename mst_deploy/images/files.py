"""Still pictures in files: the kinds that are read and written, sizes before decoding.

Pillow reads; OpenCV, which is faster at it, writes.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np

from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.files import replacing
from mst_deploy.images.alpha import Alpha, Image, color_and_alpha, fill_transparent, is_graded
from mst_deploy.images.profiles import in_srgb

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

JPEG_QUALITY = 95
MAX_PIXELS = 300_000_000
"""Largest number of pixels that is decoded, unless ``limited_pixels`` sets another."""
GIF_COLORS = 256
PNG_TEXT = 2**26
"""Largest text in a PNG in bytes, as programs write into it how they made it. It is not kept."""


@dataclass(frozen=True)
class Kind:
    """A format of still pictures."""

    name: str
    """Pillow's name of the format."""
    alpha: str = "none"
    """Transparency that it can hold: none, binary or full."""
    quality: int | None = None
    """OpenCV's flag of the quality setting, for lossy formats."""
    lossless: bool = True
    animated: bool = False
    """Whether files of this kind may hold a moving picture."""


KINDS = {
    ".jpg": Kind("JPEG", quality=cv2.IMWRITE_JPEG_QUALITY),
    ".jpeg": Kind("JPEG", quality=cv2.IMWRITE_JPEG_QUALITY),
    ".png": Kind("PNG", "full", animated=True),
    ".webp": Kind("WEBP", "full", quality=cv2.IMWRITE_WEBP_QUALITY, animated=True),
    ".bmp": Kind("BMP"),
    ".tif": Kind("TIFF", "full"),
    ".tiff": Kind("TIFF", "full"),
    ".gif": Kind("GIF", "binary", animated=True),
    ".avif": Kind("AVIF", "full", animated=True),
}
"""Kinds of picture files that are read and written, by suffix."""
IMAGE_SUFFIXES = tuple(KINDS)
FORMATS = tuple(dict.fromkeys(kind.name for kind in KINDS.values()))

_limit: ContextVar[int] = ContextVar("_limit", default=MAX_PIXELS)
_pillow_settings = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A decoded still picture."""

    image: Image = field(repr=False)
    """(H, W, 3); behind transparent pixels are the colors of those around, not the stored ones."""
    alpha: Alpha | None = field(default=None, repr=False)
    """(H, W); None for a picture that is opaque everywhere."""
    deep: bool = False
    """Whether the file has more than 8 bits a channel."""


@contextmanager
def limited_pixels(most: int) -> Iterator[None]:
    """Refuse pictures of more pixels than ``most`` inside the block. Raises InvalidArgument below 1."""
    if most < 1:
        raise InvalidArgument(field="max_pixels", problem=f"a limit of {most} pixels leaves no picture")
    token = _limit.set(most)
    try:
        yield
    finally:
        _limit.reset(token)


def load_picture(path: Path) -> Picture:
    """Read a picture file with its alpha, upright, in sRGB. Raises InputError."""
    with _opened_file(path) as file:
        return _decoded(file, path)


def decode_picture(data: bytes, name: str | os.PathLike[str]) -> Picture:
    """Decode encoded file content as :func:`load_picture` does; ``name`` stands for it in messages."""
    return _decoded(io.BytesIO(data), name)


def load_image(path: Path) -> Image:
    """Read a picture file -> (H, W, 3) uint8 RGB, without its alpha. Raises InputError."""
    return load_picture(path).image


def decode_image(data: bytes, name: str | os.PathLike[str]) -> Image:
    """Decode encoded file content to (H, W, 3) uint8 RGB; gray becomes RGB, EXIF orientation is applied.

    Raises InputError, naming ``name``, if the bytes are not a picture.
    """
    return decode_picture(data, name).image


@dataclass(frozen=True)
class PictureInfo:
    """Facts from the header of a picture file."""

    width: int
    height: int
    frames: int
    """Number of pictures in the file."""
    kind: str
    """Pillow's name of the format."""


def probe_picture(path: Path) -> PictureInfo:
    """Read the header of a picture file without decoding it. Raises InputError for files that are refused."""
    with _opened_file(path) as file, _header(file, path) as header:
        try:
            return PictureInfo(*header.size, frames_of(header), header.format or "")
        except Exception as error:  # counting pictures walks through the file
            raise _unreadable(path, error) from error


def is_still(path: Path) -> bool:
    """Return whether a file is a still picture, by its suffix and, where that is not enough, its number of
    frames."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None or not kind.animated or not path.is_file():
        return kind is not None
    try:
        return probe_picture(path).frames == 1
    except InputError:
        return True  # reading it as a picture gives the reason


def frames_of(header: PilImage) -> int:
    """Return the number of pictures in a file; further ones in a JPEG (gain maps, other views) do not
    count."""
    return 1 if header.format in ("JPEG", "MPO") else int(getattr(header, "n_frames", 1))


def result_suffix(path: Path, info: PictureInfo) -> str:
    """Return the suffix of a result that is of the kind of its source: the source's own where it is of that
    kind."""
    suffix = path.suffix.lower()
    if suffix in KINDS:
        return suffix
    return next((known for known, kind in KINDS.items() if kind.name == info.kind), ".png")


def save_image(path: Path, image: Image, alpha: Alpha | None = None) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix, with ``alpha`` where the format can hold it.

    Raises InvalidArgument, OutputError.
    """
    data = encode_picture(path.suffix, image, alpha)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def encode_picture(suffix: str, image: Image, alpha: Alpha | None = None) -> bytes:
    """Return (H, W, 3) uint8 RGB as the content of a file with a suffix; otherwise as :func:`save_image`."""
    path = Path(f"picture{suffix}")
    check_writable(path)
    kind = KINDS[suffix.lower()]
    return _encoded(path, kind, image, None if kind.alpha == "none" else alpha)


def check_writable(path: Path) -> None:
    """Raise InvalidArgument for a suffix that no picture is written with."""
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise InvalidArgument(
            field="output",
            problem=f"cannot write {path}: unknown image type {suffix!r}",
            hint=f"use one of {', '.join(IMAGE_SUFFIXES)}",
        )


def losses(picture: Picture, target: Path) -> list[str]:
    """Return descriptions of what a result of this name cannot keep of a picture."""
    kind, found = KINDS[target.suffix.lower()], []
    if picture.alpha is not None and kind.alpha == "none":
        found.append(f"transparency ({kind.name} has none; .png, .webp, .tiff and .avif keep it)")
    elif picture.alpha is not None and kind.alpha == "binary" and is_graded(picture.alpha):
        found.append(f"partial transparency ({kind.name} knows all or nothing; .png keeps it)")
    if picture.deep:
        found.append("more than 8 bits a channel")
    if kind.name == "GIF":
        found.append(f"all but {GIF_COLORS} colors (.png keeps them)")
    return found


@contextmanager
def _opened_file(path: Path) -> Iterator[IO[bytes]]:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an image file")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def _header(file: IO[bytes], name: str | os.PathLike[str]) -> Iterator[PilImage]:
    """Open a picture of which only size and settings have been read. Raises InputError."""
    from PIL import Image as pillow
    from PIL import PngImagePlugin as png

    file.seek(0, os.SEEK_END)
    if file.tell() == 0:
        raise InputError(f"cannot read {name} as an image: the file is empty; {_advice()}")
    file.seek(0)
    try:
        # Pillow's own limits are settings of the process, and its warnings would go to the terminal.
        with _pillow_settings, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pillow_limit, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
            text_limit, png.MAX_TEXT_CHUNK = png.MAX_TEXT_CHUNK, PNG_TEXT
            try:
                header = pillow.open(file, formats=FORMATS)
            finally:
                pillow.MAX_IMAGE_PIXELS, png.MAX_TEXT_CHUNK = pillow_limit, text_limit
    except Exception as error:  # damaged files raise whatever the parsers of Pillow stumble over
        raise _unreadable(name, error) from error
    with header:
        width, height = header.size
        if width * height > _limit.get():
            raise InputError(
                f"{name} has {width}x{height} pixels, {width * height / 1e6:,.0f} megapixels, more than the "
                f"limit of {_limit.get() / 1e6:,.6g}; shrink it, or raise the limit with [option:max_pixels]"
            )
        yield header


def _decoded(file: IO[bytes], name: str | os.PathLike[str]) -> Picture:
    with _header(file, name) as header:
        try:
            deep, profile = _is_deep(header), header.info.get("icc_profile")
            header.load()
            color, alpha = color_and_alpha(_upright(header))
            image = np.array(in_srgb(color, profile), np.uint8)
        except MemoryError as error:
            width, height = header.size
            raise InputError(
                f"{name} has {width}x{height} pixels, for which there is not enough memory; shrink it"
            ) from error
        except Exception as error:  # see above
            raise _unreadable(name, error) from error
    del color, header  # Pillow's copies, of 4 bytes a pixel each
    if alpha is not None:
        image = fill_transparent(image, alpha)
    return Picture(np.ascontiguousarray(image), alpha, deep)


def _unreadable(name: str | os.PathLike[str], error: Exception) -> InputError:
    from PIL import UnidentifiedImageError

    reason = "its content is damaged or of another kind"
    if not isinstance(error, UnidentifiedImageError) and str(error):
        reason = f"its content is damaged ({error})"
    return InputError(f"cannot read {name} as an image: {reason}; {_advice()}")


def _advice() -> str:
    return f"give one of {', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}"


def _is_deep(header: PilImage) -> bool:
    """Return whether the file stores 16 bits per channel; Pillow's own modes hold 8 for colors."""
    return header.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(header, "tile", ()))


def _upright(picture: PilImage) -> PilImage:
    from PIL import ImageOps

    with suppress(Exception):  # an orientation that cannot be read is none
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _encoded(path: Path, kind: Kind, image: Image, alpha: Alpha | None) -> bytes:
    if kind.name in ("GIF", "AVIF"):
        return _encoded_by_pillow(path, kind, image, alpha)
    if alpha is None:
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    else:
        pixels = np.empty((*alpha.shape, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = image[..., ::-1], alpha
    options = [kind.quality, JPEG_QUALITY] if kind.quality is not None else []
    try:
        done, data = cv2.imencode(path.suffix.lower(), pixels, options)
    except cv2.error as error:
        raise OutputError(f"cannot write {path} as {kind.name}: {error.err or error}") from error
    if not done:
        raise OutputError(
            f"cannot write {path} as {kind.name} with {image.shape[1]}x{image.shape[0]} pixels; try .png"
        )
    del pixels
    return data.tobytes()


def _encoded_by_pillow(path: Path, kind: Kind, image: Image, alpha: Alpha | None) -> bytes:
    from PIL import Image as pillow

    picture = pillow.fromarray(image if alpha is None else np.dstack([image, alpha]))
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if kind.name == "AVIF" else {}
    if kind.name == "GIF":
        shown = GIF_COLORS - (alpha is not None)  # one color stands for transparency
        picture = pillow.fromarray(image).quantize(shown)
        if alpha is not None:
            indices = np.where(alpha < 128, shown, np.asarray(picture)).astype(np.uint8)
            colors = picture.getpalette()
            picture = pillow.fromarray(indices, "P")
            picture.putpalette(colors or [])
            options["transparency"] = shown
    buffer = io.BytesIO()
    try:
        picture.save(buffer, kind.name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"cannot write {path} as {kind.name}: {error}; try .png") from error
    return buffer.getvalue()
