"""Speed and memory of training on this machine: ``python -m mst_deploy.training.throughput --help``.

For crops of 128 and 256 pixels: images a second, the share of the time spent waiting for data, and the
memory that one more image in the batch takes. The first steps, in which style targets are computed and
buffers grow, are not counted.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from mst_deploy.cli.console import progress
from mst_deploy.datasets import load_images
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.training.config import Stage, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.pretrained import load_trunk_into, loss_network
from mst_deploy.training.run_folder import gather_facts
from mst_deploy.training.running import make_fabric
from mst_deploy.training.samples import default_workers


def peak_memory() -> float:
    """The most memory used so far, MiB: of the GPU, or of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(trainer: Trainer, steps: int, warmup: int) -> dict[str, float]:
    """Images a second and the share of waiting over ``steps`` steps after ``warmup``."""
    source = trainer.batches()
    for _ in range(warmup):
        trainer.update(*next(source))
    began, waited, seen = time.monotonic(), trainer.waited, trainer.seen
    for _ in range(steps):
        trainer.update(*next(source))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.monotonic() - began
    return {
        "images_per_second": round((trainer.seen - seen) / seconds, 2),
        "waiting_for_data": round((trainer.waited - waited) / seconds, 4),
    }


@dataclass(frozen=True)
class Runs:
    """What all measurements share."""

    content: list[Path]
    style: list[Path]
    vgg: Path | None
    styles: int
    steps: int
    workers: int
    precision: str
    device: str


def measure_alone(runs: Runs, crop: int, batch: int) -> dict[str, float]:
    """Figures and peak memory of a fresh process at one crop and batch size."""
    fabric = make_fabric(runs.device, runs.precision)
    contents, artworks = load_images(runs.content), load_images(runs.style)[: runs.styles]
    network = loss_network(contents, runs.vgg)
    config = TrainConfig(
        stages=(Stage(1.0, crop, batch, 10.0),),
        style_views=1,
        identity_share=0.0,
        gram_pretraining_steps=0,
        temporal_weight=0.0,
        strength_share=0.0,
        precision=runs.precision,
    )
    networks = new_networks(config.network)
    assert networks.encoder is not None
    load_trunk_into(networks.encoder, None)
    trainer = Trainer(config, networks, network, contents, artworks, fabric, workers=runs.workers)
    trainer.initialize_encoder()
    figures = measure(trainer, runs.steps, max(5, 3 * runs.styles // batch))
    return {**figures, "peak_memory_mib": peak_memory()}


def main(
    content: Annotated[list[Path], typer.Option(help="Photographs: folder, tar file or list.")],
    style: Annotated[list[Path], typer.Option(help="Artworks: folder, tar file or list.")],
    vgg: Annotated[Path | None, typer.Option(help="VGG-19 weights. Default: downloaded once.")] = None,
    batch: Annotated[int, typer.Option(help="Images a step with crops of 128; a quarter with 256.")] = 8,
    steps: Annotated[int, typer.Option(help="Steps that are timed.")] = 20,
    styles: Annotated[int, typer.Option(help="Artworks used: their targets must be computed first.")] = 16,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    precision: Annotated[str, typer.Option(help="bf16, fp16 or fp32.")] = "bf16",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file to write.")] = None,
) -> None:
    """Measure training speed and memory."""
    count = default_workers("cuda" if torch.cuda.is_available() and device != "cpu" else "cpu")
    runs = Runs(content, style, vgg, styles, steps, count if workers is None else workers, precision, device)
    rows: list[dict[str, Any]] = []
    sizes = [(128, batch), (256, max(1, batch // 4))]
    # Each in a process of its own: the peak of a process never falls.
    spawn = multiprocessing.get_context("spawn")
    with (
        progress("measuring", 2 * len(sizes), unit="runs/s") as tell,
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool,
    ):
        for crop, largest in sizes:
            few, many = (1, largest) if largest > 1 else (1, 2)
            small = pool.submit(measure_alone, runs, crop, few).result()
            large = pool.submit(measure_alone, runs, crop, many).result()
            tell(2 * (len(rows) + 1))
            grown = large.pop("peak_memory_mib") - small["peak_memory_mib"]
            rows.append(
                {
                    "crop": crop,
                    "batch": many,
                    **large,
                    "memory_per_image_mib": round(grown / (many - few)),
                    "peak_memory_mib": round(grown + small["peak_memory_mib"]),
                }
            )
    facts = gather_facts(rows=rows, workers=runs.workers, precision=precision, device=device)
    facts.pop("command")
    text = json.dumps(facts, indent=2)
    print(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
