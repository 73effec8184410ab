"""Toy data and toy networks for the trainer's tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import save_file

from mst_deploy.datasets import ImageFile
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.model.networks import NetworkConfig
from mst_deploy.perceptual.vgg import Vgg19
from mst_deploy.training.config import Stage, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.samples import Batch, Samples, Share, batches, collate
from tests.pictures import picture

CONFIG = TrainConfig(
    network=NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=6),
    stages=(Stage(until=1.0, crop=32, batch=2, style_weight=5.0),),
    steps=12,
    style_size=80,
    style_views=2,
    warmup_steps=2,
    gram_pretraining_steps=5,
    temporal_weight=0.0,
    strength_share=0.0,
    tv_weight=0.5,
    flat_content=1.0,
    style_scales=1,
    palette_weight=0.0,
    fringe_weight=0.0,
    style_zoom=1.8,
    stroke_zoom=1.0,
    stroke_sizes=(1.0, 1.0),
    flatness_ranks=1,
    precision="fp32",
)
"""Without a canvas, and without what comes with it."""


def pixels_of(seed: int, size: int = 96) -> NDArray[np.uint8]:
    """(size, size, 3) uint8: one of many different pictures."""
    return np.roll(picture(size, size, seed), seed, axis=2)


def stored(name: str, seed: int, size: int = 96) -> ImageFile:
    return ImageFile(name, content=cv2.imencode(".png", pixels_of(seed, size))[1].tobytes())


def contents() -> list[ImageFile]:
    return [stored(f"c{i}.png", i) for i in range(3)]


def styles(count: int = 3) -> list[ImageFile]:
    return [stored(f"group{i % 2}/s{i}.png", 40 + 30 * i) for i in range(count)]


def make_trainer(
    config: TrainConfig = CONFIG, fabric: Fabric | None = None, *, workers: int = 0, compiled: bool = False
) -> Trainer:
    """A trainer with random networks; the same one every time."""
    torch.manual_seed(0)
    networks = new_networks(config.network)
    vgg = Vgg19().eval()
    count = 1 if config.network.injection == "johnson" else 3
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    return Trainer(
        config, networks, vgg, contents(), styles(count), fabric, workers=workers, compiled=compiled
    )


def with_injection(injection: str) -> TrainConfig:
    share = 0.0 if injection == "johnson" else CONFIG.identity_share
    return replace(CONFIG, network=replace(CONFIG.network, injection=injection), identity_share=share)


def batch_of(trainer: Trainer, number: int = 0) -> Batch:
    """This process's part of the batch with the given number."""
    stage = trainer.config.stage_at(0.0)
    samples = Samples(trainer.config, stage, trainer.contents, trainer.styles, trainer.targets.known)
    share = Share(trainer.fabric.global_rank, trainer.fabric.world_size, 0)
    found = next(batches(samples, collate, stage.batch, number * stage.batch, share, pin=False))
    assert isinstance(found, Batch)
    return found


def write_folders(folder: Path) -> list[str]:
    """Photographs, artworks, a VGG with random weights and a recipe; gives the options that name them."""
    for name, count, offset in (("photos", 4, 0), ("art", 3, 40)):
        (folder / name).mkdir()
        for index in range(count):
            pixels = cv2.cvtColor(pixels_of(offset + 30 * index), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / name / f"{index}.png"), pixels)
    torch.manual_seed(0)
    save_file(Vgg19().state_dict(), folder / "vgg.safetensors")
    (folder / "recipe.json").write_text(json.dumps({**CONFIG.to_dict(), "steps": 20}))
    return [
        "--content",
        str(folder / "photos"),
        "--style",
        str(folder / "art"),
        "--vgg",
        str(folder / "vgg.safetensors"),
        "--recipe",
        str(folder / "recipe.json"),
        "--device",
        "cpu",
    ]
