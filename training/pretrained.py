"""The pretrained networks as training wants them: Inception out of a shipped model, VGG normalized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mst_deploy.datasets import ImageFile
from mst_deploy.images import Image
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.checkpoints import load_bundle, load_inception, load_trunk
from mst_deploy.model.inception import INCEPTION_URL
from mst_deploy.model.networks import StyleEncoder
from mst_deploy.model.zoo import resolve_model
from mst_deploy.perceptual.downloads import fetched
from mst_deploy.perceptual.vgg import Vgg19, calibrate, find_vgg, load_vgg
from mst_deploy.training.data import random_crop
from mst_deploy.training.samples import first_readable
from mst_deploy.training.stylizer import stack, to_tensor

CALIBRATION_PHOTOS = 48
SHIPPED_TRUNK = "Mixed_5d"  # as far as the Inception of base goes


def load_trunk_into(encoder: StyleEncoder, path: Path | None) -> None:
    """Fill the encoder's Inception: from a file, or that of ``base``; downloaded if it is too short.

    Raises InputError.
    """
    if path is not None or encoder.trunk.last != SHIPPED_TRUNK:
        load_inception(encoder, path or fetched(INCEPTION_URL, "Inception-v3", "[option:inception]"))
        return
    bundle = open_bundle(resolve_model())
    load_trunk(encoder.trunk, load_bundle(bundle).film_encoder.trunk.state_dict(), bundle.path)


def loss_network(
    contents: Sequence[ImageFile],
    path: Path | None,
    scales: Path | None = None,
    distilled: Path | None = None,
) -> Vgg19:
    """VGG-19, normalized by the given factors or on the first photographs of the data."""
    vgg = load_vgg(find_vgg(path), scales, distilled)
    if scales is None or vgg.whole:
        photos = (first_readable(contents, i, set()) for i in range(min(CALIBRATION_PHOTOS, len(contents))))
        calibrate(vgg, (center(photo) for photo in photos))
    return vgg


def center(photo: Image) -> torch.Tensor:
    """(1, 3, 224, 224) in 0..1 out of a photograph, the same in every run."""
    return to_tensor(stack([random_crop(photo, 224, 1.0, np.random.default_rng(0))]), torch.device("cpu"))
