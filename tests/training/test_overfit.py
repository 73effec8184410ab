"""Test of a whole generator on one style and eight photographs, run with ``-m slow``."""

from __future__ import annotations

import pytest
import torch
from lightning.fabric import Fabric

from mst_deploy.datasets import load_images
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.perceptual.vgg import load_vgg
from mst_deploy.training.config import LITE, Stage, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.pretrained import load_trunk_into
from tests.conftest import ROOT
from tests.training.test_real_weights import SCALES, VGG
from tests.training.toys import stored

STEPS = 120


@pytest.mark.slow
@pytest.mark.skipif(not VGG.exists(), reason="no pretrained weights beside the checkout")
def test_style_loss_falls_ten_times() -> None:
    """From the first step to the mean of the last twenty, with no term but a weak content beside it."""
    photos = [stored(f"{index}.png", 30 * index, 160) for index in range(8)]
    art = next(i for i in load_images([ROOT / "examples" / "paintings"]) if "starry" in i.name)
    config = TrainConfig(
        network=LITE.network,
        stages=(Stage(until=1.0, crop=64, batch=2, style_weight=50.0),),
        steps=STEPS,
        warmup_steps=20,
        content_weight=0.1,
        flat_content=1.0,
        style_scales=1,
        palette_weight=0.0,
        halo_weight=0.0,
        fringe_weight=0.0,
        temporal_weight=0.0,
        identity_share=0.0,
        strength_share=0.0,
        color_shift_share=0.0,
        strokes_share=0.0,
        stroke_sizes=(1.0, 1.0),
        stroke_zoom=1.0,
        style_zoom=1.0,
        style_size=128,
        style_views=1,
        flatness_ranks=1,
        precision="fp32",
    )
    torch.manual_seed(0)
    networks = new_networks(config.network)
    assert networks.encoder is not None
    load_trunk_into(networks.encoder, None)
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = Trainer(config, networks, load_vgg(VGG, SCALES), photos, [art], fabric)
    losses = [trainer.update(batch, progress)["style"].item() for batch, progress in trainer.batches()]
    assert len(losses) == STEPS
    assert sum(losses[-20:]) / 20 < losses[0] / 10
