"""VGG-19 features, for the training losses and for measuring (Simonyan & Zisserman 2014, arXiv 1409.1556).

"Normalized" VGG (Gatys et al. 2016, section 2): weights rescaled so that the mean activation of each
channel over natural images is about 1; layers then weigh alike and losses are comparable across
layers. Convolutions pad by reflection, as is customary with these weights.

What the losses look at depends on how much of the network is at hand:

| weights                                   | content | style                                              |
|-------------------------------------------|---------|----------------------------------------------------|
| whole VGG-19 (torchvision)                | relu4_2 | relu1_1, 2_1, 3_1, 4_1, 5_1                        |
| up to conv4_1                             | relu4_1 | relu1_1, 2_1, 3_1, 4_1                             |
| up to conv4_1 and a distilled small net   | relu4_1 | relu1_1, 2_1, 3_1, 4_1, and an approximate 5_1     |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.checkpoints import StateDict, load_trunk, read_tensors
from mst_deploy.perceptual.downloads import fetched

VGG_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"

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
    "conv4_2": 21,
    "conv4_3": 23,
    "conv4_4": 25,
    "conv5_1": 28,
}
WIDTH = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
TAPS = (*STYLE_TAPS, "relu4_2")


class Vgg19(nn.Module):
    """(N, 3, H, W) RGB in 0..1 -> features by name: those of TAPS that the loaded part reaches.

    ``whole`` False builds the network up to conv4_1 only. H, W >= 32 where it is whole, else >= 16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.convs = [name for name in CONV_INDEX if whole or name <= "conv4_1"]
        self.features = nn.ModuleDict()
        self.distilled: DistilledVgg | None = None
        inputs = 3
        for name in self.convs:
            outputs = WIDTH[name[4]]
            self.features[str(CONV_INDEX[name])] = nn.Conv2d(inputs, outputs, 3)
            inputs = outputs
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    @property
    def content_layer(self) -> str:
        return "relu4_2" if self.whole else "relu4_1"

    @property
    def style_layers(self) -> tuple[str, ...]:
        return STYLE_TAPS if self.whole or self.distilled is not None else STYLE_TAPS[:4]

    def describe(self, style_layers: Sequence[str] | None = None) -> str:
        """One line for people: which layers the losses look at, and what is not exact about them."""
        layers = style_layers or self.style_layers
        approximated = self.distilled is not None and STYLE_TAPS[4] in layers
        note = "; relu5_1 approximated by a distilled network" if approximated else ""
        return f"content {self.content_layer}, style {', '.join(layers)}{note}"

    def conv(self, name: str) -> nn.Conv2d:
        """The convolution of that name in the paper."""
        conv = self.features[str(CONV_INDEX[name])]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = (images - self.mean) / self.std
        taps: dict[str, Tensor] = {}
        for name in self.convs:
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(self.conv(name)(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            tap = name.replace("conv", "relu")
            if tap in TAPS:
                taps[tap] = x
        if self.distilled is not None:
            taps["relu5_1"] = self.distilled(images)
        return taps


class DistilledVgg(nn.Module):
    """(N, 3, H, W) RGB in 0..1 -> about the normalized VGG's relu5_1 (N, 512, H/16, W/16).

    A VGG-19 with a quarter of the channels and a 1x1 map back to all of them (Wang et al. 2020,
    arXiv 2003.08436). conv0 is its input normalization.
    """

    NAMES = tuple(name.replace("_", "") for name in CONV_INDEX)

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 3, 1)
        inputs = 3
        for name in self.NAMES:
            outputs = WIDTH[name[4]] // 4
            self.add_module(name, nn.Conv2d(inputs, outputs, 3))
            inputs = outputs
        self.conv51_aux = nn.Conv2d(inputs, WIDTH["5"], 1)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv0(images)
        for name in self.NAMES:
            if name.endswith("1") and name != "conv11":
                x = F.max_pool2d(x, 2)
            x = F.relu(self.get_submodule(name)(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return F.relu(self.conv51_aux(x))


def find_vgg(path: Path | None) -> Path:
    """``path``, or torchvision's VGG-19 from PyTorch's cache or the net (548 MB). Raises InputError."""
    return path or fetched(VGG_URL, "VGG-19", "[option:vgg]")


def load_vgg(path: Path, scales: Path | None = None, distilled: Path | None = None) -> Vgg19:
    """VGG-19 from torchvision's checkpoint (.pth) or a safetensors file with the same names.

    The whole network is used if the file has it to conv5_1, else it ends at conv4_1; ``distilled``
    names a file with the small network that stands in for relu5_1 then. ``scales`` holds one factor s
    per channel, keyed by convolution name (see normalize); without it the network is the plain one, and
    ``calibrate`` makes it the normalized one. Raises InputError.
    """
    state = read_tensors(path)
    whole = f"features.{CONV_INDEX['conv5_1']}.weight" in state
    vgg = Vgg19(whole=whole)
    load_trunk(vgg, state, path)
    if scales is not None:
        factors = read_tensors(scales)
        normalize(vgg, {name: factors.get(name, torch.ones(WIDTH[name[4]])) for name in vgg.convs})
    if distilled is not None and not whole:
        vgg.distilled = DistilledVgg()
        load_trunk(vgg.distilled, read_tensors(distilled), distilled)
    return vgg.eval()


@torch.no_grad()
def normalize(vgg: Vgg19, scales: StateDict) -> None:
    """Multiply every channel's activation by its factor: W[o, i] * s[o] / s[i] and b * s[o], in place.

    ReLU and max pooling commute with positive factors, so nothing else changes.
    """
    previous = torch.ones(3)
    for name in vgg.convs:
        conv = vgg.conv(name)
        assert conv.bias is not None
        scale = scales[name].float()
        conv.weight.mul_(scale[:, None, None, None] / previous[None, :, None, None])
        conv.bias.mul_(scale)
        previous = scale


@torch.no_grad()
def calibrate(vgg: Vgg19, images: Iterable[Tensor]) -> None:
    """Normalize the network in place so that every channel's mean activation over ``images`` is 1.

    ``images`` are (1, 3, H, W) in 0..1. Channels that hardly ever respond are raised to no more than ten
    times their neighbors' factor: their noise is not worth matching, and over few images it is the result.
    """
    sums: dict[str, Tensor] = {name: torch.zeros(WIDTH[name[4]]) for name in vgg.convs}
    count = 0
    for image in images:
        count += 1
        x = (image - vgg.mean) / vgg.std
        for name in vgg.convs:
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(vgg.conv(name)(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            sums[name] += x.mean(dim=(0, 2, 3))
    means = {name: total / max(count, 1) for name, total in sums.items()}
    normalize(vgg, {name: 1 / mean.clamp_min(0.1 * mean.mean().item()) for name, mean in means.items()})
