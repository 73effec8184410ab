"""A model that inverts colours: for tests and dry runs, with no framework behind it.

Film rows are ignored except for their size, so a wrong contract still shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import Closing, Films, Images, check_call
from mst_deploy.canvas import Canvas
from mst_deploy.manifest import Bundle


class FakeGenerator(Closing):
    """255 - x."""

    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, frames: Images, films: Films, canvas: Canvas | None = None) -> Images:
        check_call(self.manifest, frames, films, canvas)
        return 255 - frames


class FakeStyleEncoder:
    """The identity film row for every image."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], Films]:
        film = np.repeat(self.manifest.layout.identity()[None], len(styles), axis=0)
        embedding = np.zeros((len(styles), self.manifest.network["embedding_size"]), np.float32)
        return embedding, film


def open_generator(bundle: Bundle, device: str) -> FakeGenerator:
    return FakeGenerator(bundle)


def open_style_encoder(bundle: Bundle, device: str) -> FakeStyleEncoder:
    return FakeStyleEncoder(bundle)
