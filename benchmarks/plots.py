"""Pictures of a report: latency by size, percentiles, roofline. Only this module knows Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from mst_deploy.benchmarks.reports import roofline_of, summary_of
from mst_deploy.errors import InvalidArgument
from mst_deploy.files import replacing

matplotlib.use("agg")
from matplotlib import pyplot as plt

SUFFIXES = (".png", ".svg")
RANKS = (50, 90, 95, 99)


def save_plots(report: dict[str, Any], folder: Path, stem: str, suffix: str = ".png") -> list[Path]:
    """Write STEM-sizes, STEM-percentiles and, with ceilings, STEM-roofline. Raises InvalidArgument."""
    if suffix not in SUFFIXES:
        raise InvalidArgument(
            field="plots", problem=f"plots are written as {' or '.join(SUFFIXES)}, not {suffix!r}"
        )
    rows = [row for row in report["rows"] if row["part"] == "generator"] or report["rows"]
    makers = {"sizes": _sizes, "percentiles": _percentiles}
    if roofline_of(report) is not None:
        makers["roofline"] = _roofline
    written = []
    for name, draw in makers.items():
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        draw(axes, rows, report)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        path = folder / f"{stem}-{name}{suffix}"
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150)
        plt.close(figure)
        written.append(path)
    return written


def _sizes(axes: Any, rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Median over pixels, both logarithmic: a straight line of slope one is time in proportion."""
    for name, own in _grouped(rows).items():
        own = sorted(own, key=_pixels)
        pixels = [_pixels(row) / 1e6 for row in own]
        summaries = [summary_of(row, report) for row in own]
        middle = [1000 * one.median for one in summaries]
        late = [1000 * (one.percentiles[90] or one.median) for one in summaries]
        spread = [[1000 * (one.median - one.least) for one in summaries], np.subtract(late, middle)]
        axes.errorbar(pixels, middle, yerr=spread, marker="o", capsize=3, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="megapixels a batch", ylabel="milliseconds: least, median, p90"
    )


def _percentiles(axes: Any, rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """How many calls were done after how long, each relative to its median."""
    for row in rows:
        times = np.sort(row["seconds"]) / np.median(row["seconds"])
        axes.step(
            times,
            100 * np.arange(1, len(times) + 1) / len(times),
            where="post",
            label=f"{row['backend']} {row['size']}",
        )
    axes.set(xlabel="time of a call / its median", ylabel="per cent of the calls", yticks=[0, *RANKS])


def _roofline(axes: Any, rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Multiply-adds a second over multiply-adds a byte, under what the machine can do."""
    ceilings = roofline_of(report)
    assert ceilings is not None
    intensity = np.logspace(0, 4, 200)
    for name, rate in ceilings.multiply_adds.items():
        axes.plot(intensity, np.minimum(rate, ceilings.copied * intensity) / 1e9, label=f"ceiling {name}")
    for name, own in _grouped(rows).items():
        points = [row["work"] for row in own]
        seconds = [summary_of(row, report).median for row in own]
        axes.plot(
            [work["multiply_adds"] / work["least_bytes"] for work in points],
            [work["multiply_adds"] / spent / 1e9 for work, spent in zip(points, seconds, strict=True)],
            "o",
            label=name,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-adds a byte",
        ylabel="GMAC a second",
    )


def _grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['backend']} ({row['device']}, {row['precision']})", []).append(row)
    return groups


def _pixels(row: dict[str, Any]) -> int:
    width, height = map(int, row["size"].split("x"))
    return width * height * int(row["batch"])
