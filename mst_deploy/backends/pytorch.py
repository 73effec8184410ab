"""PyTorch backend: the reference for the exported graphs.

The weights are read from the bundle's own ONNX files, so there is one copy of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mst_deploy.backends import FilmBatch, Images, TimedBackend, model_inputs
from mst_deploy.backends.base import CLOSED
from mst_deploy.errors import BackendError
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas
from mst_deploy.model.checkpoints import load_bundle
from mst_deploy.model.io_wrappers import Uint8Generator, Uint8StyleEncoder


class TorchGenerator(TimedBackend):
    """The generator in float32, whatever the precision of the bundle."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.manifest = bundle.manifest
        self.device = choose_device(device)
        self.graph = Uint8Generator(load_bundle(bundle).generator).to(self.device).eval()

    def prepare(
        self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None
    ) -> dict[str, Tensor]:
        inputs = model_inputs(self.manifest, frames, film_params, canvas)
        return {name: torch.tensor(value, device=self.device) for name, value in inputs.items()}

    @torch.inference_mode()
    def compute(self, prepared: dict[str, Tensor]) -> Tensor:
        stylized: Tensor = self.graph(**prepared)
        if self.device == "cuda":
            torch.cuda.synchronize()  # otherwise its time would be counted as that of the copy
        return stylized

    def finish(self, computed: Tensor) -> Images:
        return np.asarray(computed.cpu().numpy(), np.uint8)

    def close(self) -> None:
        self.graph = CLOSED


class TorchStyleEncoder:
    """The style encoder in float32."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.manifest = bundle.manifest
        self.device = choose_device(device)
        self.graph = Uint8StyleEncoder(load_bundle(bundle).film_encoder).to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        embedding, film = self.graph(torch.tensor(styles, device=self.device))
        return embedding.cpu().numpy(), film.cpu().numpy()


def open_generator(bundle: Bundle, device: str) -> TorchGenerator:
    """Load the generator. Raises InputError, BackendError."""
    return TorchGenerator(bundle, device)


def open_style_encoder(bundle: Bundle, device: str) -> TorchStyleEncoder:
    """Load the style encoder. Raises InputError, BackendError."""
    return TorchStyleEncoder(bundle, device)


def choose_device(device: str) -> str:
    """Resolve ``auto``. Raises BackendError for cuda without a CUDA device."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("this PyTorch sees no CUDA device; run with [option:device] cpu or see mst doctor")
    return device
