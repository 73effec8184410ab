"""The rules by which a backend is chosen: from facts about a machine to a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mst_deploy.backends.registry import AUTO, offered
from mst_deploy.errors import InvalidArgument

LEAST_PSNR = 36.0
"""dB to float32 that a backend must reach to be chosen; at 36 dB no difference is seen beside the strokes."""
LEAST_GAIN = 1.1
"""How many times as fast as float32 another precision must be to be chosen."""
ON_CPU = ("openvino:int8", "onnxrt:int8", "openvino:bf16", "openvino", "onnxrt")
"""Candidates on a CPU."""
FALLBACK = "onnxrt"
"""The candidate that is always there."""


@dataclass(frozen=True)
class Trial:
    """What a candidate on the CPU did with the check picture."""

    psnr: float
    """dB to float32."""
    seconds: float
    """Processor time of a call, all threads together, which other programs that run at the time hardly
    change."""


@dataclass(frozen=True)
class Facts:
    """What a choice depends on."""

    device: str = "auto"
    """What was asked for: auto, cpu or cuda."""
    precision: str = AUTO
    """What was asked for: one of ``registry.PRECISIONS``."""
    gpu: str | None = None
    """Name of the NVIDIA GPU."""
    no_engine: str | None = "no engine is in the cache"
    """Why no TensorRT engine can be used; None if there is one for every size."""
    no_cuda: str | None = None
    """Why ONNX Runtime cannot use the GPU; None if it can."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Candidates on the CPU that were not checked, and why."""
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """Candidates on the CPU that were checked."""


@dataclass(frozen=True)
class Choice:
    """A backend, NAME or NAME:PRECISION, with the device to open it on."""

    backend: str
    device: str
    reason: str = ""
    """In words, as the end of a sentence; empty for a backend that was named."""
    not_taken: tuple[str, ...] = ()
    """The other candidates that were considered, each with the reason against it."""

    @property
    def named(self) -> bool:
        """Whether the backend was named, not chosen."""
        return not self.reason


def choose(facts: Facts) -> Choice:
    """Return the fastest backend that the facts allow.

    A GPU goes before the CPU, an engine before ONNX Runtime's CUDA provider. Where the device cuda was asked
    for, nothing on the CPU is chosen: opening the backend then fails with the reason. Raises InvalidArgument
    if nothing computes in the precision that was asked for.
    """
    not_taken: list[str] = []
    if facts.device != "cpu" and facts.gpu:
        if facts.no_engine is None:
            return Choice("trt", "cuda", f"a TensorRT engine for {facts.gpu} is in the cache")
        not_taken.append(f"trt: {facts.no_engine}")
        if facts.no_cuda is None:
            return Choice("onnxrt", "cuda", f"CUDA on {facts.gpu}", tuple(not_taken))
        not_taken.append(f"onnxrt on cuda: {facts.no_cuda}")
    if facts.device == "cuda":
        if facts.precision != AUTO and facts.gpu:
            raise _impossible(facts.precision, not_taken)
        return Choice("onnxrt", "cuda", "the device cuda was asked for", tuple(not_taken))
    usable: dict[str, Trial] = {}
    for name in candidates(facts.precision):
        if (why := _why_not(name, facts)) is None:
            usable[name] = facts.trials[name]
        elif name != FALLBACK:
            not_taken.append(f"{name}: {why}")
    if not set(usable) - {FALLBACK}:
        if facts.precision not in (AUTO, "fp32"):
            raise _impossible(facts.precision, not_taken)
        return Choice(FALLBACK, "cpu", f"not {not_taken[-1]}", tuple(not_taken))
    best = min(usable, key=lambda name: usable[name].seconds * (LEAST_GAIN if ":" in name else 1))
    for name, trial in usable.items():
        if name != best:
            times = trial.seconds / usable[best].seconds
            not_taken.append(f"{name}: takes {times:.2f} times as long here")
    asked = "" if facts.precision == AUTO else f" in {facts.precision}"
    reason = f"the fastest on this processor{asked}, {usable[best].psnr:.0f} dB from float32"
    return Choice(best, "cpu", reason, tuple(not_taken))


def candidates(precision: str) -> list[str]:
    """Return the candidates on a CPU that compute in a precision."""
    return [
        name for name in ON_CPU if name in offered() and precision in (AUTO, name.partition(":")[2] or "fp32")
    ]


def _impossible(precision: str, not_taken: Sequence[str]) -> InvalidArgument:
    return InvalidArgument(
        field="precision",
        problem=f"nothing computes in {precision} here: {'; '.join(not_taken)}",
        hint="leave [option:precision] out for the fastest that works",
    )


def _why_not(name: str, facts: Facts) -> str | None:
    """Return why a candidate on the CPU cannot be chosen, whatever its speed; None if it can."""
    if name in facts.excluded:
        return facts.excluded[name]
    if name not in facts.trials:
        return "it was not checked"
    found = facts.trials[name].psnr
    if found >= LEAST_PSNR:
        return None
    return f"{found:.0f} dB from float32, at least {LEAST_PSNR:.0f} dB are needed"
