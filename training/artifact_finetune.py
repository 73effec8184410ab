"""The last phase: take a fault out of what a generator paints, and keep the rest as it was.

What is painted before is what is wanted: its features, its Gram matrices, and its pixels where the batch
asks for them. So at the first step only the terms against faults (``halo_weight``, ``fringe_weight``) have a
gradient, and batches can be small: there is no noise of other losses that would lead the weights away.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mst_deploy.model.checkpoints import Networks
from mst_deploy.training.config import TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.objective import Targets
from mst_deploy.training.samples import Batch
from mst_deploy.training.stylizer import to_noise, to_tensor


class ArtifactFinetuner(Trainer):
    """Trains the generator of networks that can paint; the style encoder stays.

    The weights of content, style and identity weigh the distance to what the networks painted at first.
    """

    def __init__(self, config: TrainConfig, networks: Networks, *others: Any, **options: Any) -> None:
        """What Trainer takes; ``networks`` are those to be retouched."""
        before: Any = copy.deepcopy(networks.generator).requires_grad_(False).eval()
        super().__init__(config, networks, *others, frozen="encoder", **options)
        self.targets.with_grams = False
        before = before.to(self.device, memory_format=torch.channels_last)
        self.before: Any = torch.compile(before, dynamic=False) if options.get("compiled") else before

    @torch.no_grad()
    def wanted(self, batch: Batch) -> Targets:
        """What was painted before."""
        contents = to_tensor(batch.contents, self.device)
        with self.fabric.autocast():
            targets = self.targets.of(batch.views, batch.styles, self.device)
            taps = self.look(contents) if self.stylizer.module.needs == "features" else {}
            style = self.targets.style_input(targets, contents, taps, batch.strengths)
            painted = self.painted_before(contents, batch, style)
            taps = self.look(painted)
            grams = self.grams(painted, taps)
        ones = torch.ones(len(contents), device=self.device)
        return Targets(contents, style, taps[self.vgg.content_layer], grams, ones, None, ones, painted, ones)

    def painted_before(self, contents: Tensor, batch: Batch, style: Any) -> Tensor:
        """Results of the first weights for a batch, (N, 3, S, S) float32."""
        condition = self.stylizer.module.condition(style)
        canvas = to_noise(batch.canvas, self.device)
        if canvas is None:
            painted: Tensor = self.before(contents, condition).float()
            return painted
        gains = batch.gains.to(condition)
        condition = torch.cat([condition[:, : -gains.shape[1]], gains], dim=1)
        painted = self.before(contents, condition, canvas).float()
        return painted
