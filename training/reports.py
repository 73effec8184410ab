"""What a training run tells: its progress, and the step on which it broke."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mst_deploy.errors import VerificationError
from mst_deploy.training.samples import Batch


@dataclass(frozen=True)
class Report:
    """Progress as told to the callback every ``log_every`` steps; losses are means since the last."""

    step: int
    progress: float
    """0..1."""
    seconds: float
    """Since the beginning, without the time a stopped run lay still."""
    images_per_second: float
    """Of all processes together."""
    waiting: float
    """Share of the time spent waiting for data, 0..1."""
    values: dict[str, float]
    """Means of the losses and the gradient's norm since the last report, and the learning rate."""


@dataclass(frozen=True)
class BadBatch:
    """A step whose loss or gradient was no number, for whoever wants to find out why."""

    step: int
    batch: Batch
    terms: dict[str, float]


class NonFiniteLoss(VerificationError):
    """The loss or its gradient became infinite or NaN."""

    def __init__(self, bad: BadBatch, kept: Path | None = None) -> None:
        self.bad = bad
        found = ", ".join(f"{name} {value:.4g}" for name, value in bad.terms.items())
        where = f" The batch is in {kept}." if kept else ""
        super().__init__(
            f"training stopped at step {bad.step}: the loss is no longer a number ({found}). The last saved "
            f"state is good; try a lower [option:learning_rate] or [option:precision] fp32.{where}"
        )
