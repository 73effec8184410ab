"""How long work tells whoever waits for it: notes and progress. The command line shows them on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Reporter:
    """Hears what a long command does; this one stays silent."""

    def note(self, text: str) -> None:
        """A sentence for people."""

    @contextmanager
    def progress(self, label: str, total: int | None, *, unit: str = "fps") -> Iterator[Callable[..., None]]:
        """Yield a function to call with the number of finished units and, if wanted, a note about them.

        ``total`` None means one long step of unknown length, ``unit`` "" shares of a whole, which have no
        rate.
        """
        yield lambda done, note="": None


SILENT = Reporter()
