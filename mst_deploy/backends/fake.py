"""A model that inverts colors: for tests and dry runs, with no framework behind it.

FiLM vectors are ignored except for their size, so a wrong contract still shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import BackendBase, FilmBatch, Images, check_call
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas


class FakeGenerator(BackendBase):
    """255 - x."""

    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, frames: Images, films: FilmBatch, canvas: Canvas | None = None) -> Images:
        check_call(self.manifest, frames, films, canvas)
        return 255 - frames


class FakeStyleEncoder:
    """The identity FiLM vector for every image."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        film = np.repeat(self.manifest.layout.identity()[None], len(styles), axis=0)
        embedding = np.zeros((len(styles), self.manifest.network["embedding_size"]), np.float32)
        return embedding, film


def open_generator(bundle: Bundle, device: str) -> FakeGenerator:
    return FakeGenerator(bundle)


def open_style_encoder(bundle: Bundle, device: str) -> FakeStyleEncoder:
    return FakeStyleEncoder(bundle)
