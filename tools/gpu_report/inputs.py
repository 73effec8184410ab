"""Inputs of a generator. A new input of the contract is one line in ``make_inputs``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mst_deploy.backends.parity import sample_picture
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.film import FilmParams
from mst_deploy.model.zoo import bundle_path, styles_for

Inputs = dict[str, NDArray[Any]]
STYLES = 2


def opened(model: str) -> Bundle:
    """Return the bundle of a shipped model."""
    return open_bundle(bundle_path(model))


def films_of(bundle: Bundle) -> list[FilmParams]:
    """Return two FiLM vectors (P,) of shipped styles, or the identity twice where no style fits the model."""
    vectors = [style.film for style in styles_for(bundle.manifest.model_id).values()]
    return (vectors[:: max(1, len(vectors) // STYLES)] or [bundle.manifest.layout.identity()] * STYLES)[
        :STYLES
    ]


def input_names(bundle: Bundle) -> list[str]:
    """Return the input names of the generator's graph, which are also the names of the PyTorch module's
    arguments."""
    graph = onnx.load(bundle.generator, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def make_inputs(
    names: Sequence[str],
    size: tuple[int, int],
    film: FilmParams,
    picture: NDArray[np.uint8] | None = None,
    *,
    batch: int = 1,
) -> Inputs:
    """Return arrays for the inputs of a graph by name: ``batch`` times the same picture, (H, W, 3) uint8.

    ``size`` is width and height; the default picture is like a photograph. Raises KeyError for an input that
    the contract did not have when this was written.
    """
    width, height = size
    makers = {
        "frames": lambda: _repeated(photo_like(size) if picture is None else picture, batch),
        "film": lambda: _repeated(film, batch),
        "canvas": lambda: np.random.default_rng(0).integers(0, 256, (batch, height, width, 1), np.uint8),
    }
    return {name: makers[name]() for name in names}


@lru_cache(maxsize=4)
def photo_like(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of width and height ``size``; large ones take seconds, so it is
    cached."""
    return sample_picture(size[1], size[0], 0)


def _repeated(array: NDArray[Any], count: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.repeat(array[None], count, axis=0))
