"""The steps, their order, and their shares of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mst_deploy.errors import InvalidArgument

DEVICES = ("cuda", "cpu")
SIZES = ((1920, 1080), (1280, 720), (3840, 2160))
"""Width and height; the most important first."""
SHARES = {
    "machine": 20,
    "torch": 130,
    "numerics": 15,
    "onnxruntime": 60,
    "profile": 20,
    "tensorrt": 25,
    "memory": 20,
    "tests": 60,
}
"""The steps in order of value, with the weights by which the remaining time is divided among the remaining
steps."""
LEAST = 5.0
"""Seconds; a step with less is not begun."""


@dataclass(frozen=True)
class Settings:
    """Settings of every step."""

    device: str
    sizes: tuple[tuple[int, int], ...]
    models: tuple[str, ...]
    output: str

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def seconds(self, wanted: float) -> float:
        """Return how long to measure, or how much time a measurement needs: almost nothing in a rehearsal."""
        return wanted if self.cuda else min(wanted, 0.03)

    @property
    def main_size(self) -> tuple[int, int]:
        """Return the size of measurements at one size only."""
        return self.sizes[0]


def chosen_steps(text: str | None) -> tuple[str, ...]:
    """Parse ``machine,torch`` to names in the order of ``SHARES``; all for None. Raises InvalidArgument."""
    if text is None:
        return tuple(SHARES)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SHARES]
    if unknown:
        raise InvalidArgument(f"unknown step {unknown[0]!r}; choose among {', '.join(SHARES)}")
    return tuple(name for name in SHARES if name in names)


def shares_of(settings: Settings) -> dict[str, float]:
    """Return ``SHARES``, with almost nothing for packages that are not installed."""
    shares = dict[str, float](SHARES)
    if settings.cuda and not has_cuda_provider():
        shares["onnxruntime"] = LEAST
    if not any(find_spec(name) for name in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx")):
        shares["tensorrt"] = LEAST
    return shares


def has_cuda_provider() -> bool:
    """Return whether the installed ONNX Runtime has the library of its CUDA provider, without loading it."""
    found = find_spec("onnxruntime")
    folders = [] if found is None else found.submodule_search_locations or []
    return any(list(Path(folder).glob("capi/*onnxruntime_providers_cuda*")) for folder in folders)


def limit_of(step: str, to_come: Sequence[str], left: float, shares: Mapping[str, float] = SHARES) -> float:
    """Return the seconds for a step: its share of the remaining time among the steps ``to_come`` (itself
    included).

    No less than ``LEAST`` while there is as much.
    """
    share = left * shares[step] / sum(shares[name] for name in to_come)
    return min(left, max(LEAST, share))
