"""Steps one after the other, each in a process of its own; the report is written after every check."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from mst_deploy.benchmarks.environment import environment_info, gpu
from tools.gpu_report import STARTED
from tools.gpu_report.plan import LEAST, Settings, limit_of, shares_of
from tools.gpu_report.record import Record, write_json

ROOT = Path(__file__).resolve().parents[2]
RESERVE = 2.0  # seconds of the whole time that no step gets: killing and writing take some
GRACE = 1.0  # seconds before its limit at which a step stops by itself
TICK, CLOCKS = 0.1, 5.0  # seconds between checks of a step, and of the GPU's clocks
IMPORTING = 0.4  # share of the whole time that importing PyTorch may take
FORK = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def run(settings: Settings, steps: Sequence[str], seconds: float, commit: str | None) -> dict[str, Any]:
    """Run the steps within ``seconds`` -> the report, which is also in OUTPUT/report.json."""
    ends = STARTED + seconds - RESERVE
    folder = Path(settings.output)
    born = environment_info()
    report: dict[str, Any] = {
        **born,
        "commit": born["commit"] or commit,
        "settings": {**asdict(settings), "seconds": seconds},
        "finished": False,
        "steps": {},
        "clocks": [],
    }
    # Steps are forked off a server that has imported PyTorch once: where disks are slow, importing it takes
    # longer than most measurements. The server itself never touches the GPU.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    context: Any = multiprocessing.get_context(FORK)
    if FORK == "forkserver":
        context.set_forkserver_preload(["tools.gpu_report.preloaded"])
    _one(context, "imports", settings, IMPORTING * seconds, report)
    shares = shares_of(settings)
    for index, step in enumerate(steps):
        limit = limit_of(step, steps[index:], ends - time.monotonic(), shares)
        if limit < LEAST:
            left = max(0.0, ends - time.monotonic())
            report["steps"][step] = {"state": "skipped", "reason": f"only {left:.1f} s of the time were left"}
        else:
            _one(context, step, settings, limit, report)
    report["finished"] = True
    write_json(folder / "report.json", report)
    return report


def _one(context: Any, step: str, settings: Settings, limit: float, report: dict[str, Any]) -> None:
    """Run one step in a process of its own and, at its time limit, end it with all its child processes."""
    folder, began, recorded = Path(settings.output), time.monotonic(), 0.0
    found, log = folder / f"{step}.json", folder / f"{step}.log"
    for path in (found, log):
        path.unlink(missing_ok=True)
    entry: dict[str, Any] = {"state": "running", "limit_s": round(limit, 1)}
    report["steps"][step] = entry
    before = report["steps"].get("machine", {})
    process = context.Process(
        target=child, args=(step, settings, limit - GRACE, str(found), str(log), before)
    )
    # Starting waits for the server, which imports PyTorch first: nobody knows how long that takes.
    starting = Thread(target=process.start, daemon=True)
    starting.start()
    print(f"{step}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    starting.join(limit)
    while not starting.is_alive() and process.exitcode is None and time.monotonic() < began + limit:
        process.join(TICK)
        if settings.cuda and time.monotonic() > recorded + CLOCKS:
            recorded = time.monotonic()
            report["clocks"].append({"step": step, **(gpu() or {})})
            _gather(entry, found)
            write_json(folder / "report.json", report)
    code = None
    if not starting.is_alive():
        code = process.exitcode
        _end(process)
    _gather(entry, found)
    entry["seconds"] = round(time.monotonic() - began, 1)
    if code is None:
        entry |= {"state": "stopped", "reason": f"its {limit:.0f} s were over", "last_line": last_line(log)}
    elif code != 0:
        entry |= {"state": "failed", "reason": last_line(log), "exit_code": code}
    else:
        entry["state"] = "done"
    print(f"{step}: {entry['state']} {entry.get('reason', '')}", file=sys.stderr, flush=True)
    write_json(folder / "report.json", report)


def child(step: str, settings: Settings, limit: float, found: str, log: str, before: dict[str, Any]) -> None:
    """Run a step in its own process. ``before`` is the entry of the step ``machine``."""
    if hasattr(os, "setsid"):
        os.setsid()  # so that what it starts can be ended with it
    with open(log, "w", encoding="utf-8") as file:  # noqa: PTH123
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    record = Record(Path(found), limit)
    if not settings.cuda and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    import_module(f"tools.gpu_report.steps.{step}").find_out(settings, record, before)
    record.write()


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "it wrote no log"
    return next((line.strip()[:400] for line in reversed(lines) if line.strip()), "it said nothing")


def _gather(entry: dict[str, Any], found: Path) -> None:
    with suppress(OSError, ValueError):
        entry |= read_json(found)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _end(process: Any) -> None:
    """End a process with its child processes: compilers, tests."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # its group exists as long as one of it lives
    process.kill()
    process.join(5)
