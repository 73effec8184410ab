"""Write the tables of docs/benchmarks.md and README.md from benchmarks/results.

With ``--check`` nothing is written and the exit code says whether the documents are up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mst_deploy.benchmarks import reports

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEERS = ("peers-cpu2-512x512.json", "peers-cpu2-1280x720.json")
STEPS = "steps-cpu2-512x512.json"
LATENCY = "latency-cpu2.json"
BLOCK = r"(<!-- measured: {name} -->\n).*?(<!-- end -->)"


def main() -> None:
    """Replace every block between its marks."""
    blocks = {"peers": "\n\n".join(peers(read(name)) for name in PEERS), "steps": peers(read(STEPS)),
              "latency": latency(read(LATENCY)), "summary": summary()}  # fmt: skip
    stale = []
    for path in (ROOT / "docs" / "benchmarks.md", ROOT / "README.md"):
        old = path.read_text(encoding="utf-8")
        new = filled(old, blocks)
        if new != old:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    print(f"out of date: {', '.join(stale)}" if stale else "up to date")
    if stale and "--check" in sys.argv:
        raise SystemExit(1)


def filled(text: str, blocks: dict[str, str]) -> str:
    """The text with every marked block replaced by the one of its name."""
    for name, block in blocks.items():
        pattern = BLOCK.format(name=name)
        text = re.sub(
            pattern, lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text, flags=re.DOTALL
        )
    return text


def read(name: str) -> dict[str, Any]:
    return reports.read_report(RESULTS / name)


def peers(report: dict[str, Any]) -> str:
    """Systems at one size, and what they were measured on."""
    from mst_deploy.benchmarks.peers.__main__ import table

    return f"{table(report)}\n\n{where(report)}"


def latency(report: dict[str, Any]) -> str:
    """The table of mst bench."""
    lines = [reports.cells(row, report) for row in report["rows"]]
    more = [*reports.steps(report["rows"]), *reports.starts(report["rows"])]
    return "\n".join(
        [reports.markdown(reports.HEAD, lines), "", *(f"- {line}" for line in more), "", where(report)]
    )


def where(report: dict[str, Any]) -> str:
    """Machine, versions, load: the birth certificate in short."""
    return "\n".join(f"- {line}" for line in reports.described(report).split("\n"))


def summary() -> str:
    """For README: milliseconds, times faster and PSNR of what mst runs itself, beside PyTorch."""
    head = ("system", "size", "ms a frame", "times as fast as PyTorch eager", "PSNR dB")
    lines = []
    for name in PEERS:
        report = read(name)
        for row in report["rows"]:
            if row["backend"] != "PyTorch eager" and not row["backend"].startswith("mst"):
                continue
            median, faster = reports.summary_of(row, report).median, row["times_faster"]
            decibel = "same" if row["psnr_db"] == 100 else f"{row['psnr_db']:.0f}"
            lines.append(
                (row["backend"], row["size"], f"{1000 * median:.0f}", f"{faster['value']:.1f}", decibel)
            )
    return reports.markdown(head, lines)


if __name__ == "__main__":
    main()
