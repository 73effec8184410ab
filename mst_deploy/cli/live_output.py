"""What ``mst live`` shows: a line of status each second, the summary at the end, the devices there are."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mst_deploy.pipeline.live import LivePipeline
    from mst_deploy.pipeline.live_counts import LiveReport
    from mst_deploy.video.latency import LatencyReport


@contextmanager
def status_line(live: LivePipeline, *, shown: bool) -> Iterator[None]:
    """Show one line of status on the terminal, updated each second."""
    ended = threading.Event()

    def show() -> None:
        last = live.report()
        while not ended.wait(1.0):
            report = live.report()
            ages = [sink.age_ms["p50"] for sink in report.sinks.values() if sink.age_ms["p50"] is not None]
            delay = f", delay {max(ages):.0f} ms" if ages else ""
            print(
                f"\r{report.stylized - last.stylized} fps at {report.width}x{report.height}{delay}, "
                f"{sum(report.dropped.values())} of {report.captured} dropped\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )
            last = report
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, name="status", daemon=True)
    if shown:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if shown:
            thread.join()


def summary(report: LiveReport, latency: Mapping[str, LatencyReport]) -> str:
    dropped = sum(report.dropped.values())
    lines = [
        f"{report.captured} frames captured in {report.seconds:.1f} s: {report.stylized} stylized "
        f"({report.fps:.1f} fps, {report.width}x{report.height}), {dropped} dropped, "
        f"{report.in_flight} unfinished"
    ]
    for name, sink in report.sinks.items():
        late = f", {sink.dropped} dropped" if sink.dropped else ""
        ended = f"; {sink.error}" if sink.error else ""
        lines.append(f"{name}: {sink.written} frames{late}, delay {_percentiles(sink.age_ms)}{ended}")
        if name.startswith("virtual-camera") and sink.age_ms["p50"] is not None:
            lines.append(f"{name}: in OBS, give the sound a sync offset of {sink.age_ms['p50']:.0f} ms")
    for name, read in latency.items():
        what = f"{read.read} counters read back, {read.unreadable} unreadable"
        delay = "" if read.delay_ms["p50"] is None else f", true delay {_percentiles(read.delay_ms)}"
        lines.append(f"{name}: {what}{delay}")
    return "\n".join(lines)


def _percentiles(values: dict[str, float | None]) -> str:
    if values["p50"] is None:
        return "unknown"
    return f"{values['p50']:.0f} ms (p95 {values['p95']:.0f}, p99 {values['p99']:.0f})"


def values(report: LiveReport, latency: Mapping[str, LatencyReport]) -> dict[str, Any]:
    found = asdict(report) | {"seconds": round(report.seconds, 3), "fps": round(report.fps, 3)}
    if latency:
        found["latency"] = {name: asdict(read) for name, read in latency.items()}
    return found


def list_devices(*, as_json: bool) -> None:
    from mst_deploy.cli.console import print_result
    from mst_deploy.video.devices import devices

    found = devices()
    lines, counts = [], {"camera": 0, "screen": 0}
    for each in found:
        if each.kind == "virtual-camera":
            lines.append(f"{each.kind}:{each.address}  {each.name}")
            continue
        lines.append(f"{each.kind}:{counts[each.kind]}  {each.name}")
        counts[each.kind] += 1
    text = "\n".join(lines) or "no camera and no screen found on this machine"
    print_result(text, {"devices": [asdict(each) for each in found]}, as_json=as_json)
