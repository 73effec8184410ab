"""How far apart two pictures are to VGG-19: the style by Gram matrices, the content by features.

Both distances are relative to the target, so they have no unit: 0 for equality, about 1 where nothing of
the target is found. Gatys et al. 2016 (CVPR) define the sums; being relative, and averaging layers
instead of summing them, makes dark and vivid paintings and any choice of layers comparable.
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
"""relu1_1, 2_1, 3_1, 4_1: the layers every set of weights has exactly, so that figures can be compared."""

CONTENT_LAYER = "relu4_1"


def gram(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): channel products averaged over positions, float32."""
    flat = features.flatten(2)  # (N, C, H*W)
    # In bfloat16 the product accumulates in float32; dividing first keeps float16 in range.
    scaled = flat / flat.shape[2] ** 0.5
    return torch.bmm(scaled, scaled.transpose(1, 2)).float()


def style_distance(
    grams: Mapping[str, Tensor], targets: Mapping[str, Tensor], *, own_size: bool = True
) -> Tensor:
    """Mean over layers of ||G - T||^2 / ||T||^2 (Frobenius): layers of (N, C, C) -> (N,).

    Without ``own_size`` all N are divided by the mean of ||T||^2, so that vivid targets count for more.
    """
    layers = []
    for name, target in targets.items():
        wanted = target.float()
        distance = (grams[name] - wanted).square().sum(dim=(1, 2))
        size = wanted.square().sum(dim=(1, 2)).clamp_min(1e-8)
        layers.append(distance / (size if own_size else size.mean()))
    return torch.stack(layers).mean(dim=0)


def content_distance(features: Tensor, target: Tensor) -> Tensor:
    """||F - T||^2 / ||T||^2 per image: (N, C, H, W) twice -> (N,)."""
    wanted = target.float()
    distance = (features.float() - wanted).square().sum(dim=(1, 2, 3))
    return distance / wanted.square().sum(dim=(1, 2, 3)).clamp_min(1e-8)


def gram_target(taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gram matrices of GRAM_LAYERS."""
    return {name: gram(taps[name]) for name in GRAM_LAYERS}


class Distances:
    """Distances of results; photographs and artworks are looked at once (3.5 MB each are kept at 256x256)."""

    def __init__(self, vgg: Vgg19) -> None:
        self.vgg = vgg
        self.known: dict[bytes, tuple[Tensor, dict[str, Tensor]]] = {}

    @torch.inference_mode()
    def __call__(self, photo: Image, artwork: Image, stylized: Image) -> tuple[float, float, float]:
        """Content distance, style distance, and the photo's own style distance.

        Pictures (H, W, 3) uint8; the artwork may have another size.
        """
        content, photo_grams = self._seen(photo)
        _, wanted = self._seen(artwork)
        found, grams = self._look(stylized)
        return (
            float(content_distance(found, content)),
            float(style_distance(grams, wanted)),
            float(style_distance(photo_grams, wanted)),
        )

    def _look(self, image: Image) -> tuple[Tensor, dict[str, Tensor]]:
        taps = self.vgg(as_tensor(image))
        return taps[CONTENT_LAYER], gram_target(taps)

    def _seen(self, image: Image) -> tuple[Tensor, dict[str, Tensor]]:
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self.known:
            self.known[key] = self._look(image)
        return self.known[key]


def as_tensor(image: Image) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
