"""Time of imports."""

from __future__ import annotations

from typing import Any

from tools.gpu_report import preloaded
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Record the seconds of each package, in the process that all steps are forked from."""
    record.fact("imported_s", lambda: preloaded.SECONDS)
    record.fact("not_imported", lambda: preloaded.ERRORS)
