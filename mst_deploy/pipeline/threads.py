"""Stages that run concurrently, each in a thread of its own, joined by bounded queues.

    source ─ ahead ─ ahead ─> the caller's own loop ─> behind ─ behind

A full queue makes the stage before it wait, so memory does not grow. An error in a stage stops all threads of
the pipeline and is raised once, in the caller; no thread outlives the ``with`` block.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
TICK = 0.1  # seconds between checks whether to stop; an item that comes is taken at once
END = object()
WAITING_BYTES = 64 * 2**20
"""Bytes of frames that may wait between two stages."""


Policy = Literal["block", "latest"]
"""Behavior of a full queue: the stage before it waits, or the oldest item is dropped."""


class Stopped(Exception):
    """Raised inside the threads of a pipeline that is being stopped; never seen outside."""


class StageTimer:
    """Seconds of work of each stage, without the time it waited for other stages.

    Every stage is timed by one thread only.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, stage: str, sign: int = 1) -> Iterator[None]:
        """Count the block as work of a stage; with ``sign`` -1 subtract it."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + sign * passed

    def each(self, stage: str, source: Iterable[T], sign: int = 1) -> Iterator[T]:
        """Yield the items of a source and count the time of making them (or, with ``sign`` -1, subtract
        it)."""
        items = iter(source)
        while True:
            with self.timing(stage, sign):
                item = next(items, END)
            if item is END:
                return
            yield item  # type: ignore[misc]

    def limit(self) -> str:
        """Return the stage that worked longest, which limits the throughput; "" before the first item."""
        return max(self.seconds, key=lambda stage: self.seconds[stage], default="")


class ThreadedPipeline:
    """A chain of threads. Use it as a context manager; leaving it stops the threads and waits for them."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.stopped = threading.Event()
        self.failure: BaseException | None = None
        self.threads: list[threading.Thread] = []
        self.entrance: queue.Queue[Any] | None = None
        self.dropped = 0
        """Items that the policy ``latest`` has dropped."""

    def __enter__(self) -> Self:
        OPEN.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        OPEN.discard(self)
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def prefetch(self, name: str, source: Iterable[T], policy: Policy = "block") -> Iterator[T]:
        """Make the items of a source in a thread; its error is raised here, after the items before it.

        With the policy ``block`` the source waits while ``depth`` items wait to be taken; with ``latest``
        only the newest item waits, older ones are dropped and counted in ``dropped``, for sources that do not
        wait (a camera).
        """
        items: queue.Queue[Any] = queue.Queue(self.depth if policy == "block" else 1)

        def work() -> None:
            try:
                for item in source:
                    if policy == "block":
                        self._put(items, item)
                    else:
                        self._replace(items, item)
                self._put(items, END)
            except Stopped:
                pass
            except BaseException as error:
                self._offer(items, _Failed(error))

        self._start(name, work)
        return self._taken(items)

    def in_background(self, name: str, work: Callable[[T], None]) -> Callable[[T], None]:
        """Return a function that passes an item to ``work`` in a thread. Create the last stage first.

        Once a stage has failed, the function raises its error.
        """
        items: queue.Queue[Any] = queue.Queue(self.depth)
        following = self.entrance

        def run() -> None:
            try:
                for item in self._taken(items):
                    work(item)
                if following is not None:
                    self._put(following, END)
            except Stopped:
                pass
            except BaseException as error:
                self._fail(error)

        self.entrance = items
        self._start(name, run)
        return lambda item: self._put(items, item)

    def finish(self) -> None:
        """Wait until every background stage has processed all its items. Raises the error of a failed one."""
        if self.entrance is not None:
            self._put(self.entrance, END)
        for thread in self.threads:
            while thread.is_alive():  # in steps, so that Ctrl-C is heard on every system
                thread.join(TICK)
        if self.failure is not None:
            raise self.failure

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _taken(self, items: queue.Queue[Any]) -> Iterator[Any]:
        while True:
            try:
                item = items.get(timeout=TICK)
            except queue.Empty:
                self._check()
                continue
            if item is END:
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item

    def _put(self, items: queue.Queue[Any], item: Any) -> None:
        while True:
            self._check()
            try:
                return items.put(item, timeout=TICK)
            except queue.Full:
                continue

    def _replace(self, items: queue.Queue[Any], item: Any) -> None:
        """Put an item in the place of the one that waits, if there is one."""
        self._check()
        with suppress(queue.Empty):
            items.get_nowait()
            self.dropped += 1
        items.put_nowait(item)  # this thread is the only one that puts

    def _offer(self, items: queue.Queue[Any], item: Any) -> None:
        with suppress(Stopped):
            self._put(items, item)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.stopped.set()

    def _check(self) -> None:
        """Once stopped, raise the error of the pipeline in the caller's thread, and Stopped in its own
        threads."""
        if not self.stopped.is_set():
            return
        if self.failure is not None and threading.current_thread() not in self.threads:
            raise self.failure
        raise Stopped


class _Failed:
    """The error of a stage on its way through a queue."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def queue_depth(width: int, height: int) -> int:
    """Return how many frames of a size may wait between two stages: 64 MiB of them, 2 to 8."""
    return max(2, min(8, WAITING_BYTES // (3 * width * height)))


OPEN: weakref.WeakSet[ThreadedPipeline] = weakref.WeakSet()
"""Pipelines whose threads may be running."""


@atexit.register
def _stop_all() -> None:
    """Stop the threads of pipelines that are still open when the program ends.

    The interpreter would end them in the middle of a call into a library, and the C++ run-time of the library
    then aborts the process.
    """
    for pipeline in list(OPEN):
        pipeline.__exit__()
