"""VGG-19 features for the losses (Simonyan & Zisserman 2014, arXiv 1409.1556).

"Normalised" VGG (Gatys et al. 2016, section 2): weights rescaled so that the mean activation of each
channel over natural images is about 1; layers then weigh alike and losses are comparable across
layers. Convolutions pad by reflection, as is customary with these weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.weights import load_trunk, read_tensors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# torchvision's index of each convolution in vgg19().features, by its name in the paper
CONV_INDEX = {
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
    "conv3_4": 16,
    "conv4_1": 19,
}
WIDTH = {"1": 64, "2": 128, "3": 256, "4": 512}
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


class Vgg19(nn.Module):
    """(N, 3, H, W) RGB in 0..1 -> features at relu1_1, relu2_1, relu3_1 and relu4_1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        inputs = 3
        for name, index in CONV_INDEX.items():
            outputs = WIDTH[name[4]]
            self.features[str(index)] = nn.Conv2d(inputs, outputs, 3)
            inputs = outputs
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = (images - self.mean) / self.std
        taps: dict[str, Tensor] = {}
        for name, index in CONV_INDEX.items():
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            conv = self.features[str(index)]
            x = F.relu(conv(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            if name.endswith("_1"):
                taps[name.replace("conv", "relu")] = x
        return taps


def load_vgg(path: Path, scales: Path | None = None) -> Vgg19:
    """VGG-19 from torchvision's checkpoint (.pth) or a safetensors file with the same names.

    ``scales`` holds one factor s per channel, keyed by convolution name; with them the network becomes
    the normalised VGG: W[o, i] * s[o] / s[i] and b * s[o]. Without, the plain network is used, whose
    activations (and so the content loss) are larger. Raises InputError.
    """
    vgg = Vgg19()
    load_trunk(vgg, read_tensors(path), path)
    if scales is not None:
        normalise(vgg, read_tensors(scales))
    return vgg.eval()


def normalise(vgg: Vgg19, scales: dict[str, Tensor]) -> None:
    """Rescale the convolutions in place so that every channel's activation is multiplied by its factor.

    ReLU and max pooling commute with positive factors, so nothing else changes.
    """
    previous = torch.ones(3)
    for name, index in CONV_INDEX.items():
        conv = vgg.features[str(index)]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        scale = scales[name].float()
        conv.weight.mul_(scale[:, None, None, None] / previous[None, :, None, None])
        conv.bias.mul_(scale)
        previous = scale
