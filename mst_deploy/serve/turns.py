"""Order in which requests get the one model: the one that is due first, live frames before the rest.

A live frame is due at once, a picture and a frame of a video a little later; so live frames go first, and
nothing waits forever (earliest deadline first: Liu and Layland, "Scheduling Algorithms for Multiprogramming
in a Hard-Real-Time Environment", 1973).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import count

from mst_deploy.backends import BackendBase, FilmBatch, Images, StylizeBackend
from mst_deploy.backends.base import TilingBackend
from mst_deploy.model.canvas import Canvas


class Kind(Enum):
    """Kinds of work, with the seconds after which each is due."""

    LIVE = 0.0
    PICTURE = 0.5
    CLIP = 2.0


class Turns:
    """A lock that is handed to the waiting thread whose work is due first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int]] = []
        self._numbers = count()
        self._taken = False

    @contextmanager
    def turn(self, kind: Kind) -> Iterator[None]:
        """Wait for the model, and hold it while the block runs."""
        with self._changed:
            ticket = (time.monotonic() + kind.value, next(self._numbers))
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class TurnBackend(BackendBase):
    """A model that is called in turn with others; one object for each kind of work."""

    def __init__(self, backend: StylizeBackend, turns: Turns, kind: Kind) -> None:
        self.backend, self.turns, self.kind = backend, turns, kind
        self.manifest, self.device = backend.manifest, backend.device
        self.name: str = getattr(backend, "name", type(backend).__name__)

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        with self.turns.turn(self.kind):
            return self.backend(frames, film_params, canvas)

    def tiling(self) -> TilingBackend | None:
        """Return what stylizes large pictures in tiles, with sessions of its own; None if there is none."""
        return self.backend.tiling()
