"""Slow reference: optimize one picture to minimize the evaluated distances themselves.

Gatys et al. 2016 (CVPR), with L-BFGS from the photograph and the relative distances of ``perceptual`` as
losses: content + weight * style. No feed-forward network can be expected below.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mst_deploy.errors import InvalidArgument
from mst_deploy.images import Image
from mst_deploy.perceptual.distances import (
    CONTENT_LAYER,
    as_tensor,
    content_distance,
    gram_target,
    style_distance,
)
from mst_deploy.perceptual.vgg import Vgg19

REPORTED = 10  # steps between two calls of ``on_progress``


def optimize(
    photo: Image,
    artwork: Image,
    vgg: Vgg19,
    *,
    style_weight: float,
    steps: int,
    device: torch.device,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Image:
    """Return the photograph (H, W, 3) uint8 in the artwork's style, same shape and dtype.

    Raises InvalidArgument for fewer than one step or a negative weight.
    """
    if steps < 1 or style_weight < 0:
        raise InvalidArgument(f"steps must be positive and the weight not negative: {steps}, {style_weight}")
    start = as_tensor(photo).to(device)
    with torch.no_grad():
        content = vgg(start)[CONTENT_LAYER]
        grams = gram_target(vgg(as_tensor(artwork).to(device)))
    picture = start.clone(memory_format=torch.contiguous_format).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [picture],
        max_iter=REPORTED,
        history_size=20,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        taps = vgg(picture)
        # Colors outside 0..1 are clipped at the end, so their excess is penalized.
        excess = (picture - picture.clamp(0, 1)).square().sum()
        total = (
            content_distance(taps[CONTENT_LAYER], content)
            + style_weight * style_distance(gram_target(taps), grams)
        ).sum() + excess
        total.backward()  # type: ignore[no-untyped-call]
        return total

    done = 0
    while done < steps:
        optimizer.param_groups[0]["max_iter"] = min(REPORTED, steps - done)
        optimizer.step(loss)  # type: ignore[no-untyped-call]
        done += REPORTED
        on_progress(min(done, steps))
    pixels = picture.detach().clamp(0, 1).mul(255).round()[0].permute(1, 2, 0)
    return np.asarray(pixels.cpu().numpy(), np.uint8)
