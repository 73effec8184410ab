"""Motion JPEG over HTTP, read by urllib and sockets."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.images import decode_image
from mst_deploy.video import mjpeg
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.info import Frame
from mst_deploy.video.live_sinks import open_live_sink
from mst_deploy.video.mjpeg import MjpegSink, parse_address
from tests.video.live_frames import PATTERN, SETTINGS, frame, until

pytestmark = pytest.mark.usefixtures("threads_end")


@pytest.fixture
def server() -> Iterator[MjpegSink]:
    sink = open_live_sink("mjpeg:0", SETTINGS)
    assert isinstance(sink, MjpegSink)
    yield sink
    sink.finish()


def part(stream: Any) -> int | None:
    """The counter in the next picture of a stream; None at its end."""
    length = 0
    while line := stream.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        if line == b"\r\n" and length:
            return read_counter(decode_image(stream.read(length), "a part"))
    return None


def test_mjpeg_is_read_by_urllib(server: MjpegSink) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=mst-frame"
        for number in range(5):
            server.write(frame(number))
            assert part(stream) == number
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/snapshot.jpg", timeout=20) as still:
            assert read_counter(decode_image(still.read(), "the snapshot")) == 4
        server.finish()
        assert part(stream) is None


def test_a_reader_gets_the_newest_picture(server: MjpegSink) -> None:
    for number in range(5):
        server.write(frame(number))
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
        assert part(stream) == 4


def test_a_reader_that_takes_nothing_delays_nobody(
    server: MjpegSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mjpeg._Handler, "timeout", 0.5)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", server.port))
        lazy.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
            noise = np.random.default_rng(0).integers(0, 256, (96, 176, 3)).astype(np.uint8)
            until(lambda: len(server.server.connections) == 2)
            number, started = 0, time.monotonic()
            while len(server.server.connections) == 2:  # until the lazy one is sent away
                assert time.monotonic() - started < 60
                image = noise.copy()
                image[:48] = PATTERN.image(number)[:48]
                server.write(Frame(image, 0, 0, 0.0))
                assert part(stream) == number
                number += 1
            server.write(frame(0))
            assert part(stream) == 0


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 404), ("localhost:8000", 404), ("[::1]:1", 404), ("evil.test", 403), ("", 403)],
)
def test_other_host_names_and_paths(server: MjpegSink, host: str, status: int) -> None:
    """A page elsewhere whose name points to 127.0.0.1 must not see the camera."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("GET", "/nothing" if status == 404 else "/", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_port_that_is_taken(server: MjpegSink) -> None:
    with pytest.raises(OutputError, match=f"choose another port: mjpeg:{server.port + 1}"):
        open_live_sink(f"mjpeg:{server.port}", SETTINGS)


def test_addresses_of_mjpeg() -> None:
    assert parse_address("mjpeg:8000") == ("127.0.0.1", 8000)
    assert parse_address("mjpeg:0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("mjpeg:[::1]:80") == ("::1", 80)
    for wrong in ("mjpeg:", "mjpeg:x", "mjpeg:70000", "mjpeg"):
        with pytest.raises(InvalidArgument, match="write mjpeg:PORT"):
            parse_address(wrong)
