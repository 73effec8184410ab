"""Where the pretrained networks come from when no path is given.

VGG-19 is torchvision's file: PyTorch's cache is looked at first, then it is downloaded (548 MB) and its
hash checked. Inception needs no download: the shipped model's own encoder carries it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mst_deploy.errors import InputError
from mst_deploy.manifest import open_bundle
from mst_deploy.networks import StyleEncoder
from mst_deploy.shipped import DEFAULT_BUNDLE
from mst_deploy.weights import load_bundle, load_inception

VGG_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""The eight digits are the beginning of the file's SHA-256, which PyTorch checks."""


def find_vgg(path: Path | None) -> Path:
    """``path``, or torchvision's VGG-19 from PyTorch's cache or the net. Raises InputError."""
    if path is not None:
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / VGG_URL.rpartition("/")[2]
    if cached.is_file():
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(VGG_URL, str(cached), "dcbb9e9d", progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the losses need VGG-19 and it could not be downloaded ({error}); fetch {VGG_URL} and give it "
            "with --vgg"
        ) from error
    return cached


def load_trunk_into(encoder: StyleEncoder, path: Path | None) -> None:
    """Fill the encoder's Inception from a file, or from the shipped model. Raises InputError."""
    if path is not None:
        load_inception(encoder, path)
        return
    shipped = load_bundle(open_bundle(DEFAULT_BUNDLE)).film_encoder
    encoder.trunk.load_state_dict(shipped.trunk.state_dict())
