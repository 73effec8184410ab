"""The training loop: generator, projection and FiLM maps learn; Inception and VGG stay as they are.

One step: draw content crops and one style view for each, stylise, compare features. What depends on
the style view alone (Gram targets, pooled Inception features) is computed once and kept.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mst_deploy.errors import VerificationError
from mst_deploy.files import replacing
from mst_deploy.images import save_image
from mst_deploy.networks import Generator, StyleEncoder
from mst_deploy.training.config import EXPRESSIVE, Stage, TrainConfig
from mst_deploy.training.data import (
    Image,
    StoredImage,
    group_weights,
    random_crop,
    shift_colours,
)
from mst_deploy.training.losses import (
    content_loss,
    gram,
    pixel_loss,
    style_loss,
    total_variation,
)
from mst_deploy.training.vgg import Vgg19
from mst_deploy.weights import Networks, save_checkpoint

EMBED_SIZE = 256  # the side at which a content crop is shown to the style encoder
COLOUR_SHIFT_SHARE = 0.4  # of the style views
CONTENT_ZOOM = 1.7  # largest zoom of a content crop


@dataclass(frozen=True)
class StyleTarget:
    """What the losses and the encoder need of one style view."""

    pooled: Tensor  # (768,) float32
    grams: dict[str, Tensor]  # layer -> (C, C) float16


@dataclass(frozen=True)
class Report:
    """Progress as told to the callback every ``log_every`` steps; losses are means since the last."""

    step: int
    progress: float
    seconds: float
    images_per_second: float
    losses: dict[str, float]


def to_tensor(images: list[Image], device: torch.device) -> Tensor:
    """(H, W, 3) uint8 RGB, all of one size -> (N, 3, H, W) float 0..1, channels last in memory."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return batch.permute(0, 3, 1, 2).float().div_(255)


class Trainer:
    """State of one run. ``run`` trains to the end; ``save``/``restore`` make it resumable."""

    def __init__(
        self,
        config: TrainConfig,
        networks: Networks,
        vgg: Vgg19,
        contents: list[StoredImage],
        styles: list[StoredImage],
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.contents, self.styles = contents, styles
        self.generator: Generator = networks.generator.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.encoder: StyleEncoder = networks.encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vgg: Vgg19 = vgg.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder.trunk.requires_grad_(False)
        self.trained = {
            name: parameter
            for name, parameter in networks.state_parameters().items()
            if parameter.requires_grad
        }
        self.optimizer = torch.optim.Adam(self.trained.values(), lr=config.learning_rate)
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        self.rng = np.random.default_rng(config.seed)
        self.style_odds = group_weights(styles, EXPRESSIVE, config.expressive_weight)
        self.targets: dict[tuple[int, int], StyleTarget] = {}
        self.step, self.seconds = 0, 0.0

    # --- one step -----------------------------------------------------------------------------

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    @torch.no_grad()
    def style_target(self, index: int, view: int) -> StyleTarget:
        """Targets of one view of one style image; the same view gives the same crop in every run."""
        known = self.targets.get((index, view))
        if known is not None:
            return known
        rng = np.random.default_rng((self.config.seed, index, view))
        crop = random_crop(self.styles[index].decode(), self.config.style_size, self.config.style_zoom, rng)
        if rng.random() < COLOUR_SHIFT_SHARE and view > 0:
            crop = shift_colours(crop, rng)
        batch = to_tensor([crop], self.device)
        with self.autocast():
            pooled = self.encoder.pooled(batch)[0]
            grams = {name: gram(tap)[0].half() for name, tap in self.vgg(batch).items()}
        self.targets[index, view] = StyleTarget(pooled, grams)
        return self.targets[index, view]

    def draw(self, stage: Stage) -> tuple[Tensor, list[StyleTarget | None]]:
        """A batch of content crops (N, 3, S, S) and their styles; None stands for the content itself."""
        crops: list[Image] = []
        styles: list[StyleTarget | None] = []
        for _ in range(stage.batch):
            content = self.contents[self.rng.integers(len(self.contents))]
            crops.append(random_crop(content.decode(), stage.crop, CONTENT_ZOOM, self.rng))
            if self.rng.random() < self.config.identity_share:
                styles.append(None)
            else:
                index = int(self.rng.choice(len(self.styles), p=self.style_odds))
                view = int(self.rng.integers(self.config.style_views))
                styles.append(self.style_target(index, view))
        return to_tensor(crops, self.device), styles

    def losses(self, stage: Stage) -> dict[str, Tensor]:
        """The terms of one batch, unweighted means, and their weighted sum as ``total``."""
        contents, styles = self.draw(stage)
        own = torch.tensor([style is None for style in styles], device=self.device)
        with self.autocast():
            with torch.no_grad():
                wanted = self.vgg(contents)
                grams = {name: gram(tap) for name, tap in wanted.items()}
                pooled = self.pooled_of(contents, styles)
                for row, style in enumerate(styles):
                    for name in grams if style else ():
                        grams[name][row] = style.grams[name].float()  # type: ignore[union-attr]
            _, film = self.film(pooled)
            stylised = self.generator(contents, film)
            taps = self.vgg(stylised)
            terms = {
                "content": content_loss(taps["relu4_1"], wanted["relu4_1"]).mean(),
                "style": style_loss({k: gram(v) for k, v in taps.items()}, grams).mean(),
            }
        stylised = stylised.float()
        terms["tv"] = total_variation(stylised).mean()
        terms["identity"] = (pixel_loss(stylised, contents) * own).mean()
        terms["total"] = (
            terms["content"]
            + stage.style_weight * terms["style"]
            + self.config.tv_weight * terms["tv"]
            + self.config.identity_weight * terms["identity"]
        )
        return terms

    def film(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (N, 768) -> embedding and film rows, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            embedding = self.encoder.embed(pooled.float())
            return embedding, self.encoder.film_of(embedding)

    def pooled_of(self, contents: Tensor, styles: list[StyleTarget | None]) -> Tensor:
        """Encoder features of every style of the batch, computed here where it is the content itself."""
        rows = [torch.empty(0) if style is None else style.pooled for style in styles]
        for row, style in enumerate(styles):
            if style is None:
                shown = F.interpolate(contents[row : row + 1], (EMBED_SIZE, EMBED_SIZE), mode="bilinear")
                rows[row] = self.encoder.pooled(shown)[0]
        return torch.stack(rows)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine to 2 % of the peak."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def update(self, progress: float) -> dict[str, Tensor]:
        """One optimiser step. Raises VerificationError when the loss is no longer a number."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
        terms = self.losses(self.config.stage_at(progress))
        if not torch.isfinite(terms["total"]):
            raise VerificationError(f"the loss became {terms['total'].item()} at step {self.step}")
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.trained.items():
                self.average[name].lerp_(value, 1 - decay)
        return {name: value.detach() for name, value in terms.items()}

    # --- the run ------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """How much of the run is done, 0..1."""
        if self.config.minutes is not None:
            return min(1.0, self.seconds / (60 * self.config.minutes))
        return min(1.0, self.step / self.config.steps)

    @torch.no_grad()
    def initialise_projection(self) -> None:
        """Set the projection to softened PCA whitening of the styles' pooled features.

        Pooled ReLU features of any two pictures are nearly parallel: all lie around their mean. Scaled
        to one length as they are, all styles would start as almost the same point, and the generator
        would learn their average first. Centred and with the variances evened out to their square
        roots they start apart.
        """
        pooled = torch.stack([self.style_target(i, 0).pooled for i in range(len(self.styles))])
        mean = pooled.mean(dim=0)
        _, singular, directions = torch.linalg.svd(pooled - mean, full_matrices=False)
        size = min(self.encoder.config.embedding_size, len(singular))
        spread = singular[:size] / len(self.styles) ** 0.5  # standard deviation along each axis
        axes = directions[:size] / (spread.clamp_min(spread[0] * 1e-2) ** 0.5)[:, None]
        projection = self.encoder.project
        projection.weight.zero_()
        projection.weight[:size] = axes
        projection.bias.zero_()
        projection.bias[:size] = -axes @ mean

    def run(
        self, folder: Path, tell: Callable[[Report], None], *, log_every: int = 50, save_every: float = 300.0
    ) -> None:
        """Train to the end, telling ``tell`` and writing ``folder``/state.pt, samples and weights."""
        if self.step == 0:
            self.initialise_projection()
            self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        sums: dict[str, float] = {}
        saved = started = last = time.monotonic()
        done, images, since = self.seconds, 0, self.step
        while self.progress < 1.0:
            images += self.config.stage_at(self.progress).batch
            for name, value in self.update(self.progress).items():
                sums[name] = sums.get(name, 0.0) + value.item()
            now = time.monotonic()
            self.seconds = done + now - started
            if self.step % log_every == 0:
                count = self.step - since
                means = {name: value / count for name, value in sums.items()}
                tell(Report(self.step, self.progress, self.seconds, images / (now - last), means))
                sums, images, last, since = {}, 0, now, self.step
            if now - saved > save_every:
                self.save(folder)
                saved = now
        self.save(folder)

    # --- files --------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write state.pt (to resume), weights.safetensors (averaged weights) and a sample sheet."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "trained": {name: value.detach() for name, value in self.trained.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
        }
        with replacing(folder / "state.pt") as temporary:
            torch.save(state, temporary)
        current = {name: value.detach().clone() for name, value in self.trained.items()}
        self.put(self.average)
        summary = {**self.config.to_dict(), "steps_done": self.step, "seconds": round(self.seconds),
                   "content_images": len(self.contents), "style_images": len(self.styles)}  # fmt: skip
        save_checkpoint(folder / "weights.safetensors", Networks(self.generator, self.encoder, summary))
        save_image(folder / f"samples-{self.step:06d}.jpg", self.samples())
        self.put(current)

    def restore(self, folder: Path) -> None:
        """Continue from state.pt as if the run had not stopped."""
        state = torch.load(folder / "state.pt", map_location=self.device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.put(state["trained"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = json.loads(state["rng"])

    @torch.no_grad()
    def put(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.trained[name].copy_(value)

    @torch.no_grad()
    def samples(self, rows: int = 4, columns: int = 6, size: int = 192) -> Image:
        """A sheet: styles on top, contents at the left, always the same pictures."""
        rng = np.random.default_rng(0)
        rows, columns = min(rows, len(self.contents)), min(columns, len(self.styles))
        contents = [random_crop(self.contents[i].decode(), size, 1.2, rng)
                    for i in rng.choice(len(self.contents), rows, replace=False)]  # fmt: skip
        chosen = rng.choice(len(self.styles), columns, replace=False, p=self.style_odds)
        styles = [random_crop(self.styles[i].decode(), EMBED_SIZE, 1.0, rng) for i in chosen]
        _, film = self.film(self.encoder.pooled(to_tensor(styles, self.device)))
        small = [np.asarray(random_crop(style, size, 1.0, rng)) for style in styles]
        sheet = [np.concatenate([np.full_like(small[0], 255), *small], axis=1)]
        for content in contents:
            batch = to_tensor([content] * columns, self.device)
            with self.autocast():
                stylised = self.generator(batch, film)
            pixels = (stylised.float() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            sheet.append(np.concatenate([content, *pixels], axis=1))
        return np.concatenate(sheet, axis=0)
