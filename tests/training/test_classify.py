"""Tests of the first phase: the trunk learns movements, and its file starts the next phase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file

from mst_deploy.datasets import ImageFile, load_images
from mst_deploy.errors import InputError
from mst_deploy.model.networks import NetworkConfig, StyleEncoder
from mst_deploy.training.classify import ClassifyConfig, ClassifyTrainer, classify, split
from mst_deploy.training.options import ClassifyOptions
from mst_deploy.training.pretrained import load_trunk_into

CONFIG = ClassifyConfig(steps=16, batch=8, crop=80, learning_rate=3e-4, warmup_steps=2, precision="fp32")


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two movements that differ: stripes across and stripes down, in all colors."""
    folder = tmp_path_factory.mktemp("art")
    rng = np.random.default_rng(0)
    for movement in ("across", "down"):
        (folder / movement).mkdir()
        for index in range(9):
            wave = np.sin(np.arange(100) * rng.uniform(0.3, 0.9))[:, None, None]
            wave = wave if movement == "across" else wave.transpose(1, 0, 2)
            pixels = 128 + 90 * wave * rng.uniform(-1, 1, 3) + rng.normal(0, 10, (100, 100, 3))
            cv2.imwrite(str(folder / movement / f"{index}.png"), pixels.clip(0, 255).astype(np.uint8))
    return folder


def make_trainer(images: list[ImageFile]) -> ClassifyTrainer:
    torch.manual_seed(0)
    encoder = StyleEncoder(NetworkConfig())
    load_trunk_into(encoder, None)
    fabric = Fabric(accelerator="cpu", devices=1)
    return ClassifyTrainer(CONFIG, encoder.trunk, images, ["across", "down"], fabric)


def test_it_learns_what_it_has_not_seen(art: Path) -> None:
    learn, measure = split(load_images([art]), frozenset())
    assert (len(learn), len(measure)) == (16, 2)
    trainer = make_trainer(learn)
    trainer.run(lambda _: None, lambda: None)
    assert trainer.accuracy(measure) == 1.0


def test_continued_run_equals_uninterrupted_run(art: Path) -> None:
    images = load_images([art])
    whole, first, second = (make_trainer(images) for _ in range(3))
    whole.config = first.config = second.config = replace(CONFIG, steps=4)

    def stop() -> None:
        first.stop_requested = True

    whole.run(lambda _: None, lambda: None)
    first.run(lambda _: None, stop, save_steps=2)
    second.load_state(first.state())
    second.run(lambda _: None, lambda: None)
    assert second.step == whole.step == 4
    for name, value in whole.model.module.state_dict().items():
        torch.testing.assert_close(second.model.module.state_dict()[name], value, rtol=0, atol=0)


def test_command_writes_a_trunk_that_the_next_phase_takes(art: Path, tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text(load_images([art])[0].sha256 + "\n")
    options = ClassifyOptions(
        style=(art,),
        output=tmp_path / "run",
        held_out=tmp_path / "held.txt",
        steps=2,
        learning_rate=1e-3,
        precision="fp32",
        batch_scale=0.25,
        workers=0,
        device="cpu",
    )
    classify(options)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["movements"] == ["across", "down"]
    assert run["done"]["held_out_accuracy"] in (0.0, 1.0)
    before, after = StyleEncoder(NetworkConfig()), StyleEncoder(NetworkConfig())
    load_trunk_into(before, None)
    load_trunk_into(after, tmp_path / "run" / "inception.safetensors")
    assert load_file(tmp_path / "run" / "inception.safetensors").keys() == before.trunk.state_dict().keys()
    first = "Conv2d_1a_3x3.conv.weight"
    assert not torch.equal(before.trunk.state_dict()[first], after.trunk.state_dict()[first])


def test_pictures_without_movements_are_refused() -> None:
    flat = [ImageFile(f"{index}.png", content=b"x") for index in range(3)]
    with pytest.raises(InputError, match="one folder of pictures for each"):
        split(flat, frozenset())
