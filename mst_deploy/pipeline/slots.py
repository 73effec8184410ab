"""A one-item buffer between two threads, in which the newest item wins.

Queues that keep every item, for files, are in ``stages.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
TICK = 0.1  # seconds between checks whether to stop; an item that comes is taken at once


class Slot(Generic[T]):
    """A one-item buffer between two threads: putting an item replaces the waiting one, which counts as
    dropped.

    Slots of one pipeline share a condition variable, so that an item passes from one to the next atomically
    and :attr:`counts` of all of them are consistent. At all times ``put == done + dropped + waiting + busy``.
    """

    def __init__(self, shared: threading.Condition | None = None) -> None:
        self.shared = shared or threading.Condition()
        self.item: T | None = None
        self.put_count = self.dropped = self.done = 0
        self.busy = self.closed = self.refusing = False

    def put(self, item: T) -> None:
        """Put an item in the place of the one that waits, if there is one."""
        with self.shared:
            self.put_count += 1
            if self.refusing or self.closed:
                self.dropped += 1
                return
            self.dropped += self.item is not None
            self.item = item
            self.shared.notify_all()

    def take(self, stopped: Callable[[], bool] = lambda: False) -> T | None:
        """Wait for an item and take it; None when the slot is closed and empty, or ``stopped()``.

        The item counts as busy until :meth:`finish`.
        """
        with self.shared:
            while self.item is None:
                if self.closed or stopped():
                    return None
                self.shared.wait(TICK)
            item, self.item, self.busy = self.item, None, True
            return item

    def finish(self, puts: Iterable[tuple[Slot[Any], Any]] = ()) -> None:
        """Count the item taken as done and, in the same step, put its result into other slots."""
        with self.shared:
            self.busy = False
            self.done += 1
            for slot, item in puts:
                slot.put(item)

    def close(self) -> None:
        """Announce that no more items come; a waiting one can still be taken."""
        with self.shared:
            self.closed = True
            self.shared.notify_all()

    def refuse(self) -> None:
        """Drop the waiting item, the busy one and all later ones: the next stage has failed."""
        with self.shared:
            self.dropped += (self.item is not None) + self.busy
            self.item, self.busy, self.refusing = None, False, True

    @property
    def in_flight(self) -> int:
        """Return the number of items that wait or are being processed: 0 to 2."""
        return (self.item is not None) + self.busy
