"""Training loop: the trained networks follow the losses; VGG is frozen, and Inception by default.

One step: content crops and one style view for each, stylize, compare features. Lightning Fabric handles
devices, mixed precision and several processes; ``samples`` makes the data, ``run_folder`` the files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from mst_deploy.datasets import ImageFile
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import Image
from mst_deploy.model.checkpoints import Networks
from mst_deploy.model.networks import StyleEncoder
from mst_deploy.perceptual.vgg import Vgg19
from mst_deploy.training.config import Stage, TrainConfig
from mst_deploy.training.data import random_crop
from mst_deploy.training.encoder_init import (
    distill_film,
    equalize_spectrum,
    gram_coordinates,
    gram_entries,
    pretrain_to_grams,
    whiten,
)
from mst_deploy.training.objective import Outputs, Targets, loss_terms
from mst_deploy.training.reports import BadBatch, NonFiniteLoss, Report
from mst_deploy.training.samples import (
    Batch,
    Samples,
    Share,
    View,
    batches,
    collate,
    first_readable,
    style_crops,
)
from mst_deploy.training.style_network import (
    InterpolatedStyle,
    StyleNetwork,
    StyleTargets,
    confine_film,
    fixed_canvas,
    grams_at,
    stack,
    to_device,
    to_noise,
    to_tensor,
    with_convolutions_in,
)

START_STYLES = 2000  # largest number of styles used to initialize the encoder


def parameter_groups(trained: Mapping[str, Tensor], encoder_rate: float) -> list[dict[str, Any]]:
    """Return Adam's parameter groups: generator and style encoder, each with its ``share`` of the learning
    rate."""
    encoder = [value for name, value in trained.items() if name.startswith("encoder.")]
    others = [value for name, value in trained.items() if not name.startswith("encoder.")]
    groups = [{"params": others, "share": 1.0}, {"params": encoder, "share": encoder_rate}]
    return [group for group in groups if group["params"]]


class Trainer:
    """State of one run. ``run`` trains to the end; ``state`` and ``load_state`` make it resumable."""

    def __init__(
        self,
        config: TrainConfig,
        networks: Networks,
        vgg: Vgg19,
        contents: list[ImageFile],
        styles: list[ImageFile],
        fabric: Fabric,
        *,
        workers: int = 0,
        frozen: Literal["generator", "encoder"] | None = None,
        compiled: bool = False,
    ) -> None:
        """Set up a run from networks, losses and data.

        ``frozen`` is the part that is not trained. ``compiled`` lets TorchInductor fuse the operators between
        convolutions, once for each crop size. Raises InvalidArgument for a configuration that cannot be
        trained.
        """
        self.config, self.networks, self.fabric, self.workers = config, networks, fabric, workers
        self.contents, self.styles, self.device = contents, styles, fabric.device
        check(config, networks, vgg, styles, fabric)
        self.style_layers = config.style_layers or vgg.style_layers
        if config.film_layers is not None:
            confine_film(networks, config.film_layers)
        networks.generator.requires_grad_(frozen != "generator").train()
        if networks.encoder is not None:
            networks.encoder.requires_grad_(frozen != "encoder")
            networks.encoder.trunk.requires_grad_(config.train_trunk and frozen != "encoder")
        self.trained = {name: p for name, p in networks.state_parameters().items() if p.requires_grad}
        # with float16 the gradients must be unscaled before they are clipped, which a fused Adam prevents
        optimizer = torch.optim.Adam(
            parameter_groups(self.trained, config.encoder_rate),
            lr=config.learning_rate,
            fused=config.precision != "fp16",
        )
        network = StyleNetwork(networks).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vgg: Vgg19 = vgg.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        paint: Any = torch.compile(network, dynamic=False) if compiled else network
        with fabric.autocast():
            loss_vgg: Any = self.vgg
            if torch.is_autocast_enabled(self.device.type):
                loss_vgg = with_convolutions_in(loss_vgg, torch.get_autocast_dtype(self.device.type))
        self.loss_vgg: Any = torch.compile(loss_vgg, dynamic=False) if compiled else loss_vgg
        """``vgg`` as the losses call it under autocast, with one shape per scale and stage; style crops have
        their own."""
        self.network: Any
        self.optimizer: Any
        self.network, self.optimizer = fabric.setup(paint, optimizer)
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        self.targets = StyleTargets(
            network,
            self.vgg,
            len(styles),
            config.kept_views,
            train_trunk=config.train_trunk,
            scales=config.style_scales,
        )
        self.step, self.seen, self.seconds = 0, 0, 0.0
        self.skipped: set[str] = set()
        self.waited = 0.0
        self.stop_requested = False
        """Set from outside (by a signal handler, for example) to end the run after the current step."""

    # --- one step -----------------------------------------------------------------------------

    def losses(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """Return the terms of one batch, unweighted means, and their weighted sum as ``total``."""
        targets = self.compute_targets(batch)
        stylized, second = self.stylize(targets.contents, batch, targets.style)
        with self.fabric.autocast():
            taps = self.loss_vgg(stylized)
            found = self.grams(stylized, taps)
        features = taps[self.vgg.content_layer]
        return loss_terms(
            Outputs(stylized, features, found, second), targets, batch.shifts, self.config, stage
        )

    def grams(self, pictures: Tensor, taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Gram matrices of pictures (N, 3, S, S), whose features are ``taps``, at all scales."""
        return grams_at(self.config.style_scales, self.loss_vgg, pictures, taps, self.style_layers)

    @torch.no_grad()
    def compute_targets(self, batch: Batch) -> Targets:
        """Return the targets of a batch: the photographs' content in the artworks' style."""
        config = self.config
        contents = to_tensor(batch.contents, self.device)
        own = to_device(batch.own, self.device)
        with self.fabric.autocast():
            target = self.targets.of(batch.views, self.style_crops(batch), self.device)
            taps = self.loss_vgg(contents)
            grams = self.grams(contents, taps)
            if target is not None:
                for name, mine in grams.items():
                    grams[name] = torch.where(own[:, None, None], mine, target.grams[name])
            style = self.targets.style_input(target, contents, taps, batch.own, batch.strengths)
        # a photograph that is its own style has no palette target
        palettes = target.palette if target is not None and config.palette_weight else None
        strengths, strokes = to_device(batch.strengths, self.device), to_device(batch.strokes, self.device)
        shares = strengths**config.strength_power
        flat = torch.ones_like(shares)
        if (
            config.has_canvas
        ):  # with fewer strokes the style is less visible, so the photograph gets more weight
            shares = shares * (1 + strokes.clamp_max(1)) / 2
            flat = 1 - (1 - config.flat_content) * strokes.clamp_max(1) * strengths
            shares = torch.where(own, torch.ones_like(shares), shares)
        content = taps[self.vgg.content_layer]
        return Targets(contents, style, content, grams, shares, palettes, flat, contents, own)

    def style_crops(self, batch: Batch) -> Mapping[View, Tensor] | Tensor:
        """Return the style crops of a batch as ``StyleTargets.of`` takes them."""
        stacked = batch.style_crops
        return batch.styles if self.targets.known is not None or stacked is None else stacked

    def stylize(self, contents: Tensor, batch: Batch, style: Any) -> tuple[Tensor, Tensor | None]:
        """Return float32 results for the batch and, with the temporal term, for its second windows.

        Both go through the network in one pass: gradients are exchanged between processes once.
        """
        canvas = to_noise(batch.canvas, self.device)
        gains = None if canvas is None else to_device(batch.gains, self.device)
        if batch.moved is None:
            return self.network(contents, style, canvas, gains).float(), None
        both = torch.cat([contents, to_tensor(batch.moved, self.device)])
        if canvas is not None and gains is not None:
            moved = to_noise(batch.moved_canvas, self.device)
            assert moved is not None
            canvas, gains = torch.cat([canvas, moved]), torch.cat([gains, gains])
        results = self.network(both, twice(style), canvas, gains).float()
        return results[: len(contents)], results[len(contents) :]

    def learning_rate(self, progress: float) -> float:
        """Return the rate: linear warm-up, then half a cosine down to 2 % of the peak, or constant."""
        rate = self.config.learning_rate * min(1.0, (self.step + 1) / self.config.warmup_steps)
        if self.config.schedule == "constant":
            return rate
        return rate * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Make one optimizer step; return the terms of the loss. Raises NonFiniteLoss before the weights
        are changed."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress) * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.losses(batch, self.config.stage_at(progress))
        self.fabric.backward(terms["total"])
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
        )
        assert norm is not None
        terms["gradient"] = norm
        # Float16 gradients overflow occasionally; the scaler skips that step and lowers its factor.
        checked = [terms["total"]] if self.config.precision == "fp16" else [terms["total"], norm]
        # asked once a step: the answer takes until the device has done all that was queued
        finite = bool(torch.isfinite(torch.stack([value.detach() for value in checked])).all())
        if not finite:
            values = {name: value.item() for name, value in terms.items()}
            raise NonFiniteLoss(BadBatch(self.step, batch, values))
        self.optimizer.step()
        self.step += 1
        self.seen += self.config.stage_at(progress).batch
        self.skipped |= batch.skipped
        self._follow()
        return {name: value.detach() for name, value in terms.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """Update the moving average of the weights; at the start of a run it moves faster."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in self.trained.values()], 1 - decay
        )

    # --- the run ------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, 0..1."""
        if self.config.minutes is not None:
            return min(1.0, self.seconds / (60 * self.config.minutes))
        if self.config.epochs is not None:
            return min(1.0, self.seen / (self.config.epochs * len(self.contents)))
        return min(1.0, self.step / self.config.steps)

    def batches(self) -> Iterator[tuple[Batch, float]]:
        """Yield batches, each with the progress at which it is used; workers restart with a new stage."""
        while self.progress < 1.0:
            stage = self.config.stage_at(self.progress)
            samples = Samples(self.config, stage, self.contents, self.styles, self.targets.known)
            share = Share(self.fabric.global_rank, self.fabric.world_size, self.workers)
            pin = self.device.type == "cuda"
            join = partial(collate, every_row=self.targets.known is None)
            source = batches(samples, join, stage.batch, self.seen, share, pin=pin)
            while (progress := self.progress) < 1.0 and self.config.stage_at(progress) == stage:
                began = time.monotonic()
                batch = next(source)
                self.waited += time.monotonic() - began
                yield batch, progress

    def run(
        self,
        on_progress: Callable[[Report], None],
        save: Callable[[], None],
        *,
        log_every: int = 50,
        save_seconds: float = 300.0,
        save_steps: int | None = None,
    ) -> None:
        """Train to the end or until ``stop_requested``; ``save`` is called in between and at the end."""
        sums: dict[tuple[str, ...], Tensor] = {}
        saved = started = last = time.monotonic()
        done, since, seen, waited = self.seconds, self.step, self.seen, self.waited
        for batch, progress in self.batches():
            terms = self.update(batch, progress)
            values = torch.stack(list(terms.values()))
            sums[tuple(terms)] = sums[tuple(terms)] + values if tuple(terms) in sums else values
            now = time.monotonic()
            self.seconds = self._agreed(done + now - started)
            if self.step % log_every == 0:
                span, count = now - last, self.step - since
                means: dict[str, float] = {}
                for names, total in sums.items():  # some steps lack a term
                    for name, value in zip(names, total.tolist(), strict=True):
                        means[name] = means.get(name, 0.0) + value / count
                means["learning_rate"] = self.learning_rate(progress)
                rate, wait = (self.seen - seen) / span, (self.waited - waited) / span
                on_progress(Report(self.step, self.progress, self.seconds, rate, wait, means))
                sums, last, since, seen, waited = {}, now, self.step, self.seen, self.waited
            due = now - saved > save_seconds if save_steps is None else self.step % save_steps == 0
            if due and self.progress < 1.0:
                save()
                saved = now
            if self._agreed(float(self.stop_requested)):
                break
        save()

    def _agreed(self, value: float) -> float:
        """Return the first process's value: all processes must use the same clock and the same stop."""
        if self.fabric.world_size == 1:
            return value
        agreed: float = self.fabric.broadcast(value)
        return agreed

    @torch.no_grad()
    def initialize_encoder(self, teacher: StyleEncoder | None = None) -> None:
        """Initialize the style encoder, see ``encoder_init``; with a ``teacher``, imitate its FiLM vectors.

        Style targets that are kept in memory serve the run as well.
        """
        encoder = self.networks.encoder
        if encoder is None or len(self.styles) < 2:
            return
        count = min(len(self.styles), START_STYLES)
        styles = np.linspace(0, len(self.styles) - 1, count).round().astype(int).tolist()
        numbers = range(self.config.kept_views if self.config.gram_pretraining_steps else 1)
        summaries, entries, film_params = [], [], []
        for view in (View(index, number) for number in numbers for index in styles):
            crop = stack([style_crops(self.config, self.styles, view, self.skipped)])
            picture = to_tensor(crop[:, 0], self.device)
            target = self.targets.of([view], {view: crop[0]}, self.device)
            assert target is not None
            summaries.append(encoder.pooled(picture) if target.pooled is None else target.pooled)
            entries.append(gram_entries({name: target.grams[name][0] for name in self.vgg.style_layers}))
            if teacher is not None:
                film_params.append(teacher(picture)[1][:, : encoder.layout.norm_size])
        seen, steps = torch.cat(summaries), self.config.gram_pretraining_steps
        whiten(encoder, seen)
        grams = gram_coordinates(torch.stack(entries))
        if steps:
            pretrain_to_grams(encoder, seen, grams, steps)
            equalize_spectrum(encoder, seen)
        if teacher is not None:
            distill_film(encoder, seen, torch.cat(film_params))
        if teacher is not None and steps:
            pretrain_to_grams(encoder, seen, grams, steps, torch.cat(film_params))
        if teacher is not None and self.config.film_layers is not None:
            # the teacher's FiLM vectors are not confined
            confine_film(self.networks, self.config.film_layers)
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}

    # --- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs; of the data, only the number of samples seen."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return {
            "step": self.step,
            "seen": self.seen,
            "seconds": self.seconds,
            "waited": self.waited,
            "trained": {name: value.detach() for name, value in self.trained.items()},
            "average": self.average,
            "fixed": self._fixed(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "skipped": sorted(self.skipped),
        }

    def _fixed(self) -> dict[str, Tensor]:
        """Return the buffers that are set once at the start and not trained."""
        encoder = self.networks.encoder
        return {} if encoder is None else {n: b for n, b in encoder.named_buffers(recurse=False)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` as if the run had not stopped."""
        self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]
        self.waited = state["waited"]
        self.skipped = set(state["skipped"])
        self.put(state["trained"])
        for name, buffer in self._fixed().items():
            buffer.copy_(state["fixed"][name])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.fabric.strategy.precision.scaler.load_state_dict(state["scaler"])  # type: ignore[attr-defined]

    def result(self, losses: str = "") -> Networks:
        """Return the networks with averaged weights, on the CPU, in evaluation mode, with their training
        summary."""
        average = {name: value.cpu() for name, value in self.average.items()}
        done = self.networks.copy_with(average)
        summary = {
            **self.config.to_dict(),
            "steps_done": self.step,
            "images_seen": self.seen,
            "seconds": round(self.seconds),
            "content_images": len(self.contents),
            "style_images": len(self.styles),
            "losses": losses,
        }
        return Networks(done.generator, done.encoder, summary)

    def figures(self) -> dict[str, Any]:
        """Return the figures of the run so far for run.json."""
        return {
            "steps": self.step,
            "images_seen": self.seen,
            "seconds": round(self.seconds, 1),
            "finished": self.progress >= 1.0,
            "skipped_files": sorted(self.skipped),
            "images_per_second": round(self.seen / max(self.seconds, 1e-9), 2),
            "waiting_for_data": round(self.waited / max(self.seconds, 1e-9), 3),
        }

    @torch.no_grad()
    def put(self, values: dict[str, Tensor]) -> None:
        """Copy values into the trained parameters, by name."""
        for name, value in values.items():
            self.trained[name].copy_(value)

    @torch.no_grad()
    def samples(self, rows: int = 4, columns: int = 6, size: int = 192) -> Image:
        """Return a contact sheet of the averaged weights: styles on top, contents at the left, always the
        same."""
        current = {name: value.detach().clone() for name, value in self.trained.items()}
        self.put(self.average)
        try:
            return self._sheet(rows, columns, size)
        finally:
            self.put(current)

    def _sheet(self, rows: int, columns: int, size: int) -> Image:
        rng = np.random.default_rng(0)
        rows, columns = min(rows, len(self.contents)), min(columns, len(self.styles))
        chosen = rng.choice(len(self.styles), columns, replace=False)
        views = [View(int(index), 0) for index in chosen]
        crops = [style_crops(self.config, self.styles, view, set())[0] for view in views]
        small = [random_crop(crop, size, 1.0, np.random.default_rng(0)) for crop in crops]
        sheet = [np.concatenate([np.full_like(small[0], 255), *small], axis=1)]
        for index in rng.choice(len(self.contents), rows, replace=False):
            photo = first_readable(self.contents, int(index), set())
            content = random_crop(photo, size, 1.2, rng)
            batch = to_tensor(stack([content] * columns), self.device)
            canvas = None
            if self.config.has_canvas:
                canvas = fixed_canvas(size, size, self.device).expand(columns, -1, -1, -1)
            with self.fabric.autocast():
                target = self.targets.make_all(stack(crops), self.device)
                style = self.targets.style_input(target, batch, self.vgg(batch))
                stylized = self.networks.generator(batch, self.network.module.condition(style), canvas)
            pixels = (stylized.float() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            sheet.append(np.concatenate([content, *pixels], axis=1))
        return np.concatenate(sheet, axis=0)


def twice(style: Any) -> Any:
    """Repeat a style input (see StyleNetwork.condition) for a batch that holds every sample twice."""
    if style is None:
        return None
    if isinstance(style, InterpolatedStyle):
        return InterpolatedStyle(*(torch.cat([part, part]) for part in style))
    if isinstance(style, tuple):
        content, styles = style
        return torch.cat([content, content]), [*styles, *styles]
    return torch.cat([style, style])


def check(
    config: TrainConfig, networks: Networks, vgg: Vgg19, styles: list[ImageFile], fabric: Fabric
) -> None:
    """Raise InvalidArgument for a configuration that cannot be trained."""
    unknown = sorted(set(config.style_layers or ()) - set(vgg.style_layers))
    if unknown:
        raise InvalidArgument(
            f"no style layer {unknown[0]} in these VGG weights; they have {', '.join(vgg.style_layers)}"
        )
    injection = networks.config.injection
    if injection == "johnson" and len(styles) != 1:
        raise InvalidArgument(
            field="injection",
            problem="a johnson network learns one style",
            hint=f"{len(styles)} style images were given: give one, or choose another [option:injection]",
        )
    if injection == "johnson" and config.identity_share:
        raise InvalidArgument(
            field="identity_share",
            problem="a johnson network has no style to choose",
            hint="set identity_share to 0",
        )
    if config.strength_share and not networks.config.has_encoder:
        raise InvalidArgument(
            field="strength_share",
            problem=f"a network with the injection {injection} has no strength to choose",
            hint="set strength_share to 0",
        )
    if config.train_trunk and networks.encoder is None:
        raise InvalidArgument(f"the injection {injection} has no style encoder to train")
    for stage in config.stages:
        if stage.batch % fabric.world_size:
            raise InvalidArgument(
                field="batch_scale",
                problem=(
                    f"a batch of {stage.batch} cannot be divided evenly among {fabric.world_size} processes"
                ),
                hint="change it with [option:batch_scale]",
            )
