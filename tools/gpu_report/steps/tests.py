"""The tests that need a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record

ROOT = Path(__file__).resolve().parents[3]
MARK = "mark.gpu"


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Run the files with marked tests, each in a pytest of its own, so that one that hangs does not affect
    others."""
    for path in marked_files(ROOT / "tests"):
        what = {"file": str(path.relative_to(ROOT))}
        record.row(what, lambda path=path: tested(settings, path, record.left() - 1.0), needs=4.0)  # type: ignore[misc]


def marked_files(folder: Path) -> list[Path]:
    """Return the files with tests that need a GPU; none for a folder without tests."""
    return [path for path in sorted(folder.rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def tested(settings: Settings, path: Path, seconds: float) -> dict[str, Any]:
    """Run the marked tests of a file and return their outcomes."""
    report = Path(settings.output) / f"{path.stem}.xml"
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        f"--junitxml={report}",
        str(path),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    if settings.cuda:
        environment["MST_REQUIRE_GPU"] = "1"
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    print(done.stdout, done.stderr, flush=True)
    lines = (done.stdout + done.stderr).strip().splitlines() or ["pytest said nothing"]
    return {"exit_code": done.returncode, "last_line": lines[-1][:300], "tests": outcomes(report)}


def outcomes(report: Path) -> dict[str, str]:
    """Return outcomes by test: passed, or the kind of failure and the first line of its reason."""
    if not report.is_file():
        return {}
    found = {}
    for case in tree.parse(report).iter("testcase"):
        ended = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        reason = "" if ended is None else (ended.get("message") or "").partition("\n")[0][:300]
        found[case.get("name", "")] = "passed" if ended is None else f"{ended.tag}: {reason}"
    return found
