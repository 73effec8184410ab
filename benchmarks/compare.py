"""Comparison of two benchmark reports: which rows differ significantly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mst_deploy.benchmarks.reports import KEY
from mst_deploy.benchmarks.statistics import Ratio, estimated, ratio_of_ratios, ratio_of_runs
from mst_deploy.errors import InvalidArgument

SMALLEST = 0.01
"""Smallest relative difference that is reported: smaller ones arise from memory alignment alone."""


@dataclass(frozen=True)
class Difference:
    """Difference of one row between two reports."""

    key: tuple[Any, ...]
    ratio: Ratio
    """Time in the second report / time in the first."""

    @property
    def real(self) -> bool:
        """Whether the difference is significant and at least SMALLEST."""
        return self.ratio.is_real(SMALLEST)

    def describe(self) -> str:
        """Describe the difference in one sentence."""
        part, backend, device, precision, _weights, size, batch, model = self.key
        name = f"{part}, {model}, {backend} ({device}, {precision}), {size}, batch {batch}"
        limits = f"{self.ratio.low - 1:+.1%} to {self.ratio.high - 1:+.1%}"
        if not self.real:
            return f"{name}: no difference that is certain ({limits})"
        how = "slower" if self.ratio.value > 1 else "faster"
        return f"{name}: {abs(self.ratio.value - 1):.1%} {how} ({limits})"


def differences(a: dict[str, Any], b: dict[str, Any], relative_to: str | None = None) -> list[Difference]:
    """Compare all rows that both reports contain.

    The confidence of the reports is the familywise one (Bonferroni correction): otherwise one of twenty equal
    rows would differ by chance. With ``relative_to``, the name of a backend, the compared quantity is the
    time of a row relative to that backend at the same size; this allows reports of different machines. Raises
    InvalidArgument if there is nothing to compare.
    """
    first, second = _rows(a), _rows(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise InvalidArgument(
            "the two reports have no measurement in common; compare reports of the same cases"
        )
    confidence = 1 - (1 - min(one["plan"]["confidence"] for one in (a, b))) / len(shared)
    result = []
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
        result.append(Difference(key, ratio))
    return result


def other_machine(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return one text per property (CPU, cores, GPU, threads) that differs between the machines of two
    reports."""
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
    """Return the time of the row relative to that of ``backend`` at the same part, size and batch.

    Raises InvalidArgument if the report has no such row.
    """
    base = [
        row for other, row in rows.items() if (other[0], other[1], *other[5:]) == (key[0], backend, *key[5:])
    ]
    if not base:
        raise InvalidArgument(
            field="relative_to",
            problem=f"no row of the backend {backend!r} at {key[5]}, batch {key[6]} to compare with",
        )
    return ratio_of_runs(_estimate(base[0], report), _estimate(rows[key], report), confidence)
