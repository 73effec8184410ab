"""Measurements on disk and as tables: JSON that keeps every timed call, text and Markdown made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mst_deploy.benchmarks.roofline import Roofline
from mst_deploy.benchmarks.statistics import Summary, summarize
from mst_deploy.errors import InputError
from mst_deploy.files import replacing

SCHEMA = 1
KEY = ("part", "backend", "device", "precision", "weights", "size", "batch", "model")
"""What tells two rows of a report apart."""
HEAD = (
    "what",
    "size",
    "batch",
    "p50 ms",
    "p90",
    "p95",
    "p99",
    "mean ms",
    "a second",
    "GMAC/s",
    "of the machine",
)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Raises OutputError; nothing half-written stays."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"schema": SCHEMA, **report}, indent=1) + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Raises InputError for what is not a report of this program."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a benchmark report: {error}") from error
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(rows, list):
        raise InputError(
            f"{path} is not a report of mst bench (schema {SCHEMA}); measure again with [option:output]"
        )
    needed = {*KEY, "seconds", "work"}
    if not rows or any(not isinstance(row, dict) or not needed <= row.keys() for row in rows):
        raise InputError(f"{path} has no rows, or rows without {', '.join(sorted(needed))}; measure again")
    return found


def summary_of(row: dict[str, Any], report: dict[str, Any]) -> Summary:
    return summarize(row["seconds"], report["plan"]["confidence"])


def roofline_of(report: dict[str, Any]) -> Roofline | None:
    """As they were measured with it."""
    return Roofline(**report["ceilings"]) if report.get("ceilings") else None


def share_of_machine(row: dict[str, Any], seconds: float, ceilings: Roofline | None) -> float | None:
    """The roofline's time over the time it took; None where a ceiling is unknown."""
    if ceilings is None:
        return None
    work = row["work"]
    least = ceilings.least_seconds(work["multiply_adds"], work["least_bytes"], row["precision"])
    return None if least is None else least / seconds


def cells(row: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """One line of the table, in the order of ``HEAD``."""
    summary = summary_of(row, report)
    estimate, seconds = summary.estimate, summary.median
    ranks = [_milliseconds(summary.percentiles[rank]) for rank in (50, 90, 95, 99)]
    share = share_of_machine(row, seconds, roofline_of(report))
    half = (estimate.high - estimate.low) / 2
    return [
        f"{row['part']} of {row['model']}, {row['backend']} ({row['device']}, {row['precision']})",
        row["size"],
        str(row["batch"]),
        *ranks,
        f"{1000 * estimate.mean:.1f} ± {1000 * half:.1f}",
        f"{row['batch'] / seconds:.2f}",
        f"{row['work']['multiply_adds'] / seconds / 1e9:.0f}",
        "-" if share is None else f"{share:.0%}",
    ]


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers and stand to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def text_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same for a terminal."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    made = []
    for line in [head, *lines]:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        made.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(made)


def described(report: dict[str, Any]) -> str:
    """Machine, versions and noise in a few lines."""
    machine, ceilings = report["machine"], roofline_of(report)
    load = report.get("load")
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions']) or 'plain'}); "
        f"GPU: {(machine['gpu'] or {}).get('name', 'none')}; {report['made']}, commit {report['commit']}",
        "versions: " + ", ".join(f"{name} {found}" for name, found in report["versions"].items()),
        f"interval: {report['plan']['confidence']:.0%}; other programs used "
        + ("an unknown share" if load is None else f"{load:.0%}")
        + " of the machine",
    ]
    if ceilings is not None:
        rates = [f"{name} {rate / 1e9:.0f} GMAC/s" for name, rate in ceilings.multiply_adds.items()]
        lines.append(f"ceilings measured here: {', '.join(rates)}; copy {ceilings.copied / 1e9:.1f} GB/s")
    return "\n".join(lines)


def starts(rows: Iterable[dict[str, Any]]) -> list[str]:
    """First frame, change of style and memory, one line for each row that has them."""
    return [
        f"{row['backend']} {row['size']}: first frame {cold['first_frame_s']:.2f} s in a new process "
        f"(opened in {cold['open_s']:.2f} s), a new style {1000 * cold['new_style_s']:.0f} ms "
        f"(the same one {1000 * cold['same_style_s']:.0f} ms), memory {cold['memory_mib']:.0f} MiB"
        for row in rows
        if (cold := row.get("cold"))
    ]


def steps(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Where the time of a call goes, one line for each row that has its steps."""
    lines = []
    for row in rows:
        sums = {name: sum(spent) for name, spent in row.get("stages", {}).items()}
        if sums:
            parts = ", ".join(f"{name} {spent / sum(sums.values()):.1%}" for name, spent in sums.items())
            lines.append(f"{row['backend']} {row['size']}: {parts}")
    return lines


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f}"
