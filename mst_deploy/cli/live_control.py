"""Control of live video over HTTP, on this machine only.

    curl http://127.0.0.1:8001/v1/live
    curl -X PATCH -H 'Content-Type: application/json' -d '{"style": "zodiac", "fade": 1}' \\
        http://127.0.0.1:8001/v1/live

``GET /v1/live`` has styles and counts, ``PATCH`` changes the style, ``GET /v1/live/events`` sends them each
second (server-sent events), ``POST /v1/live/snapshot`` answers with the picture painted last,
``GET /v1/live/preview.mjpeg`` shows what is painted.

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
    from mst_deploy.video.info import Image

HOST = "127.0.0.1"
PATH = "/v1/live"
LOCAL = (HOST, "localhost")
PATIENCE = 5.0
"""Seconds that a client may take to send a request."""
LONGEST = 4096
"""Bytes of a request's body."""
READERS = 16
"""Connections at a time."""
EVERY = 1.0
"""Seconds between two events."""
PREVIEW = 0.1
"""Seconds between two pictures of the preview, at least."""
BOUNDARY = "mst-frame"


def state(live: LivePipeline) -> dict[str, Any]:
    """Return the present style, strength and counts."""
    now, active = time.monotonic(), live.active_style
    return {"styles": active.weights(now), "strength": active.strength(now), **asdict(live.report())}


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
    now, active = time.monotonic(), live.active_style
    if style is not None:
        active = active.with_style(style, now, float(fade), strength)
    elif strength is not None:
        active = active.with_strength(float(strength), now)
    live.active_style = active


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def encoded(image: Image, suffix: str) -> bytes:
    """Encode a picture (H, W, 3) uint8 as ``.png`` or ``.jpg``."""
    import cv2  # not for every command

    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError("cannot encode the picture")
    return bytes(data.tobytes())


def parse_port(text: str) -> int:
    """Parse ``[HOST:]PORT``, where only this machine can be the host. Raises InvalidArgument."""
    host, _, port = text.rpartition(":")
    if host not in ("", *LOCAL):
        raise InvalidArgument(
            field="control",
            problem=f"[option:control] is for this machine only, not {host}",
            hint="give a port",
        )
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise InvalidArgument(
            field="control", problem=f"[option:control] must be a port from 0 to 65535, got {text!r}"
        )
    return int(port)


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
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them

    def __init__(self, live: LivePipeline, port: int) -> None:
        self.live, self.ended = live, threading.Event()
        self.readers = threading.BoundedSemaphore(READERS)
        super().__init__((HOST, port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.readers.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.readers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version, sys_version = "mst", ""

    def do_GET(self) -> None:
        if not self._meant_for_us(PATH, f"{PATH}/events", f"{PATH}/preview.mjpeg"):
            return
        if self.path == PATH:
            self._send(200, state(self.server.live))
        elif self.path.endswith("/events"):
            self._begin("text/event-stream")
            while not self.server.ended.is_set():
                self.wfile.write(f"data: {json.dumps(state(self.server.live))}\n\n".encode())
                self.server.ended.wait(EVERY)
        else:
            self._preview()

    def do_POST(self) -> None:
        if not self._meant_for_us(f"{PATH}/snapshot"):
            return
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            return self._problem(413, "send no body")
        newest = self.server.live.newest
        if newest is None:
            return self._problem(503, "nothing has been painted yet; try again")
        self._answer(200, encoded(newest.image, ".png"), "image/png")

    def _preview(self) -> None:
        self._begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        shown = None
        while not self.server.ended.wait(PREVIEW):
            newest = self.server.live.newest
            if newest is None or newest is shown:
                continue
            shown, jpeg = newest, encoded(newest.image, ".jpg")
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def do_PATCH(self) -> None:
        if not self._meant_for_us(PATH):
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

    def _meant_for_us(self, *paths: str) -> bool:
        host = self.headers.get("Host", "").rpartition(":")
        name = host[0] if host[1] else host[2]
        origin = self.headers.get("Origin")
        if name not in LOCAL or (origin is not None and origin.split("://")[-1] != self.headers.get("Host")):
            self._problem(403, "only for this machine")
            return False
        if self.path not in paths:
            self._problem(404, f"there is only {', '.join(paths)}")
            return False
        return True

    def _problem(self, status: int, detail: str) -> None:
        self._send(status, {"status": status, "detail": detail}, "application/problem+json")

    def _send(self, status: int, values: dict[str, Any], kind: str = "application/json") -> None:
        self._answer(status, json.dumps(values, ensure_ascii=False).encode(), kind)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _begin(self, kind: str) -> None:
        """Begin an answer without end."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log of requests to the terminal."""
