"""Write the tables of docs/benchmarks.md, docs/images.md and README.md from benchmarks/results.

    python -m tools.docs.make_benchmarks [--check]

A block whose reports are not there stays as it is. With ``--check`` nothing is written and the exit code says
whether the documents are up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mst_deploy.benchmarks import command, reports
from mst_deploy.benchmarks import stills as stills_report
from mst_deploy.benchmarks.comparisons.tables import table
from tools.docs import DOCS, RESULTS, ROOT, gpu_tables

EVALUATION = DOCS / "evaluation.json"
PEERS = ("peers-cpu2-512x512.json", "peers-cpu2-1280x720.json")
LITE = ("peers-lite-cpu2.json",)
STEPS = ("steps-cpu2-512x512.json",)
LATENCY = ("latency-cpu2.json",)
VIDEO = ("video-cpu2.json",)
STILLS = "stills-cpu2.json"
DOCUMENTS = (DOCS / "benchmarks.md", DOCS / "images.md", ROOT / "README.md")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino")
NAMES = {
    "base": ("base", "mst"),
    "lite": ("lite",),
    "magenta": ("magenta",),
    "microast": ("microast",),
    "adain8": ("adain8",),
}
"""Names of a system in docs/evaluation.json."""
BLOCK = r"(<!-- measured: {name} -->\n).*?(<!-- end -->)"


def main() -> None:
    """Replace every block between its marks."""
    stale = []
    for path in DOCUMENTS:
        old = path.read_text(encoding="utf-8")
        new = filled(old, blocks(RESULTS))
        if new != old:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    print(f"out of date: {', '.join(stale)}" if stale else "up to date")
    if stale and "--check" in sys.argv:
        raise SystemExit(1)


def blocks(results: Path) -> dict[str, str]:
    """Return the text of each block for which there are reports."""
    makers: dict[str, tuple[Sequence[str], Callable[[list[dict[str, Any]]], str]]] = {
        "peers": (PEERS, peers),
        "lite": (LITE, peers),
        "steps": (STEPS, steps),
        "latency": (LATENCY, latency_table),
        "video": (VIDEO, latency_table),
        "summary": ((*PEERS, *LITE), summary),
    }
    found = {}
    for name, (files, make) in makers.items():
        there = [reports.read_report(results / file) for file in files if (results / file).is_file()]
        if there:
            found[name] = make(there)
    if (results / STILLS).is_file():
        found["stills"] = stills(json.loads((results / STILLS).read_text(encoding="utf-8")))
    return found | gpu_tables.blocks(results)


def filled(text: str, blocks: dict[str, str]) -> str:
    """Return the text with every marked block replaced by the one of its name."""
    for name, block in blocks.items():
        literal = block.replace("\\", r"\\")  # a replacement string reads backslashes as escapes
        text = re.sub(BLOCK.format(name=name), rf"\g<1>{literal}\n\g<2>", text, flags=re.DOTALL)
    return text


def peers(there: list[dict[str, Any]]) -> str:
    """Return the table of all systems with the quality of their pictures, and the machine of the
    measurement."""
    return "\n\n".join(f"{table(report, distances(report['model']))}\n\n{where(report)}" for report in there)


def steps(there: list[dict[str, Any]]) -> str:
    """Return the table of the ablation: the pictures are the same, so it has no quality."""
    return "\n\n".join(f"{table(report)}\n\n{where(report)}" for report in there)


def latency_table(there: list[dict[str, Any]]) -> str:
    """Return the table of mst bench latency or video."""
    return "\n\n".join(command.as_markdown(report).rstrip() for report in there)


def stills(report: dict[str, Any]) -> str:
    """Return the table of large stills with the machine of the measurement."""
    machine, versions = report["runs"][-1]["machine"], report["runs"][-1]["versions"]
    runtimes = ", ".join(f"{name} {versions[name]}" for name in RUNTIMES if name in versions)
    return f"{stills_report.table(report['rows'])}\n\n{machine['cpu']}, {machine['cores']} cores; {runtimes}."


def where(report: dict[str, Any]) -> str:
    """Return machine, versions and load of a report in short."""
    return "\n".join(f"- {line}" for line in reports.described(report).split("\n"))


def distances(model: str, evaluation: Path = EVALUATION) -> dict[str, str]:
    """Return style and content distance of each system, "" for the model itself, where they were
    evaluated."""
    measured = json.loads(evaluation.read_text(encoding="utf-8"))
    found = {}
    for name, called in NAMES.items():
        for means in [measured[one]["summary"]["means"] for one in called if one in measured][:1]:
            found["" if name == model else name] = (
                f"{means['style']['mean']:.3f}, {means['content']['mean']:.3f}"
            )
    return found


def summary(there: list[dict[str, Any]]) -> str:
    """Return the table of the README: milliseconds, speedup and PSNR of mst's own backends and PyTorch."""
    head = ("model", "through", "size", "ms a frame", "times as fast as PyTorch eager", "PSNR to it, dB")
    lines = []
    for report in there:
        for row in report["rows"]:
            if row["backend"] != "PyTorch eager" and not row["backend"].startswith("mst"):
                continue
            median, faster = reports.summary_of(row, report).median, row["times_faster"]
            decibel = "same" if row["psnr_db"] == 100 else f"{row['psnr_db']:.0f}"
            ratio = f"{faster['value']:.1f}"
            lines.append((row["model"], row["backend"], row["size"], f"{1000 * median:.0f}", ratio, decibel))
    machine = reports.described(there[0]).partition("\n")[0]
    return f"{reports.markdown(head, lines)}\n\n{machine}."


if __name__ == "__main__":
    main()
