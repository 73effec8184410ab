"""Fake GPU whose streams do nothing until a caller waits for them.

Working as late as allowed is the worst case of a real one: a host buffer that is overwritten too early, a
copy that does not wait for its kernel, or a graph that is replayed with stale addresses gives a wrong picture
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mst_deploy.errors import BackendError


class Event:
    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.reached = True

    def record(self, stream: Stream) -> None:
        self.stream, self.reached = stream, False

        def reach() -> None:
            self.reached = True

        stream.put(reach)

    def synchronize(self) -> None:
        while not self.reached:
            assert self.stream is not None
            self.stream.step()


class Stream:
    """Work in order; ``handle`` is its number."""

    def __init__(self, cuda: FakeCuda, handle: int) -> None:
        self.cuda, self.handle = cuda, handle
        self.work: list[Callable[[], None]] = []

    def put(self, work: Callable[[], None]) -> None:
        if self.cuda.captured is not None and self.cuda.captured[0] is self:
            self.cuda.captured[1].append(work)
        else:
            self.work.append(work)

    def wait_for_event(self, event: Event) -> None:
        self.put(event.synchronize)

    def step(self) -> None:
        self.work.pop(0)()

    def synchronize(self) -> None:
        while self.work:
            self.step()


class Memory:
    """Device memory; ``int()`` of it is its address."""

    def __init__(self, address: int, count: int) -> None:
        self.address = address
        self.data = np.zeros(count, np.uint8)

    def __int__(self) -> int:
        return self.address


class FakeCuda:
    """The interface of ``backends.trt.cuda.Cuda``."""

    name = "Fake GPU 9000"
    driver_version = "13.0"

    def __init__(self, capacity: int = 1 << 30, compute_capability: str = "8.9") -> None:
        self.capacity, self.compute_capability = capacity, compute_capability
        self.blocks: dict[int, Memory] = {}
        self.streams: list[Stream] = []
        self.captured: tuple[Stream, list[Callable[[], None]]] | None = None
        self.depth = 0
        self.closed = False
        self.launches = 0
        self.allocations = 0
        self.graphs = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        assert not self.closed
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def stream(self) -> Stream:
        assert self.depth == 1
        self.streams.append(Stream(self, 1000 + len(self.streams)))
        return self.streams[-1]

    def stream_of(self, handle: int) -> Stream:
        return self.streams[handle - 1000]

    def event(self) -> Event:
        return Event()

    def allocate(self, count: int) -> Memory:
        assert self.depth == 1
        self.allocations += 1
        if count > self.capacity:
            raise BackendError("the GPU has too little free memory (cuMemAlloc failed: out of memory)")
        block = Memory(4096 * (1 + len(self.blocks)), count)
        self.blocks[block.address] = block
        return block

    def memory(self, address: int, dtype: Any, shape: tuple[int, ...]) -> Any:
        return self.blocks[address].data.view(dtype).reshape(shape)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.allocations += 1
        return np.zeros(shape, dtype)

    def to_device(self, target: Memory, source: Any, stream: Stream) -> None:
        def copy() -> None:
            target.data[:] = source.reshape(-1).view(np.uint8)

        stream.put(copy)

    def to_host(self, target: Any, source: Memory, stream: Stream) -> None:
        def copy() -> None:
            target.reshape(-1).view(np.uint8)[:] = source.data

        stream.put(copy)

    @contextmanager
    def capturing(self, stream: Stream, graph: list[Any]) -> Iterator[None]:
        self.captured = (stream, [])
        try:
            yield
            graph.append(self.captured[1])
            self.graphs += 1
        finally:
            self.captured = None

    def launch(self, graph: list[Callable[[], None]], stream: Stream) -> None:
        self.launches += 1
        for work in graph:
            stream.put(work)

    def forget(self, graph: Any) -> None:
        self.graphs -= 1

    def close(self) -> None:
        self.closed = True
