"""Which steps there are, in which order, and how much of the time each may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mst_deploy.errors import InvalidArgument

DEVICES = ("cuda", "cpu")
SIZES = ((1920, 1080), (1280, 720), (3840, 2160))
"""Width and height; the most important first."""
SHARES = {
    "machine": 20, "torch": 130, "numerics": 15, "onnxruntime": 60, "profile": 20, "tensorrt": 25,
    "memory": 20, "tests": 15,
}  # fmt: skip
"""The steps in order of value, and how the time is shared out between those that are still to come."""
LEAST = 5.0
"""Seconds; a step with less is not begun."""


@dataclass(frozen=True)
class Settings:
    """What every step is told."""

    device: str
    sizes: tuple[tuple[int, int], ...]
    models: tuple[str, ...]
    output: str

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def seconds(self, wanted: float) -> float:
        """How long to measure, or how much time a measurement needs: next to nothing in a rehearsal."""
        return wanted if self.cuda else min(wanted, 0.03)

    @property
    def main_size(self) -> tuple[int, int]:
        """The size for what is measured at one size only."""
        return self.sizes[0]


def chosen_steps(text: str | None) -> tuple[str, ...]:
    """``machine,torch`` -> names in the order of ``SHARES``; all for None. Raises InvalidArgument."""
    if text is None:
        return tuple(SHARES)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SHARES]
    if unknown:
        raise InvalidArgument(f"unknown step {unknown[0]!r}; choose among {', '.join(SHARES)}")
    return tuple(name for name in SHARES if name in names)


def limit_of(step: str, to_come: Sequence[str], left: float) -> float:
    """Seconds for a step: its share of the time that is left, among the steps ``to_come`` (itself included).

    No less than ``LEAST`` while there is as much.
    """
    share = left * SHARES[step] / sum(SHARES[name] for name in to_come)
    return min(left, max(LEAST, share))
