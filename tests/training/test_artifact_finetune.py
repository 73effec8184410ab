"""Tests of artifact fine-tuning: only the generator is trained, and only artifacts are reduced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from typer.testing import CliRunner

from mst_deploy.cli import app
from mst_deploy.datasets import ImageFile
from mst_deploy.model.checkpoints import load_checkpoint, new_networks, save_checkpoint
from mst_deploy.perceptual.artifacts import edge_fringe_loss
from mst_deploy.perceptual.vgg import Vgg19
from mst_deploy.training.artifact_finetune import ArtifactFinetuner
from mst_deploy.training.config import Stage, TrainConfig
from tests.training.toys import CONFIG, batch_of, contents, styles, write_folders

STILL = replace(CONFIG, tv_weight=0.0, halo_weight=0.0)
"""No term against any fault."""


def figures() -> list[ImageFile]:
    """Dark squares before plain walls, 96x96."""
    images = []
    for index, wall in enumerate((150, 190, 230)):
        pixels = np.full((96, 96, 3), (wall, wall - 20, wall - 40 * (index - 1)), np.uint8)
        pixels[24:72, 24 + 8 * index : 72] = 30
        images.append(ImageFile(f"figure{index}.png", content=cv2.imencode(".png", pixels)[1].tobytes()))
    return images


def make_finetuner(config: TrainConfig, photographs: list[ImageFile] | None = None) -> ArtifactFinetuner:
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    return ArtifactFinetuner(
        config, new_networks(config.network), Vgg19().eval(), photographs or contents(), styles(), fabric
    )


def advance(trainer: ArtifactFinetuner, steps: int) -> None:
    source = trainer.batches()
    for _ in range(steps):
        trainer.update(*next(source))


@pytest.mark.parametrize("strength_share", [0.0, 1.0])
def test_what_is_painted_before_is_what_is_wanted(strength_share: float) -> None:
    trainer = make_finetuner(replace(CONFIG, strength_share=strength_share))
    terms = trainer.losses(batch_of(trainer), CONFIG.stages[0])
    for name in ("content", "style", "identity"):
        assert terms[name].item() == pytest.approx(0, abs=1e-9)
    assert terms["tv"].item() > 1e-6


def test_without_a_fault_nothing_changes_and_with_one_the_generator_does() -> None:
    trainer = make_finetuner(STILL)
    parts = {name: value.detach().clone() for name, value in trainer.networks.state_dict().items()}
    assert all(name.startswith("generator.") for name in trainer.trained)
    advance(trainer, 2)
    for name, value in trainer.networks.state_dict().items():
        torch.testing.assert_close(value, parts[name], rtol=0, atol=1e-6)
    trainer = make_finetuner(replace(STILL, tv_weight=1.0))
    advance(trainer, 2)
    changed = {
        name
        for name, value in trainer.networks.state_dict().items()
        if (value - parts[name]).abs().max() > 1e-5
    }
    assert changed == set(trainer.trained)


@pytest.mark.slow
def test_fringes_fade_and_the_rest_is_kept() -> None:
    """A random generator paints some; after a few steps they are less, and its style is about the same."""
    stage = Stage(until=1.0, crop=64, batch=2, style_weight=1.0)
    config = replace(STILL, stages=(stage,), steps=60, fringe_weight=300.0, learning_rate=2e-3)
    trainer = make_finetuner(config, figures())
    batch = batch_of(trainer)
    wanted = trainer.compute_targets(batch)
    before = edge_fringe_loss(wanted.pixels, wanted.contents).mean().item()
    advance(trainer, 50)
    after = trainer.losses(batch, stage)
    assert after["fringe"].item() < 0.7 * before
    assert after["style"].item() < 0.05


def test_continued_run_is_still_held_to_what_was_painted_at_first() -> None:
    config = replace(CONFIG, fringe_weight=10.0)
    whole, first, second = (make_finetuner(config) for _ in range(3))
    advance(whole, 4)
    advance(first, 2)
    second.load_state(first.state())
    advance(second, 2)
    for name, value in whole.trained.items():
        torch.testing.assert_close(second.trained[name], value, rtol=0, atol=0)


def test_command_finetunes_the_generator_alone(tmp_path: Path) -> None:
    data = write_folders(tmp_path)
    networks = new_networks(CONFIG.network)
    save_checkpoint(tmp_path / "start.safetensors", networks)
    outcome = CliRunner().invoke(
        app,
        [
            "train",
            "finetune-artifacts",
            "--start",
            str(tmp_path / "start.safetensors"),
            *data,
            "--steps",
            "2",
            "--workers",
            "0",
            "-q",
            "-o",
            str(tmp_path / "run"),
        ],
    )
    assert outcome.exit_code == 0, outcome.output
    before, after = networks.state_dict(), load_checkpoint(tmp_path / "run/weights.safetensors").state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(name.startswith("generator.") for name in changed)
    outcome = CliRunner().invoke(app, ["train", "finetune-artifacts", *data])
    assert outcome.exit_code == 2
    assert "--start" in outcome.output
