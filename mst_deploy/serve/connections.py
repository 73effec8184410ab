"""Connections that end when their client is too slow: Uvicorn has no such limits of its own."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from mst_deploy.serve.limits import Limits


def protocol_with(limits: Limits) -> type[Any]:
    """Return the protocol class for Uvicorn that applies the limits of time."""

    class LimitedProtocol(H11Protocol):
        """HTTP/1.1 with a limit on the time until a request is there, and on a client that does not read.

        Writing is paused above 64 kB that were not taken; a client that takes none of them is cut off.
        """

        head_timer: TimerHandle | None = None
        read_timer: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:
            super().connection_made(transport)
            self.head_timer = self.loop.call_later(limits.head_seconds, transport.abort)

        def handle_events(self) -> None:
            super().handle_events()
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering and self.head_timer is not None:  # the header is complete
                self.head_timer.cancel()
                self.head_timer = None

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.head_timer is None and not self.transport.is_closing():
                self.head_timer = self.loop.call_later(limits.head_seconds, self.transport.abort)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._stop_timers()
            super().handle_websocket_upgrade(event)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.read_timer = self.loop.call_later(limits.stalled_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.read_timer is not None:
                self.read_timer.cancel()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_timers()
            super().connection_lost(error)

        def _stop_timers(self) -> None:
            for timer in (self.head_timer, self.read_timer):
                if timer is not None:
                    timer.cancel()

    return LimitedProtocol
