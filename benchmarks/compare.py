"""Whether two reports differ for certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mst_deploy.benchmarks.reports import KEY
from mst_deploy.benchmarks.statistics import Ratio, estimated, ratio_of_ratios, ratio_of_runs
from mst_deploy.errors import InvalidArgument

SMALLEST = 0.01
"""Differences below this share are not called real, however certain: alignment in memory makes them."""


@dataclass(frozen=True)
class Difference:
    """Of one row in two reports."""

    key: tuple[Any, ...]
    ratio: Ratio
    """How many times as long it takes in the second report."""

    @property
    def real(self) -> bool:
        return self.ratio.is_real(SMALLEST)

    def told(self) -> str:
        """A sentence."""
        part, backend, device, precision, _weights, size, batch, model = self.key
        name = f"{part}, {model}, {backend} ({device}, {precision}), {size}, batch {batch}"
        limits = f"{self.ratio.low - 1:+.1%} to {self.ratio.high - 1:+.1%}"
        if not self.real:
            return f"{name}: no difference that is certain ({limits})"
        how = "slower" if self.ratio.value > 1 else "faster"
        return f"{name}: {abs(self.ratio.value - 1):.1%} {how} ({limits})"


def differences(a: dict[str, Any], b: dict[str, Any], relative_to: str | None = None) -> list[Difference]:
    """Of all rows that both reports have.

    The confidence of the reports holds for all rows together (Bonferroni): one of twenty equal rows would
    otherwise differ by chance. ``relative_to`` names a backend: what is compared is then how many times as
    long a row takes as that backend at the same size, which may be asked of different machines. Raises
    InvalidArgument when there is nothing to compare.
    """
    first, second = _rows(a), _rows(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise InvalidArgument(
            "the two reports have no measurement in common; compare reports of the same cases"
        )
    confidence = 1 - (1 - min(one["plan"]["confidence"] for one in (a, b))) / len(shared)
    found = []
    for key in shared:
        if relative_to is None:
            ratio = ratio_of_runs(_estimate(first[key], a), _estimate(second[key], b), confidence)
        elif key[1] == relative_to:
            continue
        else:
            sides = [
                _relative(rows, key, relative_to, report, confidence)
                for rows, report in ((first, a), (second, b))
            ]
            ratio = ratio_of_ratios(sides[0], sides[1], confidence)
        found.append(Difference(key, ratio))
    return found


def other_machine(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs between the machines of two reports, in words."""
    names = ("cpu", "cores", "gpu", "threads")
    sides = [{**one["machine"], "gpu": (one["machine"]["gpu"] or {}).get("name")} for one in (a, b)]
    return [
        f"{name}: {sides[0][name]} / {sides[1][name]}" for name in names if sides[0][name] != sides[1][name]
    ]


def _rows(report: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[name] for name in KEY): row for row in report["rows"]}


def _estimate(row: dict[str, Any], report: dict[str, Any]) -> Any:
    return estimated(row["seconds"], report["plan"]["confidence"])


def _relative(
    rows: dict[tuple[Any, ...], dict[str, Any]],
    key: tuple[Any, ...],
    backend: str,
    report: dict[str, Any],
    confidence: float,
) -> Ratio:
    """The row's time over that of the backend at the same part, size and batch."""
    base = [
        row for other, row in rows.items() if (other[0], other[1], *other[5:]) == (key[0], backend, *key[5:])
    ]
    if not base:
        raise InvalidArgument(
            field="relative_to",
            problem=f"no row of the backend {backend!r} at {key[5]}, batch {key[6]} to compare with",
        )
    return ratio_of_runs(_estimate(base[0], report), _estimate(rows[key], report), confidence)
