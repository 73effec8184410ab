"""FiLM parameters as arrays: their layout, interpolation, and style files.

A FiLM vector is a float32 vector of length P: gamma then beta of every conditioned layer, in the order of the
forward pass, then the gains of the canvas bands. Styles are mixed by mixing FiLM vectors. No framework is
needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mst_deploy.errors import BundleError, InvalidArgument
from mst_deploy.files import replacing

FilmParams = NDArray[np.float32]
"""FiLM vector, (P,) float32."""


@dataclass(frozen=True)
class FilmLayout:
    """Names and channel counts of the conditioned layers, in the order of the forward pass."""

    layers: tuple[tuple[str, int], ...]
    canvas_bands: int = 0
    """Number of canvas band gains after the gammas and betas; see ``canvas_gains``."""

    @property
    def norm_size(self) -> int:
        """Number of gammas and betas: one of each for every channel of every layer."""
        return 2 * sum(channels for _, channels in self.layers)

    @property
    def size(self) -> int:
        """P, the length of a FiLM vector: all gammas and betas, then the gains of the canvas bands."""
        return self.norm_size + self.canvas_bands

    def identity(self) -> FilmParams:
        """Return the vector (P,) with gamma = 1, beta = 0 and no canvas: plain instance normalization."""
        parts = [np.concatenate([np.ones(channels), np.zeros(channels)]) for _, channels in self.layers]
        return np.concatenate([*parts, np.zeros(self.canvas_bands)]).astype(np.float32)

    def with_gains(self, film: FilmParams, gains: NDArray[np.float32]) -> FilmParams:
        """Return the FiLM vector (P,) with other gains (K,) of its canvas bands; unchanged for a model
        without a canvas."""
        if not self.canvas_bands:
            return film
        return np.concatenate([film[: self.norm_size], gains]).astype(np.float32)

    def without_canvas(self, film: FilmParams) -> FilmParams:
        """Return the FiLM vector (P,) with zero gains: a photograph's own vector, since it has no strokes."""
        return self.with_gains(film, np.zeros(self.canvas_bands, np.float32))


OCTAVES = 3
"""Number of neighboring canvas bands with nonzero gain."""


def canvas_gains(bands: int, strokes: float = 1.0, size: float = 1.0) -> NDArray[np.float32]:
    """Return the gains of the canvas bands, (bands,) float32, of Euclidean length ``strokes``.

    A window of OCTAVES octaves begins log2(size) octaves above the finest band; between whole octaves the
    bands at both of its ends fade. So ``size`` 2 makes strokes twice as large. Raises InvalidArgument for
    ``strokes`` below 0 and a ``size`` outside 0.25..2**bands.
    """
    if not (strokes >= 0 and np.isfinite(strokes)):
        raise InvalidArgument(field="strokes", problem=f"strokes must be 0 or more, got {strokes}")
    if not 0.25 <= size <= 2.0**bands:
        raise InvalidArgument(
            field="stroke_size", problem=f"a stroke size must be between 0.25 and {2**bands}, got {size}"
        )
    band, first = np.arange(bands), np.log2(size)
    window = np.clip(np.minimum(band - first + 1, first + OCTAVES - band), 0, 1)
    return np.asarray(strokes * window / np.linalg.norm(window), np.float32)


def blend(film_vectors: list[FilmParams], weights: list[float]) -> FilmParams:
    """Return the weighted sum of FiLM vectors, (P,) float32; weights should sum to 1.

    Raises InvalidArgument if the lists are empty or of different length, or the vectors differ in size.
    """
    if not film_vectors or len(film_vectors) != len(weights):
        raise InvalidArgument(f"cannot blend {len(film_vectors)} styles with {len(weights)} weights")
    sizes = {vector.shape for vector in film_vectors}
    if len(sizes) > 1:
        raise InvalidArgument(f"cannot blend FiLM vectors of different shapes: {sorted(sizes)}")
    return np.tensordot(np.asarray(weights, np.float32), np.stack(film_vectors), axes=1).astype(np.float32)


@dataclass(frozen=True)
class Blend:
    """FiLM parameters of a frame, and the opacity of the stylized picture over the source."""

    film: FilmParams = field(repr=False)
    """(P,) float32."""
    opacity: float = 1.0
    """Opacity of the stylized picture over the source, 0..1."""


def at_strength(content: FilmParams | None, style: FilmParams, strength: float) -> Blend:
    """Return the blend at a strength: 0 is the source itself, from 0.5 on the result is fully stylized.

    The FiLM vector is interpolated between the content's own and the style's; ``content`` is not needed at
    strength 1. The network does not reproduce a picture exactly even with the picture's own FiLM vector, so
    below 0.5 the source is mixed in: opacity = min(1, 2 strength). Raises InvalidArgument.
    """
    if content is None and strength != 1.0:
        raise InvalidArgument(
            field="strength", problem="a strength below 1 needs the FiLM vector of the content"
        )
    film = style if content is None else with_strength(content, style, strength)
    return Blend(film, min(1.0, 2.0 * strength))


def with_strength(content: FilmParams, style: FilmParams, strength: float) -> FilmParams:
    """Interpolate from the content's own FiLM vector (0) to the style's (1), (P,) float32.

    Raises InvalidArgument for a strength outside 0..1, or vectors of different size.
    """
    if not 0.0 <= strength <= 1.0:
        raise InvalidArgument(field="strength", problem=f"strength must be between 0 and 1, got {strength}")
    return style if strength == 1.0 else blend([content, style], [1.0 - strength, strength])


STYLE_FORMAT = "mst-style-1"
STROKE_DEFAULTS = ("strokes", "stroke_size")
STYLE_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Style:
    """A style ready for use: one FiLM vector and its origin."""

    name: str
    film: FilmParams = field(repr=False)
    """(P,) float32."""
    model_id: str
    """Identity of the model whose encoder made the FiLM vector; other models cannot use it."""
    source_sha256: str = ""
    """SHA-256 of the image file that was encoded, in hexadecimal."""
    credit: dict[str, str] = field(default_factory=dict)
    """Title, artist, year and source of the work, as far as known."""
    strokes: float = 1.0
    """Default amount of canvas of the style; see ``canvas_gains``."""
    stroke_size: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.film, np.ndarray):
            raise InvalidArgument(f"a FiLM vector is a float32 vector, got {type(self.film).__name__}")
        if self.film.ndim != 1 or self.film.dtype != np.float32:
            raise InvalidArgument(
                f"a FiLM vector is a float32 vector, got {self.film.dtype} of shape {self.film.shape}"
            )
        if not np.isfinite(self.film).all():
            raise InvalidArgument(f"the FiLM vector of style {self.name!r} has values that are not numbers")
        if not (0.0 <= self.strokes <= 2.0 and 0.5 <= self.stroke_size <= 3.0):
            raise InvalidArgument(
                f"style {self.name!r}: strokes go from 0 to 2 and a stroke size from 0.5 to 3, got "
                f"{self.strokes:g} and {self.stroke_size:g}"
            )


def save_style(path: Path, style: Style) -> None:
    """Write a style as a safetensors file with one tensor ``film``. Raises OutputError."""
    metadata = {
        "format": STYLE_FORMAT,
        "name": style.name,
        "model_id": style.model_id,
        "source_sha256": style.source_sha256,
        "credit": json.dumps(style.credit, ensure_ascii=False, sort_keys=True),
    }
    for name in STROKE_DEFAULTS:
        if getattr(style, name) != 1.0:  # absent means 1, so that older programs read the file
            metadata[name] = repr(getattr(style, name))
    with replacing(path) as temporary:
        save_file({"film": style.film}, temporary, metadata)


def load_style(path: Path) -> Style:
    """Read a style file. Raises BundleError for a file that is not a style, or damaged."""
    if not path.is_file():
        raise BundleError(f"{path} does not exist; make a style file with: mst style make IMAGE")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != STYLE_FORMAT:
                raise BundleError(f"{path} is a safetensors file but not a style made by mst style")
            film = file.get_tensor("film")
        return Style(
            name=metadata["name"],
            film=film,
            model_id=metadata["model_id"],
            source_sha256=metadata["source_sha256"],
            credit=json.loads(metadata["credit"]),
            **{name: float(metadata.get(name, 1.0)) for name in STROKE_DEFAULTS},
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BundleError(f"{path} is not a readable style file ({error}); make it again") from error
