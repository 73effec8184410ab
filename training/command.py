"""``mst train``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from mst_deploy.console import progress, say
from mst_deploy.errors import OutputError
from mst_deploy.networks import Generator, StyleEncoder
from mst_deploy.training.config import TrainConfig
from mst_deploy.training.data import load_images, read_hash_list
from mst_deploy.training.loop import Report, Trainer
from mst_deploy.training.vgg import load_vgg
from mst_deploy.weights import Networks, load_inception


def joint(
    content: list[Path],
    style: list[Path],
    vgg: Path,
    inception: Path,
    output: Path,
    *,
    vgg_scales: Path | None,
    held_out: Path | None,
    minutes: float | None,
    steps: int,
    batch_scale: float,
    device: str,
    quiet: bool,
) -> None:
    """Build the trainer, continue a run found in ``output``, train, say where the weights are."""
    config = TrainConfig(steps=steps, minutes=minutes)
    stages = (replace(stage, batch=max(1, round(stage.batch * batch_scale))) for stage in config.stages)
    config = replace(config, stages=tuple(stages))
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    torch.manual_seed(config.seed)
    torch.set_flush_denormal(True)  # vanishing gradients would slow a CPU down many times
    networks = Networks(Generator(config.network), StyleEncoder(config.network))
    load_inception(networks.encoder, inception)
    kept = read_hash_list(held_out) if held_out else frozenset()
    trainer = Trainer(
        config,
        networks,
        load_vgg(vgg, vgg_scales),
        load_images(content, kept),
        load_images(style, kept),
        torch.device(chosen),
    )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror}") from error
    if (output / "state.pt").exists():
        trainer.restore(output)
        say(f"continuing {output} at step {trainer.step}", quiet=quiet)
    with (
        (output / "log.jsonl").open("a", encoding="utf-8") as log,
        progress(f"training in {output}", 1000, unit="permille/s", quiet=quiet) as tell,
    ):

        def record(report: Report) -> None:
            losses = {name: round(value, 5) for name, value in report.losses.items()}
            line = {"step": report.step, "seconds": round(report.seconds),
                    "images_per_second": round(report.images_per_second, 2), **losses}  # fmt: skip
            print(json.dumps(line), file=log, flush=True)
            tell(round(1000 * report.progress))

        trainer.run(output, record)
    say(f"{output / 'weights.safetensors'}; export it with: mst export {output / 'weights.safetensors'}",
        quiet=quiet)  # fmt: skip
