"""Options of what runs a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mst_deploy.backends.registry import AUTO, offered
from mst_deploy.options import MODEL, Option

MODEL_HELP = "Model: base, lite, or a folder made by mst export. Default: base."
*_names, _last = offered()
BACKENDS_HELP = f"{', '.join(_names)} or {_last}"
DEVICE_HELP = "cpu, cuda, or auto: cuda where there is an NVIDIA GPU."


@dataclass(frozen=True)
class ModelOptions:
    """A model and what runs it."""

    model: Annotated[str | None, Option(MODEL_HELP, MODEL, metavar="MODEL")] = None
    backend: Annotated[
        str,
        Option(
            f"What runs the model: auto (the fastest that works here, see mst doctor), {BACKENDS_HELP}.",
            MODEL,
        ),
    ] = AUTO
    device: Annotated[str, Option(DEVICE_HELP, MODEL)] = "auto"

    @property
    def folder(self) -> Path | None:
        """Return the model as a path, for checks of what a command reads; None for the default."""
        return Path(self.model) if self.model else None


@dataclass(frozen=True)
class GeneratorOptions(ModelOptions):
    """A model, what runs its generator, and in which precision."""

    precision: Annotated[
        str,
        Option(
            "What it computes in: auto (the fastest whose PSNR to float32 is 36 dB or more), fp32 (for "
            "results that stay the same), bf16 or int8.",
            MODEL,
        ),
    ] = AUTO
