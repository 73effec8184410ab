"""Implementation of ``mst train``: classify, joint, encoder, finetune-artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
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
from mst_deploy.training.options import TrainOptions
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


def train(phase: str, options: TrainOptions, reporter: Reporter = SILENT) -> None:
    """Set up a run, continue it if ``output`` holds it, train, and print where the weights are.

    ``phase`` is a key of ``PHASES``.
    """
    fabric = make_fabric(options.device, configure(options).precision)
    if options.compiled:
        check_compiler(fabric.device.type)
    reporter = reporter if fabric.is_global_zero else SILENT
    contents, styles = read_data(options)
    networks = read_start(options)
    teacher = read_model(options.generator)
    fresh = networks is None
    config = configure(options, networks)
    torch.manual_seed(config.seed)
    networks = networks or fresh_networks(config, options.inception, teacher)
    vgg = loss_network(contents, options.vgg, options.vgg_scales, options.vgg_distilled)
    losses = vgg.describe(config.style_layers)
    reporter.note(f"losses: {losses}; {len(contents)} photographs, {len(styles)} styles")
    workers = default_workers(fabric.device.type) if options.workers is None else options.workers
    trainer = PHASES[phase](
        config, networks, vgg, contents, styles, fabric, workers=workers, compiled=options.compiled
    )
    facts = gather_facts(
        phase=phase,
        config=config.to_dict(),
        losses=losses,
        workers=workers,
        processes=fabric.world_size,
        device=str(fabric.device),
        data={"content": fingerprint(contents), "style": fingerprint(styles)},
    )
    if fabric.is_global_zero:
        lead(trainer, options, facts, teacher, fresh=fresh, reporter=reporter)
    else:
        follow(trainer, options, teacher, fresh=fresh)


def lead(
    trainer: Trainer,
    options: TrainOptions,
    facts: dict[str, Any],
    teacher: Networks | None,
    *,
    fresh: bool,
    reporter: Reporter,
) -> None:
    """Train and write files; called in the first process."""
    with open_run(options.output, facts) as folder, graceful_stop(trainer):
        state = folder.restore()
        if state is not None:
            trainer.load_state(state)
            reporter.note(f"continuing {options.output} at step {trainer.step}")
        elif fresh:
            trainer.initialize_encoder(teacher.film_encoder if teacher else None)
        folder.write_facts(trainer.figures())

        def save() -> None:
            folder.save_state(trainer.state())
            save_checkpoint(options.output / "weights.safetensors", trainer.result(facts["losses"]))
            folder.save_samples(trainer.samples(), trainer.step)
            folder.write_facts(trainer.figures())

        with reporting(folder, reporter) as record:
            try:
                trainer.run(record, save, save_seconds=60 * options.save_every, save_steps=options.save_steps)
            except NonFiniteLoss as error:
                kept = folder.keep_bad_batch(error.bad)
                raise NonFiniteLoss(error.bad, kept) from None
    skipped = f" ({len(trainer.skipped)} files skipped, see run.json)" if trainer.skipped else ""
    weights = options.output / "weights.safetensors"
    if trainer.progress < 1.0:
        reporter.note(f"stopped at step {trainer.step}{skipped}; the same command continues")
    else:
        reporter.note(f"{weights}{skipped}; export it with: mst export {weights}")


def follow(trainer: Trainer, options: TrainOptions, teacher: Networks | None, *, fresh: bool) -> None:
    """Train without writing files; called in the other processes of a run."""
    state = options.output / "state.pt"
    with graceful_stop(trainer):
        if state.exists():
            trainer.load_state(torch.load(state, map_location="cpu", weights_only=True))
        elif fresh:
            trainer.initialize_encoder(teacher.film_encoder if teacher else None)
        trainer.run(lambda _: None, lambda: None, save_steps=options.save_steps)


def configure(options: TrainOptions, networks: Networks | None = None) -> TrainConfig:
    """Return the recipe (a name or a JSON file), overridden by the given options. Raises InvalidArgument,
    InputError."""
    config = read_recipe(options.recipe)
    if networks is not None:
        for name in ("injection", "statistics"):
            wanted, found = getattr(options, name), getattr(networks.config, name)
            if wanted not in (None, found):
                raise InvalidArgument(
                    f"[option:{name}] {wanted}: the model to start from has {found}, and keeps it"
                )
        config = replace(config, network=networks.config)
    else:
        config = replace(config, network=choose_network(options, config.network))
    length: dict[str, Any] = {"steps": options.steps, "epochs": options.epochs, "minutes": options.minutes}
    given = {name: value for name, value in length.items() if value is not None}
    if len(given) > 1:
        raise InvalidArgument(
            field="steps", problem=f"give one length for the run, not {' and '.join(given)}"
        )
    if given:
        config = replace(config, **{"epochs": None, "minutes": None, **given})
    others: dict[str, Any] = {
        "precision": options.precision,
        "seed": options.seed,
        "learning_rate": options.learning_rate,
        "temporal_weight": options.temporal_weight,
    }
    config = replace(config, **{name: value for name, value in others.items() if value is not None})
    if config.network.injection == "johnson":  # it has no style that could be the content
        config = replace(config, identity_share=0.0)
    if not config.network.has_encoder:  # there is no embedding to interpolate
        config = replace(config, strength_share=0.0)
    stages = []
    for stage in config.stages:
        weight = stage.style_weight if options.style_weight is None else options.style_weight
        stages.append(
            replace(stage, batch=max(1, round(stage.batch * options.batch_scale)), style_weight=weight)
        )
    return replace(config, stages=tuple(stages))


def choose_network(options: TrainOptions, network: NetworkConfig) -> NetworkConfig:
    """Return the recipe's network, overridden by the given options."""
    if options.injection:
        bands = network.canvas_bands if options.injection == "film" else 0
        oriented = network.oriented_canvas and bands > 0
        network = replace(network, injection=options.injection, canvas_bands=bands, oriented_canvas=oriented)
    if options.statistics and options.statistics != network.statistics:
        hidden = PAPER.network.hidden_size if options.statistics == "mean" else NetworkConfig.hidden_size
        network = replace(network, statistics=options.statistics, hidden_size=hidden)
    return network


def read_recipe(recipe: str) -> TrainConfig:
    """Return a named recipe, or the config of a JSON file (a run.json, or the settings alone).

    Raises InvalidArgument for an unknown name, InputError for an unreadable file.
    """
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


def read_data(options: TrainOptions) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the photographs and artworks of a run, without held-out ones. Raises InputError."""
    kept = read_hash_list(options.held_out) if options.held_out else frozenset()
    return load_images(options.content, kept), load_images(options.style, kept)


def read_start(options: TrainOptions) -> Networks | None:
    """Return the networks that the run starts from; None for random initial weights."""
    if options.prune_from is None:
        found, wanted = read_model(options.start), read_recipe(options.recipe).network
        if found is not None and wanted.canvas_bands:
            found = with_canvas(found, wanted.canvas_bands, oriented=wanted.oriented_canvas)
        return found
    if options.start or options.generator:
        raise InvalidArgument(
            field="prune_from",
            problem=(
                "[option:prune_from] cannot be had with "
                f"{'[option:start]' if options.start else '[option:generator]'}"
            ),
        )
    original, wanted = open_weights(options.prune_from), read_recipe(options.recipe).network
    config = replace(
        original.config,
        widths=wanted.widths,
        residual_blocks=wanted.residual_blocks,
        padding=wanted.padding,
        oriented_canvas=wanted.oriented_canvas and original.config.canvas_bands > 0,
    )
    return prune_channels(original, config)


def with_canvas(networks: Networks, bands: int, *, oriented: bool) -> Networks:
    """Return the same FiLM model with a canvas; its weights are random if the model has none."""
    bands = networks.config.canvas_bands or bands
    fresh = new_networks(replace(networks.config, canvas_bands=bands, oriented_canvas=oriented))
    state = {**fresh.state_dict(), **networks.state_dict()}
    if not networks.config.canvas_bands:
        down = state["generator.down1.conv.weight"]
        state["generator.canvas.weight"] = torch.randn_like(state["generator.canvas.weight"]) * down.std()
    return build_networks(fresh.config, state, networks.training, Path("the model with a canvas"))


def read_model(given: str | Path | None) -> Networks | None:
    """Return the networks of a checkpoint or a bundle; None if none is given."""
    return None if given is None else open_weights(given)


def open_weights(given: str | Path) -> Networks:
    """Return the networks of a checkpoint, a bundle or a shipped model."""
    path = resolve_model(given)
    return load_bundle(open_bundle(path)) if path.is_dir() else load_checkpoint(path)


def fresh_networks(config: TrainConfig, inception: Path | None, teacher: Networks | None = None) -> Networks:
    """Return random networks around a pretrained Inception, with the generator of ``teacher`` if given."""
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
