"""How long work tells whoever waits for it: notes and progress. The command line shows them on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class Reporter:
    """Hears what a long command does; this one stays silent."""

    def note(self, text: str) -> None:
        """A sentence for people."""

    def progress(
        self, label: str, total: int | None, *, unit: str = "fps"
    ) -> AbstractContextManager[Callable[..., None]]:
        """Enter to get a function to call with the number of finished units and, if wanted, a note.

        ``total`` None means one long step of unknown length, ``unit`` "" shares of a whole, which have no
        rate.
        """
        return nullcontext(lambda done, note="": None)


SILENT = Reporter()
