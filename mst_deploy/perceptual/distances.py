"""Perceptual distances of two pictures with VGG-19: style by Gram matrices, content by features.

Both distances are relative to the target, so they have no unit: 0 for equality, about 1 if nothing of the
target is matched. Gatys et al. 2016 (CVPR) define the sums; relative distances, and layers averaged instead
of summed, make dark and vivid paintings and any choice of layers comparable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mst_deploy.images import Image
from mst_deploy.perceptual.vgg import STYLE_TAPS, Vgg19

GRAM_LAYERS = STYLE_TAPS[:4]
"""relu1_1, 2_1, 3_1, 4_1: the layers that every set of weights has exactly, so that figures are
comparable."""

CONTENT_LAYER = "relu4_1"


def gram(features: Tensor) -> Tensor:
    """Return Gram matrices: (N, C, H, W) -> (N, C, C) float32, channel products averaged over positions."""
    flat = features.flatten(2)  # (N, C, H*W)
    # In bfloat16 the product accumulates in float32; dividing first keeps float16 in range.
    scaled = flat / flat.shape[2] ** 0.5
    return torch.bmm(scaled, scaled.transpose(1, 2)).float()


def style_distance(
    grams: Mapping[str, Tensor], targets: Mapping[str, Tensor], *, own_size: bool = True
) -> Tensor:
    """Return the mean over layers of ||G - T||^2 / ||T||^2 (Frobenius): layers of (N, C, C) -> (N,).

    Without ``own_size`` all N are divided by the mean of ||T||^2, so that vivid targets have more weight.
    """
    layers = []
    for name, target in targets.items():
        reference = target.float()
        distance = (grams[name] - reference).square().sum(dim=(1, 2))
        size = reference.square().sum(dim=(1, 2)).clamp_min(1e-8)
        layers.append(distance / (size if own_size else size.mean()))
    return torch.stack(layers).mean(dim=0)


def content_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return ||F - T||^2 / ||T||^2 per image: (N, C, H, W) twice -> (N,)."""
    reference = target.float()
    distance = (features.float() - reference).square().sum(dim=(1, 2, 3))
    return distance / reference.square().sum(dim=(1, 2, 3)).clamp_min(1e-8)


def gram_target(taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the Gram matrices of GRAM_LAYERS."""
    return {name: gram(taps[name]) for name in GRAM_LAYERS}


class Distances:
    """Distances of results; features of photographs and artworks are cached (3.5 MB each at 256x256)."""

    def __init__(self, vgg: Vgg19) -> None:
        self.vgg = vgg
        self.known: dict[bytes, tuple[Tensor, dict[str, Tensor]]] = {}

    @torch.inference_mode()
    def __call__(self, photo: Image, artwork: Image, stylized: Image) -> tuple[float, float, float]:
        """Return content distance, style distance, and the photograph's own style distance.

        Pictures are (H, W, 3) uint8; the artwork may have another size.
        """
        content, photo_grams = self._cached(photo)
        _, reference = self._cached(artwork)
        features, grams = self._extract(stylized)
        return (
            float(content_distance(features, content)),
            float(style_distance(grams, reference)),
            float(style_distance(photo_grams, reference)),
        )

    def _extract(self, image: Image) -> tuple[Tensor, dict[str, Tensor]]:
        taps = self.vgg(as_tensor(image))
        return taps[CONTENT_LAYER], gram_target(taps)

    def _cached(self, image: Image) -> tuple[Tensor, dict[str, Tensor]]:
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self.known:
            self.known[key] = self._extract(image)
        return self.known[key]


def as_tensor(image: Image) -> Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
