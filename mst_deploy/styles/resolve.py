"""Resolution of style names and images to FiLM vectors."""

from __future__ import annotations

import difflib
import hashlib
import os
from pathlib import Path

import numpy as np

from mst_deploy.backends import Images, StyleEncoder
from mst_deploy.errors import BundleError, InputError, InvalidArgument
from mst_deploy.images import IMAGE_SUFFIXES, load_image, pad_to_minimum, resize_short_side
from mst_deploy.model.bundle import Manifest
from mst_deploy.model.film import STYLE_SUFFIX, FilmParams, Style, load_style
from mst_deploy.model.zoo import MODELS, shipped_name, styles_for


def encode_film(encoder: StyleEncoder, image: Images) -> FilmParams:
    """Return the FiLM vector (P,) of one image (H, W, 3), resized to the size the encoder was trained on."""
    _, film_params = encoder(np.ascontiguousarray(as_style(image, encoder.manifest)[None]))
    return np.asarray(film_params[0], np.float32)


def as_style(image: Images, manifest: Manifest) -> Images:
    """Return an image (H, W, 3) at the size at which the encoder was trained on styles.

    Long panoramas are cropped to an aspect ratio of 4 around the center.
    """
    small = resize_short_side(_crop_panorama(image, longest=4.0), manifest.style_size)
    return pad_to_minimum(small, manifest.style_min_size)


def make_style(encoder: StyleEncoder, path: Path, name: str = "") -> Style:
    """Make a reusable style from an image file. Raises InputError if it is not a picture."""
    image = load_image(path)
    return Style(
        name=name or path.stem,
        film=encode_film(encoder, image),
        model_id=encoder.manifest.model_id,
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def resolve_style(name: str, manifest: Manifest) -> Style | Path:
    """Return a ready style (one shipped for this model, or a style file), or the path of an image to encode.

    Raises InvalidArgument when there is no such thing, InputError for a file of another kind, BundleError
    when the style is of another model.
    """
    shipped = styles_for(manifest.model_id)
    path = Path(name)
    if name in shipped:
        return require_same_model(shipped[name], manifest)
    if not os.path.exists(name):  # noqa: PTH110 - false for names that no file can have, too
        what = _unknown_style(name, list(shipped), manifest)
        raise InvalidArgument(field="style", problem=f"no style {name!r}: it is {what}")
    if path.suffix.lower() == STYLE_SUFFIX:
        return require_same_model(load_style(path), manifest)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"cannot use {path} as a style: give an image ({', '.join(IMAGE_SUFFIXES)}), a style file "
            f"({STYLE_SUFFIX}) or the name of a shipped style"
        )
    return path


def require_same_model(style: Style, manifest: Manifest) -> Style:
    """Return the style if it was made by this model. Raises BundleError otherwise."""
    if style.model_id != manifest.model_id or len(style.film) != manifest.film_size:
        maker = shipped_name(style.model_id)
        raise BundleError(
            f"the style {style.name!r} was made by model "
            f"{style.model_id}{f' ({maker})' if maker else ''}, this is model {manifest.model_id} "
            f"({manifest.name}); {f'paint with [option:model] {maker}, or ' if maker else ''}make it "
            "again from its image with mst style make and the [option:model] that you paint with"
        )
    return style


def _unknown_style(name: str, shipped: list[str], manifest: Manifest) -> str:
    if not shipped:
        return (
            f"no file, and the shipped styles are for the models {' and '.join(MODELS)}, not for "
            f"{manifest.name}; give an image, or make a style file: mst style make with [option:model]"
        )
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"neither a file nor a shipped style; {hint}shipped are {', '.join(shipped)}"


def _crop_panorama(image: Images, longest: float) -> Images:
    height, width = image.shape[:2]
    high, wide = min(height, round(width * longest)), min(width, round(height * longest))
    top, left = (height - high) // 2, (width - wide) // 2
    return image[top : top + high, left : left + wide]
