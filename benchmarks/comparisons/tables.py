"""Markdown tables of reports that compare systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.statistics import ratio_of_turns


def table(report: dict[str, Any], quality: Mapping[str, str] | None = None) -> str:
    """Return a table of systems by size: median, speedup with its interval, PSNR, share of the roofline.

    ``quality`` describes the image quality of a system; the entry "" is that of the shipped weights.
    """
    ceilings = reports.roofline_of(report)
    lines = []
    for row in report["rows"]:
        median = reports.summary_of(row, report).median
        share = reports.share_of_machine(row, median, ceilings) if row["work"]["multiply_adds"] else None
        faster, decibel = row["times_faster"], row["psnr_db"]
        lines.append(
            [
                row["backend"],
                row["size"],
                f"{1000 * median:.0f}",
                f"{faster['value']:.2f} ({faster['low']:.2f} to {faster['high']:.2f})",
                "-" if decibel is None else "same" if decibel == 100 else f"{decibel:.1f}",
                "-" if share is None else f"{share:.0%}",
            ]
        )
        if quality is not None:
            name = "" if row["weights"] == "shipped" else row["backend"]
            lines[-1].append(quality.get(name, "-"))
    first = report["rows"][0]["backend"]
    head = ["system", "size", "ms a frame", f"times as fast as {first}", "PSNR dB", "of the machine"]
    head += [] if quality is None else ["style, content"]
    refused = report["refused"].items()
    notes = [*beside(report), *(f"- {name}: not measured: {reason}" for name, reason in refused)]
    return "\n".join([reports.markdown(head, lines), *(["", *notes] if notes else [])])


def beside(report: dict[str, Any]) -> list[str]:
    """Return the time of external networks relative to the ways of running this project's weights, round
    by round."""
    confidence = report["plan"]["confidence"]
    lines = []
    for row in (row for row in report["rows"] if row["weights"] == "own"):
        ratios = []
        for own in report["rows"]:
            if own["size"] == row["size"] and own["backend"].startswith("mst"):
                ratio = ratio_of_turns(own["seconds"], row["seconds"], confidence)
                ratios.append(f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) of {own['backend']}")
        if ratios:
            lines.append(f"- time of {row['backend']} at {row['size']}, times that: {'; '.join(ratios)}")
    return lines
