"""Formatting of a report as lines for a terminal."""

from __future__ import annotations

from typing import Any

FIGURES = ("device_ms", "bound_ms", "call_ms", "end_to_end", "replayed")
PLAIN = (
    "psnr_db",
    "frame_ms",
    "kernels_ms_a_frame",
    "by_kind_ms",
    "sums_ms",
    "compiling_s",
    "build_s",
    "change_ms",
    "share_of_roofline",
    "share_of_product_rate",
    "allocated_mib",
    "reserved_mib",
    "validity",
    "last_line",
    "skipped",
    "error",
    "failed",
)
NAMES = ("model", "size", "flavor", "target", "picture", "what", "frames", "file")


def describe(report: dict[str, Any]) -> str:
    """Return one line for each step and each row: medians of times and other key figures."""
    lines = []
    for step, entry in report["steps"].items():
        lines.append(f"{step}: {entry['state']} in {entry.get('seconds', 0)} s {entry.get('reason', '')}")
        lines += [f"  {describe_row(row)}" for row in entry.get("rows", ())]
    return "\n".join(lines)


def describe_row(row: dict[str, Any]) -> str:
    """Format a row: ``base 1920x1080 fp16: device_ms 4.1, psnr_db 60.2``."""
    names = [_named(row[name]) for name in NAMES if name in row]
    times = [
        f"{name} {row[name]['p50']:.3f}"
        for name in FIGURES
        if isinstance(row.get(name), dict) and "p50" in row[name]
    ]
    others = [f"{name} {row[name]}" for name in PLAIN if name in row]
    pairs = [
        f"{name} {value['psnr_db']}"
        for name, value in row.items()
        if isinstance(value, dict) and "psnr_db" in value
    ]
    return f"{' '.join(names)}: {', '.join([*times, *others, *pairs])}"


def _named(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return str(value)
