"""The networks that look at pictures when they are measured, with weights from files.

* VGG-19 (Gram, content; zero-padded for CFSD)
* the Inception-v3 of FID up to Mixed_6e (``fid768``), and its first stages (``inception``)
* AlexNet with the learned weights of LPIPS (Zhang et al. 2018, arXiv 1801.03924)
* the Inception-v3 trained on art that ArtFID is defined with (Wright & Ommer 2022, arXiv 2207.12280)
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.benchmarks.quality.metrics import covariance
from mst_deploy.errors import InputError
from mst_deploy.model.checkpoints import digest, fold_batch_norm, load_trunk, read_tensors
from mst_deploy.model.inception import Conv, InceptionTrunk, average3
from mst_deploy.perceptual.downloads import fetched
from mst_deploy.perceptual.vgg import Vgg19

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
ART_INCEPTION_URL = "https://huggingface.co/matthias-wright/art_inception/resolve/main/art_inception.pth"
FID_TRUNK = "6a1ce305314a"
"""Beginning of the digest of the Inception that FID uses, its weights rounded to float16 (digest())."""

FID_SIZE = 299
COVARIANCE_STAGES = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d")
CFSD_LAYER = "conv3_1"


def relu3_1(vgg: Vgg19, images: Tensor) -> Tensor:
    """(1, 3, H, W) in 0..1 -> (1, 256, H/4, W/4) with zero padding, as torchvision's forward pass has it."""
    x = (images - vgg.mean) / vgg.std
    for name in vgg.convs:
        if name.endswith("_1") and name != "conv1_1":
            x = F.max_pool2d(x, 2)
        conv = vgg.conv(name)
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
        if name == CFSD_LAYER:
            break
    return x


def fid_trunk(path: Path) -> InceptionTrunk:
    """FID's Inception up to Mixed_6e, from a file. Raises InputError for another."""
    trunk = InceptionTrunk()
    load_trunk(trunk, fold_batch_norm(read_tensors(path)), path)
    if not (found := digest(trunk)).startswith(FID_TRUNK):
        raise InputError(
            f"the Inception of {path} is not the one FID is defined with (digest {found[:12]}, expected "
            f"{FID_TRUNK}); give that of 2015-12-05 with [option:inception]"
        )
    return trunk.eval()


def fid768(trunk: InceptionTrunk, images: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..1 -> (N, 768) averaged Mixed_6e features at 299x299 (bilinear, as pytorch-fid)."""
    small = F.interpolate(images, (FID_SIZE, FID_SIZE), mode="bilinear", align_corners=False)
    features: Tensor = trunk(small * 2 - 1)
    return features.float().mean(dim=(2, 3))


def stage_covariances(trunk: InceptionTrunk, images: Tensor) -> dict[str, Tensor]:
    """(N, 3, H, W) in 0..1, at their own size -> covariances of three stages of Inception-v3, (N, C, C) each.

    Conv2d_2b, Conv2d_4a and Mixed_5d: 64, 192 and 288 channels. Centered Gram matrices tell strokes from
    brightness: the mean of a channel is no texture.
    """
    stages = zip(COVARIANCE_STAGES, trunk.stages(images * 2 - 1), strict=False)
    return {name: covariance(features) for name, features in stages}


class Lpips(nn.Module):
    """Learned perceptual distance of pairs of images, version 0.1 on AlexNet."""

    CONVS = (
        (0, 3, 64, 11, 4, 2),
        (3, 64, 192, 5, 1, 2),
        (6, 192, 384, 3, 1, 1),
        (8, 384, 256, 3, 1, 1),
        (10, 256, 256, 3, 1, 1),
    )
    """torchvision's index, inputs, outputs, kernel, stride, padding."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {str(i): nn.Conv2d(a, b, k, stride=s, padding=p) for i, a, b, k, s, p in self.CONVS}
        )
        self.weights = nn.ParameterList(torch.zeros(row[2]) for row in self.CONVS)
        shift, scale = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in -1..1
        self.register_buffer("shift", torch.tensor(shift)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(scale)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def taps(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in 0..1 -> five maps, each position scaled to length 1."""
        x = (images * 2 - 1 - self.shift) / self.scale
        found = []
        for index, conv in self.features.items():
            if index in ("3", "6"):
                x = F.max_pool2d(x, 3, stride=2)
            x = F.relu(conv(x))
            found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, 3, H, W) or (N, 1, H, W) in 0..1 twice -> (N,)."""
        distance = torch.zeros(len(first), device=first.device)
        for weight, a, b in zip(self.weights, self.taps(first), self.taps(second), strict=True):
            distance += ((a - b).square() * weight[:, None, None]).sum(dim=1).mean(dim=(1, 2))
        return distance


def load_lpips(path: Path | None) -> Lpips:
    """LPIPS with torchvision's AlexNet from a file, or from the net. Raises InputError."""
    path = path or fetched(ALEXNET_URL, "AlexNet", "[option:alexnet]")
    lpips = Lpips()
    load_trunk(
        lpips.features, {name.removeprefix("features."): t for name, t in read_tensors(path).items()}, path
    )
    # The learned weights of the layers are part of the torchmetrics package.
    folder = resources.files("torchmetrics") / "functional" / "image" / "lpips_models"
    with resources.as_file(folder / "alex.pth") as file:
        learned = read_tensors(file)
    for index, weight in enumerate(lpips.weights):
        weight.copy_(learned[f"lin{index}.model.1.weight"].flatten())
    return lpips.eval()


class MixedD(nn.Module):
    """17x17 -> 8x8 reduction: Mixed_7a."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class MixedE(nn.Module):
    """8x8 block with expanded filter banks (figure 7): Mixed_7b, 7c."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.average = average3(count_padding=True)
        self.branch1x1 = Conv(inputs, 320, 1)
        self.branch3x3_1 = Conv(inputs, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.average(x)),
        ]
        return torch.cat(branches, dim=1)


class ArtInception(nn.Module):
    """(N, 3, H, W) RGB in 0..1, as it is -> (N, 2048). H, W >= 75.

    torchvision's Inception-v3 (padding counts in its average pools) trained to tell artists and styles
    apart; ArtFID shows it images without normalizing or resizing them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = InceptionTrunk(count_padding=True)
        self.Mixed_7a = MixedD()
        self.Mixed_7b = MixedE(1280)
        self.Mixed_7c = MixedE(2048)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.trunk(images))))
        return features.mean(dim=(2, 3))


def load_art_inception(path: Path) -> ArtInception:
    """The network of ``art_inception.pth``. Raises InputError."""
    state = fold_batch_norm(read_tensors(path))
    net = ArtInception()
    load_trunk(net, {(n if n.startswith("Mixed_7") else f"trunk.{n}"): t for n, t in state.items()}, path)
    return net.eval()
