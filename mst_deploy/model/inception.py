"""Inception-v3 up to Mixed_6e, or Mixed_5d, with batch normalization folded into the convolutions.

Szegedy et al. 2015 (arXiv 1512.00567). Module names are torchvision's, so its checkpoints load once their
batch norms are folded (``checkpoints.fold_batch_norm``). Two things differ from torchvision's forward pass
and agree with the original TensorFlow network: the input is RGB in -1..1, and average pools exclude the zero
padding from the mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
"""The network of 2015-12-05 that FID is defined with, with torchvision's names."""


class Conv(nn.Module):
    """Convolution with bias (a folded batch norm), then ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


def average3(count_padding: bool) -> nn.AvgPool2d:
    """Return a 3x3 average pool of stride 1 that includes the zero padding in the mean, as torchvision, or
    excludes it."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=count_padding)


class MixedA(nn.Module):
    """Block at 35x35 (figure 5 of the paper): Mixed_5b, 5c, 5d."""

    def __init__(self, inputs: int, pooled: int, count_padding: bool) -> None:
        super().__init__()
        self.average = average3(count_padding)
        self.branch1x1 = Conv(inputs, 64, 1)
        self.branch5x5_1 = Conv(inputs, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double3x3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            double3x3,
            self.branch_pool(self.average(x)),
        ]
        return torch.cat(branches, dim=1)


class MixedB(nn.Module):
    """Reduction from 35x35 to 17x17 (figure 10): Mixed_6a."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double3x3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = F.max_pool2d(x, 3, stride=2)
        return torch.cat([self.branch3x3(x), double3x3, pooled], dim=1)


class MixedC(nn.Module):
    """Block at 17x17 with factorized 7x7 convolutions (figure 6): Mixed_6b .. 6e."""

    def __init__(self, width7: int, count_padding: bool) -> None:
        super().__init__()
        self.average = average3(count_padding)
        row = {"kernel": (1, 7), "padding": (0, 3)}
        column = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, width7, 1)
        self.branch7x7_2 = Conv(width7, width7, **row)  # type: ignore[arg-type]
        self.branch7x7_3 = Conv(width7, 192, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = Conv(768, width7, 1)
        self.branch7x7dbl_2 = Conv(width7, width7, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = Conv(width7, width7, **row)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = Conv(width7, width7, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = Conv(width7, 192, **row)  # type: ignore[arg-type]
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(self.average(x))], dim=1)


STAGES = {"Conv2d_2b_3x3": 64, "Conv2d_4a_3x3": 192, "Mixed_5d": 288, "Mixed_6e": 768}
"""Channels of the last stage at each resolution: 1/2, 1/4, 1/8 and 1/16 of the picture's."""


class InceptionTrunk(nn.Module):
    """Features of the last stage: (N, 3, H, W) RGB in -1..1, H and W >= 75 -> (N, C, h, w).

    C is 768 after Mixed_6e, or 288 for ``last="Mixed_5d"``, which omits nine tenths of the weights.
    """

    def __init__(self, *, last: str = "Mixed_6e", count_padding: bool = False) -> None:
        super().__init__()
        self.last = last
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = MixedA(192, 32, count_padding)
        self.Mixed_5c = MixedA(256, 64, count_padding)
        self.Mixed_5d = MixedA(288, 64, count_padding)
        if last == "Mixed_5d":
            return
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(128, count_padding)
        self.Mixed_6c = MixedC(160, count_padding)
        self.Mixed_6d = MixedC(160, count_padding)
        self.Mixed_6e = MixedC(192, count_padding)

    def forward(self, x: Tensor) -> Tensor:
        *_, features = self.stages(x)
        return features

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features of each stage in STAGES, in order, up to the trunk's last."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        yield x  # (N, 64, 147, 147) at 299x299
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        yield x  # (N, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        yield x  # (N, 288, 35, 35)
        if self.last == "Mixed_5d":
            return
        x = self.Mixed_6a(x)  # (N, 768, 17, 17)
        yield self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
