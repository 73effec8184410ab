"""Run the service until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from mst_deploy.errors import OutputError
from mst_deploy.serve.connections import protocol_with
from mst_deploy.serve.limits import Limits

CLOSING = 5
"""Seconds that requests get to end when the service ends."""


class Server(uvicorn.Server):
    """Uvicorn that ends quietly on signals, and says when it can be reached."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.on_ready, self.on_end = on_ready, on_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call ``on_ready`` in a thread."""
        await super().startup(sockets=sockets)
        if self.started:
            threading.Thread(target=self.on_ready, name="ready", daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell streams to end, then wait for the rest."""
        self.on_end()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as requests to end, without raising them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 is any free one. Raises OutputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"cannot listen on {host}:{port} ({reason}); choose another with [option:port]"
        ) from error
    return listener


def make_server(app: Any, limits: Limits, on_ready: Callable[[], None], on_end: Callable[[], None]) -> Server:
    """Return a server with the limits on connections."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=protocol_with(limits),
        ws="websockets-sansio",
        ws_max_size=limits.camera_bytes + 64,
        ws_max_queue=2,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_graceful_shutdown=CLOSING,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
    )
    return Server(config, on_ready, on_end)


def run(server: Server, listener: socket.socket) -> None:
    """Serve until a signal."""
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
