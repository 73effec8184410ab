"""Control of live video over HTTP: ``GET`` and ``PATCH /v1/live`` on this machine only.

    curl http://127.0.0.1:8001/v1/live
    curl -X PATCH -H 'Content-Type: application/json' -d '{"style": "zodiac", "fade": 1}'         http://127.0.0.1:8001/v1/live

Errors are problem details (RFC 9457). A page of another origin can neither read nor change anything: host
names that are not local are refused, and changes must be JSON, which browsers send across origins only if
allowed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from mst_deploy.errors import InvalidArgument, OutputError

if TYPE_CHECKING:
    from mst_deploy.pipeline.live import LivePipeline

HOST = "127.0.0.1"
PATH = "/v1/live"
LOCAL = (HOST, "localhost")
PATIENCE = 5.0
"""Seconds that a client may take to send a request."""
LONGEST = 4096
"""Bytes of a request's body."""


def state(live: LivePipeline) -> dict[str, Any]:
    """Return the present style, strength and counts."""
    now, look = time.monotonic(), live.look
    return {"styles": look.weights(now), "strength": look.strength(now), **asdict(live.report())}


def change(live: LivePipeline, wanted: Any) -> None:
    """Apply ``{"style": NAME, "strength": 0..1, "fade": SECONDS}``, each optional.

    Raises InvalidArgument, and then nothing is changed.
    """
    if not isinstance(wanted, dict) or not wanted or set(wanted) - {"style", "strength", "fade"}:
        raise InvalidArgument("give a JSON object with style, strength or fade")
    fade, strength, style = wanted.get("fade", 0.0), wanted.get("strength"), wanted.get("style")
    if not _number(fade) or not 0 <= fade <= 3600:
        raise InvalidArgument("fade must be a number of seconds from 0 to 3600")
    if strength is not None and not (_number(strength) and 0 <= strength <= 1):
        raise InvalidArgument("strength must be a number from 0 to 1")
    if style is not None and not isinstance(style, str):
        raise InvalidArgument("style must be the name of a style that was read at the start")
    now, look = time.monotonic(), live.look
    if style is not None:
        look = look.with_style(style, now, float(fade), strength)
    elif strength is not None:
        look = look.with_strength(float(strength), now)
    live.look = look


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@contextmanager
def controlled(live: LivePipeline, port: int) -> Iterator[int]:
    """Serve on a port of this machine while the block runs; yield the port. Raises OutputError."""
    try:
        server = _Server(live, port)
    except OSError as error:
        raise OutputError(
            f"cannot listen on {HOST}:{port} ({error.strerror}); choose another port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="control", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them

    def __init__(self, live: LivePipeline, port: int) -> None:
        self.live = live
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version, sys_version = "mst", ""

    def do_GET(self) -> None:
        if self._meant_for_us():
            self._send(200, state(self.server.live))

    def do_PATCH(self) -> None:
        if not self._meant_for_us():
            return
        if self.headers.get_content_type() != "application/json":
            return self._problem(415, "send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self._problem(411, "send the length of the body")
        if int(length) > LONGEST:
            return self._problem(413, f"the body may have {LONGEST} bytes")
        try:
            change(self.server.live, json.loads(self.rfile.read(int(length))))
        except InvalidArgument as error:
            return self._problem(422, str(error))
        except (ValueError, RecursionError):
            return self._problem(400, "the body is not JSON")
        self._send(200, state(self.server.live))

    def _meant_for_us(self) -> bool:
        host = self.headers.get("Host", "").rpartition(":")
        name = host[0] if host[1] else host[2]
        origin = self.headers.get("Origin")
        if name not in LOCAL or (origin is not None and origin.split("://")[-1] != self.headers.get("Host")):
            self._problem(403, "only for this machine")
            return False
        if self.path != PATH:
            self._problem(404, f"there is only {PATH}")
            return False
        return True

    def _problem(self, status: int, detail: str) -> None:
        self._send(status, {"status": status, "detail": detail}, "application/problem+json")

    def _send(self, status: int, values: dict[str, Any], kind: str = "application/json") -> None:
        body = json.dumps(values, ensure_ascii=False).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log of requests to the terminal."""
