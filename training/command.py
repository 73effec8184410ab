"""``mst train``: classify, joint, encoder, finetune-artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mst_deploy.datasets import ImageFile, fingerprint, load_images, read_hash_list
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.checkpoints import (
    Networks,
    build_networks,
    load_bundle,
    load_checkpoint,
    new_networks,
    save_checkpoint,
)
from mst_deploy.model.networks import NetworkConfig
from mst_deploy.model.zoo import resolve_model
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.training.artifact_finetune import ArtifactFinetuner
from mst_deploy.training.classify import classify
from mst_deploy.training.config import PAPER, RECIPES, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.pretrained import load_trunk_into, loss_network
from mst_deploy.training.pruning import prune_channels
from mst_deploy.training.reports import NonFiniteLoss
from mst_deploy.training.run_folder import gather_facts, open_run
from mst_deploy.training.running import check_compiler, graceful_stop, make_fabric, reporting
from mst_deploy.training.samples import default_workers

__all__ = ["classify", "train"]

PHASES: dict[str, Callable[..., Trainer]] = {
    "joint": Trainer,
    "encoder": partial(Trainer, frozen="generator"),
    "finetune-artifacts": ArtifactFinetuner,
}


@dataclass(frozen=True)
class Job:
    """The options of a training command, as given."""

    phase: str
    content: list[Path]
    style: list[Path]
    output: Path
    recipe: str
    start: str | Path | None = None
    generator: str | Path | None = None
    prune_from: str | Path | None = None
    vgg: Path | None = None
    vgg_scales: Path | None = None
    vgg_distilled: Path | None = None
    inception: Path | None = None
    held_out: Path | None = None
    injection: str | None = None
    statistics: str | None = None
    precision: str | None = None
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    learning_rate: float | None = None
    style_weight: float | None = None
    temporal_weight: float | None = None
    batch_scale: float = 1.0
    seed: int | None = None
    workers: int | None = None
    save_every: float = 5.0
    save_steps: int | None = None
    device: str = "auto"
    compiled: bool = False
    reporter: Reporter = SILENT


def train(**options: Any) -> None:
    """Set a run up as asked, continue it if ``output`` holds it, train, say where the weights are."""
    job = Job(**options)
    fabric = make_fabric(job.device, configure(job).precision)
    if job.compiled:
        check_compiler(fabric.device.type)
    reporter = job.reporter if fabric.is_global_zero else SILENT
    contents, styles = read_data(job)
    networks = read_start(job)
    teacher = read_model(job.generator)
    fresh = networks is None
    config = configure(job, networks)
    torch.manual_seed(config.seed)
    networks = networks or fresh_networks(config, job.inception, teacher)
    vgg = loss_network(contents, job.vgg, job.vgg_scales, job.vgg_distilled)
    losses = vgg.describe(config.style_layers)
    reporter.note(f"losses: {losses}; {len(contents)} photographs, {len(styles)} styles")
    workers = default_workers(fabric.device.type) if job.workers is None else job.workers
    trainer = PHASES[job.phase](
        config, networks, vgg, contents, styles, fabric, workers=workers, compiled=job.compiled
    )
    facts = gather_facts(
        phase=job.phase,
        config=config.to_dict(),
        losses=losses,
        workers=workers,
        processes=fabric.world_size,
        device=str(fabric.device),
        data={"content": fingerprint(contents), "style": fingerprint(styles)},
    )
    if fabric.is_global_zero:
        lead(trainer, job, facts, teacher, fresh=fresh)
    else:
        follow(trainer, job, teacher, fresh=fresh)


def lead(trainer: Trainer, job: Job, facts: dict[str, Any], teacher: Networks | None, *, fresh: bool) -> None:
    """The first process: trains and writes."""
    with open_run(job.output, facts) as folder, graceful_stop(trainer):
        state = folder.restore()
        if state is not None:
            trainer.load_state(state)
            job.reporter.note(f"continuing {job.output} at step {trainer.step}")
        elif fresh:
            trainer.initialize_encoder(teacher.film_encoder if teacher else None)
        folder.write_facts(trainer.figures())

        def save() -> None:
            folder.save_state(trainer.state())
            save_checkpoint(job.output / "weights.safetensors", trainer.result(facts["losses"]))
            folder.save_samples(trainer.samples(), trainer.step)
            folder.write_facts(trainer.figures())

        with reporting(folder, job.reporter) as record:
            try:
                trainer.run(record, save, save_seconds=60 * job.save_every, save_steps=job.save_steps)
            except NonFiniteLoss as error:
                kept = folder.keep_bad_batch(error.bad)
                raise NonFiniteLoss(error.bad, kept) from None
    skipped = f" ({len(trainer.skipped)} files skipped, see run.json)" if trainer.skipped else ""
    weights = job.output / "weights.safetensors"
    if trainer.progress < 1.0:
        job.reporter.note(f"stopped at step {trainer.step}{skipped}; the same command continues")
    else:
        job.reporter.note(f"{weights}{skipped}; export it with: mst export {weights}")


def follow(trainer: Trainer, job: Job, teacher: Networks | None, *, fresh: bool) -> None:
    """The other processes of a run: they train and write nothing."""
    state = job.output / "state.pt"
    with graceful_stop(trainer):
        if state.exists():
            trainer.load_state(torch.load(state, map_location="cpu", weights_only=True))
        elif fresh:
            trainer.initialize_encoder(teacher.film_encoder if teacher else None)
        trainer.run(lambda _: None, lambda: None, save_steps=job.save_steps)


def configure(job: Job, networks: Networks | None = None) -> TrainConfig:
    """The recipe (a name or a JSON file) with the options that were given in its place."""
    config = read_recipe(job.recipe)
    if networks is not None:
        for name in ("injection", "statistics"):
            wanted, found = getattr(job, name), getattr(networks.config, name)
            if wanted not in (None, found):
                raise InvalidArgument(
                    f"[option:{name}] {wanted}: the model to start from has {found}, and keeps it"
                )
        config = replace(config, network=networks.config)
    else:
        config = replace(config, network=choose_network(job, config.network))
    length: dict[str, Any] = {"steps": job.steps, "epochs": job.epochs, "minutes": job.minutes}
    given = {name: value for name, value in length.items() if value is not None}
    if len(given) > 1:
        raise InvalidArgument(
            field="steps", problem=f"give one length for the run, not {' and '.join(given)}"
        )
    if given:
        config = replace(config, **{"epochs": None, "minutes": None, **given})
    others: dict[str, Any] = {
        "precision": job.precision,
        "seed": job.seed,
        "learning_rate": job.learning_rate,
        "temporal_weight": job.temporal_weight,
    }
    config = replace(config, **{name: value for name, value in others.items() if value is not None})
    if config.network.injection == "johnson":  # it has no style that could be the content
        config = replace(config, identity_share=0.0)
    if not config.network.has_encoder:  # nothing lies between two styles there
        config = replace(config, strength_share=0.0)
    stages = []
    for stage in config.stages:
        weight = stage.style_weight if job.style_weight is None else job.style_weight
        stages.append(replace(stage, batch=max(1, round(stage.batch * job.batch_scale)), style_weight=weight))
    return replace(config, stages=tuple(stages))


def choose_network(job: Job, network: NetworkConfig) -> NetworkConfig:
    """The recipe's network with the options that were given in its place."""
    if job.injection:
        bands = network.canvas_bands if job.injection == "film" else 0
        network = replace(network, injection=job.injection, canvas_bands=bands)
    if job.statistics and job.statistics != network.statistics:
        hidden = PAPER.network.hidden_size if job.statistics == "mean" else NetworkConfig.hidden_size
        network = replace(network, statistics=job.statistics, hidden_size=hidden)
    return network


def read_recipe(recipe: str) -> TrainConfig:
    """A named recipe, or the config of a JSON file (a run.json, or the settings alone)."""
    if recipe in RECIPES:
        return RECIPES[recipe]
    path = Path(recipe)
    if path.suffix != ".json":
        raise InvalidArgument(
            field="recipe",
            problem=f"unknown recipe {recipe!r}",
            hint=f"choose one of {', '.join(RECIPES)} or give a .json file",
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return TrainConfig.from_dict(values.get("config", values))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read the recipe {path}: {error}") from error


def read_data(job: Job) -> tuple[list[ImageFile], list[ImageFile]]:
    kept = read_hash_list(job.held_out) if job.held_out else frozenset()
    return load_images(job.content, kept), load_images(job.style, kept)


def read_start(job: Job) -> Networks | None:
    """The networks that the run goes on from; None where it begins with random ones."""
    if job.prune_from is None:
        found, wanted = read_model(job.start), read_recipe(job.recipe).network
        if found is not None and wanted.canvas_bands and not found.config.canvas_bands:
            found = with_canvas(found, wanted.canvas_bands)
        return found
    if job.start or job.generator:
        raise InvalidArgument(
            field="prune_from",
            problem=(
                "[option:prune_from] cannot be had with "
                f"{'[option:start]' if job.start else '[option:generator]'}"
            ),
        )
    wide, wanted = open_weights(job.prune_from), read_recipe(job.recipe).network
    config = replace(
        wide.config, widths=wanted.widths, residual_blocks=wanted.residual_blocks, padding=wanted.padding
    )
    return prune_channels(wide, config)


def with_canvas(networks: Networks, bands: int) -> Networks:
    """The same film model with a canvas of so many bands, which it has to learn to paint from."""
    fresh = new_networks(replace(networks.config, canvas_bands=bands))
    state = {**fresh.state_dict(), **networks.state_dict()}
    down = state["generator.down1.conv.weight"]
    state["generator.canvas.weight"] = torch.randn_like(state["generator.canvas.weight"]) * down.std()
    return build_networks(fresh.config, state, networks.training, Path("the model with a canvas"))


def read_model(given: str | Path | None) -> Networks | None:
    """The networks of a checkpoint or a bundle, if one is named."""
    return None if given is None else open_weights(given)


def open_weights(given: str | Path) -> Networks:
    """The networks of a checkpoint, or of a bundle or shipped model."""
    path = resolve_model(given)
    return load_bundle(open_bundle(path)) if path.is_dir() else load_checkpoint(path)


def fresh_networks(config: TrainConfig, inception: Path | None, teacher: Networks | None = None) -> Networks:
    """Random networks around a pretrained Inception; the generator is ``teacher``'s if there is one."""
    networks = new_networks(config.network)
    if teacher is not None:
        own, given = networks.generator.state_dict(), teacher.generator.state_dict()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in given.items()}:
            raise InvalidArgument(
                field="generator",
                problem="[option:generator] is a network of other widths, blocks or injection",
            )
        networks.generator.load_state_dict(given)
    if networks.encoder is not None:
        load_trunk_into(networks.encoder, inception)
    return networks
