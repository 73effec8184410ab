"""``mst train classify``: fine-tune Inception to classify art movements, before it encodes styles.

A trunk trained on photographs of objects is insensitive to texture and brushwork. Classification of movements
(the folders of the artworks) makes its features sensitive to them; the classifier itself is discarded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from mst_deploy.datasets import ImageFile, fingerprint, load_images, read_hash_list
from mst_deploy.errors import InputError, InvalidArgument, Message, VerificationError
from mst_deploy.files import replacing
from mst_deploy.images import center_crop
from mst_deploy.model.inception import STAGES, InceptionTrunk
from mst_deploy.model.networks import NetworkConfig, StyleEncoder
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.training.data import random_crop
from mst_deploy.training.options import ClassifyOptions
from mst_deploy.training.pretrained import load_trunk_into
from mst_deploy.training.reports import Report
from mst_deploy.training.run_folder import gather_facts, open_run
from mst_deploy.training.running import graceful_stop, make_fabric, reporting
from mst_deploy.training.samples import Share, batches, default_workers, first_readable
from mst_deploy.training.style_network import stack, to_tensor

FOLD = 8  # every eighth image of a movement is held out if no list says which


@dataclass(frozen=True)
class ClassifyConfig:
    """Configuration of the first phase."""

    steps: int = 1_000
    batch: int = 16
    crop: int = 256
    """Side of the crops in pixels; the style encoder gets styles at this size."""
    zoom: float = 1.8
    learning_rate: float = 1e-4
    """Peak rate of the trunk; that of the new classifier is ten times as high."""
    warmup_steps: int = 50
    smoothing: float = 0.1
    """Label smoothing (Szegedy et al. 2015, section 7)."""
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    seed: int = 1
    precision: str = "bf16"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.crop < StyleEncoder.MIN_SIZE:
            raise InvalidArgument(f"impossible configuration: {self}")


class Classifier(nn.Module):
    """Logits of art movements: (N, 3, H, W) in 0..1 -> (N, classes)."""

    def __init__(self, trunk: InceptionTrunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(STAGES[trunk.last], classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(images * 2 - 1).mean(dim=(2, 3)))
        return logits


class LabeledCrops(Dataset[Any]):
    """Dataset of (crop, label, skipped files): movements drawn uniformly, a pure function of seed and
    number."""

    def __init__(self, config: ClassifyConfig, images: Sequence[ImageFile], labels: Sequence[int]) -> None:
        self.config = config
        self.members = [
            [image for image, own in zip(images, labels, strict=True) if own == label]
            for label in range(max(labels) + 1)
        ]

    def __getitem__(self, number: int) -> Any:
        rng = np.random.default_rng((self.config.seed, 3, number))
        label = int(rng.integers(len(self.members)))
        own = self.members[label]
        skipped: set[str] = set()
        try:
            picture = first_readable(own, int(rng.integers(len(own))), skipped)
        except InputError as error:
            return error
        return random_crop(picture, self.config.crop, self.config.zoom, rng), label, skipped


@dataclass(frozen=True)
class LabeledBatch:
    """N crops (N, S, S, 3) uint8 with their labels (N,)."""

    crops: Tensor
    labels: Tensor
    skipped: frozenset[str]


def join(samples: list[Any]) -> LabeledBatch | InputError:
    """Collate samples into one batch; return the error if one of them is an error."""
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    crops, labels, skipped = zip(*samples, strict=True)
    return LabeledBatch(stack(crops), torch.tensor(labels), frozenset().union(*skipped))


class ClassifyTrainer:
    """State of one run of the first phase."""

    def __init__(
        self,
        config: ClassifyConfig,
        trunk: InceptionTrunk,
        images: Sequence[ImageFile],
        classes: Sequence[str],
        fabric: Fabric,
        *,
        workers: int = 0,
    ) -> None:
        self.config, self.fabric, self.trunk, self.classes = config, fabric, trunk, list(classes)
        labels = [self.classes.index(image.group) for image in images]
        self.samples = LabeledCrops(config, images, labels)
        self.workers = workers
        model = Classifier(trunk.requires_grad_(True).train(), len(classes))
        model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = [{"params": model.trunk.parameters()}, {"params": model.head.parameters(), "scale": 10.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model: Any
        self.optimizer: Any
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.step, self.seconds, self.waited = 0, 0.0, 0.0
        self.skipped: set[str] = set()
        self.stop_requested = False

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, 0..1."""
        return self.step / self.config.steps

    def update(self, batch: LabeledBatch) -> dict[str, float]:
        """Make one optimizer step; return loss, accuracy and learning rate.

        Raises VerificationError if the loss is not finite.
        """
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        rate = self.config.learning_rate * warm * (1 + math.cos(math.pi * self.progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(to_tensor(batch.crops, self.fabric.device)).float()
        labels = batch.labels.to(self.fabric.device)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.smoothing)
        if not torch.isfinite(loss):
            raise VerificationError(
                f"training stopped at step {self.step}: the loss is no longer a number; the last saved "
                "state is good; try a lower [option:learning_rate] or [option:precision] fp32"
            )
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.step += 1
        self.skipped |= batch.skipped
        right = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": loss.item(), "accuracy": right.item(), "learning_rate": rate}

    def run(
        self,
        on_progress: Callable[[Report], None],
        save: Callable[[], None],
        *,
        log_every: int = 20,
        save_steps: int = 200,
    ) -> None:
        """Train to the end or until ``stop_requested``."""
        share = Share(self.fabric.global_rank, self.fabric.world_size, self.workers)
        source = batches(
            self.samples, join, self.config.batch, self.step * self.config.batch, share, pin=False
        )
        sums: dict[str, float] = {}
        last = time.monotonic()
        while self.step < self.config.steps and not self.stop_requested:
            began = time.monotonic()
            batch = next(source)
            self.waited += time.monotonic() - began
            for name, value in self.update(batch).items():
                sums[name] = sums.get(name, 0.0) + value / log_every
            self.seconds += time.monotonic() - began
            if self.step % log_every == 0:
                now = time.monotonic()
                rate = log_every * self.config.batch / (now - last)
                on_progress(
                    Report(self.step, self.progress, self.seconds, rate, self.waited / self.seconds, sums)
                )
                sums, last = {}, now
            if self.step % save_steps == 0 and self.step < self.config.steps:
                save()
        save()

    @torch.inference_mode()
    def accuracy(self, images: Sequence[ImageFile]) -> float:
        """Return the mean over movements of the share of correctly classified images, by their center
        crops."""
        self.model.eval()
        right: dict[str, list[bool]] = {}
        for image in images:
            crop = center_crop(image.decode(), self.config.crop)
            logits = self.model(to_tensor(stack([crop]), self.fabric.device))
            predicted = self.classes[int(logits.argmax())]
            right.setdefault(image.group, []).append(predicted == image.group)
        self.model.train()
        return float(np.mean([np.mean(hits) for hits in right.values()]))

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "waited": self.waited,
            "skipped": sorted(self.skipped),
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` as if the run had not stopped."""
        self.step, self.seconds, self.waited = state["step"], state["seconds"], state["waited"]
        self.skipped = set(state["skipped"])
        self.model.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def split(images: Sequence[ImageFile], held_out: frozenset[str]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Split images into training and held-out ones: by the list, else every FOLD-th of each movement.

    Raises InputError for fewer than two movements.
    """
    learn: list[ImageFile] = []
    measure: list[ImageFile] = []
    seen: dict[str, int] = {}
    for image in images:
        seen[image.group] = seen.get(image.group, 0) + 1
        kept = image.sha256 in held_out if held_out else seen[image.group] % FOLD == 0
        (measure if kept else learn).append(image)
    groups = {image.group for image in learn}
    if len(groups) < 2 or "" in groups:
        raise InputError(
            f"found {len(groups)} art movements; give a folder that holds one folder of pictures for each"
        )
    return learn, [image for image in measure if image.group in groups]


def classify(options: ClassifyOptions, reporter: Reporter = SILENT) -> None:
    """Fine-tune the trunk, report its accuracy, and write it as OUTPUT/inception.safetensors."""
    given: dict[str, Any] = {
        name: value
        for name in ("steps", "learning_rate", "precision", "seed")
        if (value := getattr(options, name)) is not None
    }
    config = ClassifyConfig(batch=max(1, round(ClassifyConfig.batch * options.batch_scale)), **given)
    fabric = make_fabric(options.device, config.precision)
    if fabric.world_size > 1:
        raise InvalidArgument("mst train classify runs in one process; start it without torchrun")
    hashes = read_hash_list(options.held_out) if options.held_out else frozenset()
    learn, measure = split(load_images(options.style), hashes)
    classes = sorted({image.group for image in learn})
    torch.manual_seed(config.seed)
    encoder = StyleEncoder(NetworkConfig(statistics=options.statistics))
    load_trunk_into(encoder, options.inception)
    workers = default_workers(fabric.device.type) if options.workers is None else options.workers
    trainer = ClassifyTrainer(config, encoder.trunk, learn, classes, fabric, workers=workers)
    facts = gather_facts(
        phase="classify",
        config=asdict(config),
        losses="cross entropy",
        movements=classes,
        processes=fabric.world_size,
        device=str(fabric.device),
        data={"style": fingerprint(learn)},
    )
    reporter.note(f"{len(learn)} artworks in {len(classes)} movements; {len(measure)} more to measure")
    with (
        open_run(options.output, facts) as folder,
        graceful_stop(trainer),
        reporting(folder, reporter) as on_progress,
    ):
        state = folder.restore()
        if state is not None:
            trainer.load_state(state)
            reporter.note(f"continuing {options.output} at step {trainer.step}")

        def save() -> None:
            folder.save_state(trainer.state())
            with replacing(options.output / "inception.safetensors") as temporary:
                tensors = {
                    name: t.detach().cpu().contiguous() for name, t in trainer.trunk.state_dict().items()
                }
                save_file(tensors, temporary)
            accuracy = trainer.accuracy(measure) if measure else None
            folder.write_facts(
                {
                    "steps": trainer.step,
                    "seconds": round(trainer.seconds, 1),
                    "finished": trainer.progress >= 1.0,
                    "skipped_files": sorted(trainer.skipped),
                    "waiting_for_data": round(trainer.waited / max(trainer.seconds, 1e-9), 3),
                    "held_out_accuracy": accuracy,
                    "chance": 1 / len(classes),
                }
            )
            if accuracy is not None:
                reporter.note(
                    f"step {trainer.step}: {accuracy:.1%} of the measured artworks recognized "
                    f"(chance {1 / len(classes):.1%})"
                )

        trainer.run(on_progress, save, save_steps=options.save_steps or 200)
    trunk = options.output / "inception.safetensors"
    reporter.note(Message(f"{trunk}; train with it: mst train joint with [option:inception] {trunk}"))
