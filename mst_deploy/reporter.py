"""Interface through which long work reports notes and progress. The command line shows them on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class Reporter:
    """Receiver of the notes and progress of a long command; this one discards them."""

    def note(self, text: str) -> None:
        """Report a sentence for people."""

    def progress(
        self, label: str, total: int | None, *, unit: str = "fps"
    ) -> AbstractContextManager[Callable[..., None]]:
        """Return a context manager that gives a function to call with the number of finished units and,
        optionally, a note.

        ``total`` None means one long step of unknown length; ``unit`` "" means fractions of a whole, without
        a rate.
        """
        return nullcontext(lambda done, note="": None)


SILENT = Reporter()
