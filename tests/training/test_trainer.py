"""The trainer on toy data: it learns, it resumes exactly, it keeps held-out images out."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mst_deploy.errors import InputError, InvalidArgument, VerificationError
from mst_deploy.networks import Generator, NetworkConfig, StyleEncoder
from mst_deploy.training.config import Stage, TrainConfig
from mst_deploy.training.data import (
    StoredImage,
    group_weights,
    load_images,
    random_crop,
    read_hash_list,
    shift_colours,
)
from mst_deploy.training.loop import Report, Trainer
from mst_deploy.training.vgg import Vgg19, normalise
from mst_deploy.weights import Networks, load_checkpoint
from tests.clips import picture

CONFIG = TrainConfig(
    network=NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=6),
    stages=(Stage(until=1.0, crop=32, batch=2, style_weight=5.0),),
    steps=12,
    style_size=80,
    style_views=2,
    warmup_steps=2,
    precision="fp32",
)


def stored(name: str, seed: int, size: int = 96) -> StoredImage:
    pixels = np.roll(picture(size, size, seed), seed, axis=2)
    return StoredImage(name, cv2.imencode(".png", pixels)[1].tobytes())


def make_trainer(config: TrainConfig = CONFIG) -> Trainer:
    torch.manual_seed(0)
    networks = Networks(Generator(config.network), StyleEncoder(config.network))
    contents = [stored(f"c{i}.png", i) for i in range(3)]
    styles = [stored(f"group{i % 2}/s{i}.png", 40 + 30 * i) for i in range(3)]
    return Trainer(config, networks, Vgg19().eval(), contents, styles, torch.device("cpu"))


def test_the_loss_goes_down() -> None:
    trainer = make_trainer()
    trainer.initialise_projection()
    losses = [trainer.update(0.1)["total"].item() for _ in range(40)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole = make_trainer()
    whole.initialise_projection()
    for _ in range(6):
        whole.update(whole.progress)
    first = make_trainer()
    first.initialise_projection()
    for _ in range(3):
        first.update(first.progress)
    first.save(tmp_path)
    second = make_trainer()
    second.restore(tmp_path)
    for _ in range(3):
        second.update(second.progress)
    assert second.step == whole.step
    for name, value in whole.trained.items():
        torch.testing.assert_close(second.trained[name], value, rtol=0, atol=0)
        torch.testing.assert_close(second.average[name], whole.average[name], rtol=0, atol=0)


def test_run_writes_averaged_weights_and_a_sheet(tmp_path: Path) -> None:
    trainer = make_trainer()
    reports: list[Report] = []
    trainer.run(tmp_path, reports.append, log_every=4)
    assert [report.step for report in reports] == [4, 8, 12]
    loaded = load_checkpoint(tmp_path / "weights.safetensors")
    assert loaded.training["steps_done"] == 12
    for name, value in trainer.average.items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    assert (tmp_path / "samples-000012.jpg").exists()


def test_trunk_is_frozen_and_the_rest_learns() -> None:
    trainer = make_trainer()
    trainer.initialise_projection()
    before = {name: value.detach().clone() for name, value in trainer.trained.items()}
    assert not any(".trunk." in name for name in before)
    trainer.update(0.1)
    assert all((trainer.trained[name] - value).abs().max() > 0 for name, value in before.items())


def test_loss_that_is_no_number_stops_the_run() -> None:
    trainer = make_trainer()
    with torch.no_grad():
        trainer.generator.head.weight.fill_(float("nan"))
    with pytest.raises(VerificationError, match="nan"):
        trainer.update(0.1)


def test_projection_starts_centred() -> None:
    """After initialisation the projections of the training styles sum to zero."""
    trainer = make_trainer()
    trainer.initialise_projection()
    pooled = torch.stack([trainer.style_target(i, 0).pooled for i in range(3)])
    projected = trainer.encoder.project(pooled)
    torch.testing.assert_close(projected.mean(dim=0), torch.zeros(6), atol=1e-3, rtol=0)
    assert projected.std(dim=0)[0] > 1e-3


def test_held_out_images_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    images = [stored(f"{i}.png", i) for i in range(4)]
    for image in images[:2]:
        (tmp_path / "a" / image.name).write_bytes(image.data)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for image in images[2:]:
            info = tarfile.TarInfo(f"group/{image.name}")
            info.size = len(image.data)
            archive.addfile(info, io.BytesIO(image.data))
    (tmp_path / "held.txt").write_text(f"# a comment\n\n{images[3].sha256}  some name\n")
    held = read_hash_list(tmp_path / "held.txt")
    sources = [tmp_path / "a", tmp_path / "b.tar"]
    assert [image.name for image in load_images(sources, held)] == ["0.png", "1.png", "group/2.png"]
    assert [image.name for image in load_images(sources, held, keep=True)] == ["group/3.png"]


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        load_images([tmp_path])
    with pytest.raises(InputError, match="neither a folder nor a tar"):
        load_images([tmp_path / "absent"])


def test_groups_weigh_alike() -> None:
    images = [StoredImage(name, b"") for name in ("a/1", "a/2", "a/3", "b/1", "c/1")]
    odds = group_weights(images, ["c"], 3.0)
    np.testing.assert_allclose(odds, [1 / 15, 1 / 15, 1 / 15, 1 / 5, 3 / 5])


def test_crops_are_inside_and_repeatable() -> None:
    image = picture(90, 70, 0)
    crops = [random_crop(image, 32, 1.5, np.random.default_rng(5)) for _ in range(2)]
    assert crops[0].shape == (32, 32, 3)
    np.testing.assert_array_equal(crops[0], crops[1])


def test_colour_shift_keeps_brightness_order_of_greys() -> None:
    ramp = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(shift_colours(ramp, np.random.default_rng(1)), ramp)


def test_normalised_vgg_scales_each_channel() -> None:
    torch.manual_seed(0)
    plain, scaled = Vgg19(), Vgg19()
    scaled.load_state_dict(plain.state_dict())
    scales = {
        f"conv{block}_{index}": torch.rand(width) + 0.5
        for block, width, count in ((1, 64, 2), (2, 128, 2), (3, 256, 4), (4, 512, 1))
        for index in range(1, count + 1)
    }
    with torch.no_grad():
        normalise(scaled, scales)
        image = torch.rand(1, 3, 32, 32)
        before, after = plain(image), scaled(image)
    for tap, features in before.items():
        factor = scales[tap.replace("relu", "conv")][None, :, None, None]
        torch.testing.assert_close(after[tap], features * factor, rtol=1e-4, atol=1e-5)


def test_stages_follow_progress() -> None:
    config = TrainConfig()
    assert [config.stage_at(p).crop for p in (0.0, 0.39, 0.5, 0.9, 1.0)] == [128, 128, 192, 256, 256]
    with pytest.raises(InvalidArgument):
        TrainConfig(stages=(Stage(0.5, 32, 1, 1.0),))
