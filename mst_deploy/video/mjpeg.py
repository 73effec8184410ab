"""The result as Motion JPEG over HTTP, for a browser, OBS's media source or a player.

``/`` is the stream, ``/snapshot.jpg`` the newest picture. Each reader gets the newest picture when it is
ready for one; a slow reader skips pictures without affecting others.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.video.info import Frame, Image, WriteReport
from mst_deploy.video.live_sink import SinkSettings

BOUNDARY = "mst-frame"
QUALITY = 85
LOCAL = ("127.0.0.1", "localhost", "::1")
BEHIND = 5.0
"""Seconds without progress after which a reader is disconnected."""
READERS = 16
"""Maximum number of readers at a time."""


def parse_address(name: str) -> tuple[str, int]:
    """Parse ``mjpeg:[HOST:]PORT`` to host and port; the default host is 127.0.0.1. Raises InvalidArgument."""
    host, _, port = name.removeprefix("mjpeg:").rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 <= int(port) < 65536):
        raise InvalidArgument(
            f"cannot use {name!r} as a sink: write mjpeg:PORT or mjpeg:HOST:PORT (mjpeg:8000)"
        )
    return host.strip("[]") or LOCAL[0], int(port)


class MjpegSink:
    """A web server that shows the newest frame."""

    done, complete = 0, False

    def __init__(self, name: str, settings: SinkSettings) -> None:
        self.settings, self.written, self.report = settings, 0, WriteReport()
        host, port = parse_address(name)
        self.changed = threading.Condition()
        self.jpeg, self.number, self.closed = b"", 0, False
        try:
            self.server = _Server(self, host, port)
        except OSError as error:
            raise OutputError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another port: mjpeg:{port + 1}"
            ) from error
        self.port: int = self.server.server_address[1]
        shown = {"0.0.0.0": LOCAL[0], "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        self.url = f"http://{shown}:{self.port}/"
        self.hint = f"see it in a browser: {self.url}"
        if host not in LOCAL:
            self.hint += " (everybody in this network can)"
        self.thread = threading.Thread(
            target=self.server.serve_forever, args=(0.1,), name="mjpeg server", daemon=True
        )
        self.thread.start()

    def write(self, frame: Frame) -> None:
        """Encode a frame and wake the readers."""
        image = _sized(frame.image, self.settings)
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        if not done:
            raise OutputError("cannot encode a frame as JPEG")
        with self.changed:
            self.jpeg, self.number = data.tobytes(), self.number + 1
            self.changed.notify_all()
        self.written += 1

    def newer_than(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture after ``number``; None when the server stops."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.number > number)
            return None if self.closed else (self.number, self.jpeg)

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        """Disconnect the readers and stop the server."""
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
        self.server.shutdown()
        self.server.hang_up()
        self.server.server_close()
        self.thread.join()

    def keep(self) -> str:
        self.finish()
        return ""

    def abandon(self, error: BaseException) -> None:
        self.finish()


def _sized(image: Image, settings: SinkSettings) -> Image:
    from mst_deploy.images import letterboxed

    return np.ascontiguousarray(letterboxed(image, settings.width, settings.height))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them

    def __init__(self, sink: MjpegSink, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.sink, self.host = sink, host
        self.connections: set[Any] = set()
        self.lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self.lock:
            if len(self.connections) >= READERS:
                return False
            self.connections.add(request)
        return True

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Wake the handlers that wait for a reader."""
        with self.lock:
            for request in self.connections:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of readers that closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = BEHIND
    server_version, sys_version = "mst", ""

    def do_GET(self) -> None:
        if not self._meant_for_us():
            return self.send_error(403, "unknown host name")
        path = self.path.partition("?")[0]
        if path == "/snapshot.jpg":
            return self._snapshot()
        if path != "/":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self._common_headers()
        number = 0
        while (picture := self.server.sink.newer_than(number)) is not None:
            number, jpeg = picture
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def _snapshot(self) -> None:
        picture = self.server.sink.newer_than(0)
        if picture is None:
            return self.send_error(503)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(picture[1])))
        self._common_headers()
        self.wfile.write(picture[1])

    def _common_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Connection", "close")
        self.end_headers()

    def _meant_for_us(self) -> bool:
        """Return whether the host name is allowed: a local server answers to local names only, against DNS
        rebinding."""
        if self.server.host not in LOCAL:
            return True
        host = self.headers.get("Host", "").rpartition("@")[2]
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name.strip("[]") in LOCAL

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log of requests to the terminal."""
