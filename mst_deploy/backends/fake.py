"""Fake model that inverts colors, for tests and dry runs without a framework.

FiLM vectors are checked but not used, so a violation of the contract still raises.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import BackendBase, FilmBatch, Images, check_call
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas


class FakeGenerator(BackendBase):
    """Generator that returns 255 - x."""

    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        check_call(self.manifest, frames, film_params, canvas)
        return 255 - frames


class FakeStyleEncoder:
    """Encoder that returns the identity FiLM vector for every image."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        film = np.repeat(self.manifest.layout.identity()[None], len(styles), axis=0)
        embedding = np.zeros((len(styles), self.manifest.network["embedding_size"]), np.float32)
        return embedding, film


def open_generator(bundle: Bundle, device: str) -> FakeGenerator:
    """Open the fake generator; the device is ignored."""
    return FakeGenerator(bundle)


def open_style_encoder(bundle: Bundle, device: str) -> FakeStyleEncoder:
    """Open the fake style encoder; the device is ignored."""
    return FakeStyleEncoder(bundle)
