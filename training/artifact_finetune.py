"""Artifact fine-tuning, the last phase: reduce an artifact of a generator's output and preserve everything
else.

The targets are the output of the initial weights: its features, its Gram matrices, and its pixels where the
batch requires them. So at the first step only the artifact terms (``halo_weight``, ``fringe_weight``) have a
gradient, and batches can be small: no noise of other losses moves the weights.
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
from mst_deploy.training.style_network import to_device, to_noise, to_tensor


class ArtifactFinetuner(Trainer):
    """Fine-tunes the generator of a trained model; the style encoder is frozen.

    The weights of content, style and identity weigh the distance to the initial output.
    """

    def __init__(self, config: TrainConfig, networks: Networks, *others: Any, **options: Any) -> None:
        """Take the arguments of Trainer; ``networks`` are the trained ones."""
        # in the mode of the trained one: a difference in rounding would have a gradient
        initial: Any = copy.deepcopy(networks.generator).requires_grad_(False).train()
        super().__init__(config, networks, *others, frozen="encoder", **options)
        self.targets.with_grams = False
        initial = initial.to(self.device, memory_format=torch.channels_last)
        self.initial: Any = torch.compile(initial, dynamic=False) if options.get("compiled") else initial

    @torch.no_grad()
    def compute_targets(self, batch: Batch) -> Targets:
        """Return the initial output as targets."""
        contents = to_tensor(batch.contents, self.device)
        with self.fabric.autocast():
            target = self.targets.of(batch.views, self.style_crops(batch), self.device)
            taps = self.loss_vgg(contents) if self.network.module.needs == "features" else {}
            style = self.targets.style_input(target, contents, taps, batch.own, batch.strengths)
            painted = self.initial_output(contents, batch, style)
            taps = self.loss_vgg(painted)
            grams = self.grams(painted, taps)
        ones = torch.ones(len(contents), device=self.device)
        return Targets(contents, style, taps[self.vgg.content_layer], grams, ones, None, ones, painted, ones)

    def initial_output(self, contents: Tensor, batch: Batch, style: Any) -> Tensor:
        """Return the output of the initial weights for a batch, (N, 3, S, S) float32."""
        condition = self.network.module.condition(style)
        canvas = to_noise(batch.canvas, self.device)
        if canvas is None:
            painted: Tensor = self.initial(contents, condition).float()
            return painted
        gains = to_device(batch.gains, self.device).to(condition.dtype)
        condition = torch.cat([condition[:, : -gains.shape[1]], gains], dim=1)
        painted = self.initial(contents, condition, canvas).float()
        return painted
