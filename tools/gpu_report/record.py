"""The results of a step so far, on disk after every measurement."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mst_deploy.errors import error_line
from mst_deploy.files import replacing

ERROR_LENGTH = 400


class Record:
    """Facts by name and rows of measurements; ``left`` seconds until the step will be stopped."""

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.ends = path, time.monotonic() + limit
        self.facts: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def left(self) -> float:
        """Return the seconds until this step is stopped."""
        return self.ends - time.monotonic()

    def fact(self, name: str, find: Callable[[], Any]) -> Any:
        """Find something out and write it down; an error is written down in its place -> None."""
        found, error = _tried(find)
        self.facts[name] = found if error is None else {"error": error}
        self.write()
        print(f"{name}: {self.facts[name]}", flush=True)
        return found

    def row(
        self, what: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]], needs: float = 1.0
    ) -> dict[str, Any]:
        """Measure and record the result beside its labels ``what``, or the reason why there is none.

        Not begun with less than ``needs`` seconds left.
        """
        row = dict(what)
        if self.left() < needs:
            row["skipped"] = f"only {max(0.0, self.left()):.1f} s left"
        else:
            began = time.monotonic()
            found, error = _tried(measure)
            row |= {"error": error} if found is None else found
            row["took_s"] = round(time.monotonic() - began, 2)
        self.rows.append(row)
        self.write()
        print(json.dumps(row, default=plain), flush=True)
        return row

    def write(self) -> None:
        """Write the whole record at once."""
        write_json(self.path, {**self.facts, **({"rows": self.rows} if self.rows else {})})


def write_json(path: Path, values: Any) -> None:
    """Replace a file; it is never half written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, default=plain) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Convert a value that JSON does not support."""
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def reason(error: BaseException) -> str:
    """Return type and message of an error in one line of bounded length."""
    return f"{type(error).__name__}: {error_line(error)}"[:ERROR_LENGTH]


def _tried(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return the result, or the reason why there is none; GPU memory of the attempt is freed."""
    try:
        return work(), None
    except Exception as error:
        found = None, reason(error)
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
    return found
