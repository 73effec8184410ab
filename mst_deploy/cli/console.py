"""Output of a command while and after it works. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mst_deploy.cli.errors import worded
from mst_deploy.errors import OutputError
from mst_deploy.reporter import Reporter

PATIENCE = 2.0  # seconds without a word; a progress bar for less only flickers


class RateColumn(ProgressColumn):
    """Progress column with the finished units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.unit}")


@contextmanager
def progress(
    label: str, total: int | None, *, unit: str = "fps", quiet: bool = False
) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and remaining time once the work has taken two seconds.

    Yields a function to call with the number of finished units and, if wanted, a note to show beside the
    label. ``total`` None means one long step of unknown length; ``unit`` "" means fractions of a whole,
    without a rate. Nothing is shown when quiet or when stderr is not a terminal.
    """
    console = Console(stderr=True)
    label = worded(label)
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if total:
        counts = [MofNCompleteColumn(), RateColumn(unit)] if unit else [TaskProgressColumn()]
        columns += [BarColumn(), *counts, TimeRemainingColumn()]
    display = Progress(*columns, console=console, transient=True)
    task = display.add_task(label, total=total or None)
    starter = threading.Timer(PATIENCE, display.start)
    starter.daemon = True
    if console.is_terminal and not quiet:
        starter.start()
    try:
        yield lambda done, note="": display.update(
            task, completed=done, description=f"{label} {note}".strip()
        )
    finally:
        starter.cancel()
        if display.live.is_started:  # stopping what never started prints an empty line
            display.stop()


def echo(text: str, *, quiet: bool = False) -> None:
    """Print a line for people on stderr. A line that cannot be written is ignored."""
    if not quiet:
        with suppress(OSError, ValueError):
            print(worded(text), file=sys.stderr)


def print_result(text: str, values: dict[str, Any], *, as_json: bool = False, quiet: bool = False) -> None:
    """Print the result: text for people, or one JSON object for programs (even when quiet).

    Raises OutputError if standard output cannot be written.
    """
    try:
        if as_json:
            print(json.dumps(values, ensure_ascii=False))
        elif not quiet:
            print(worded(text))
    except (OSError, ValueError) as error:
        raise output_failed(error) from error


def output_failed(error: OSError | ValueError) -> OutputError:
    """Return the error for a standard output that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot write to the standard output: {reason}; files that were made are kept")


class Terminal(Reporter):
    """Notes and progress on stderr, nothing when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        echo(text, quiet=self.quiet)

    def progress(
        self, label: str, total: int | None, *, unit: str = "fps"
    ) -> AbstractContextManager[Callable[..., None]]:
        return progress(label, total, unit=unit, quiet=self.quiet)
