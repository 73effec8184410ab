"""The camera of a browser, over a WebSocket of the test client."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from mst_deploy.images.files import decode_image, encode_picture
from tests.pictures import picture

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from mst_deploy.serve.app import create_app
from mst_deploy.serve.guard import Access
from mst_deploy.serve.service import Service

TOKEN = "0123456789abcdef0123"
PHOTO = picture(160, 120, 0)
JPEG = encode_picture(".jpg", PHOTO)
SETTINGS = json.dumps({"style": "udnie"})


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    with TestClient(create_app(service, Access()), "http://127.0.0.1:8000") as opened:
        yield opened


def sent(stamp: float, jpeg: bytes = JPEG) -> bytes:
    return struct.pack("<d", stamp) + jpeg


def received(socket: Any) -> tuple[float, Any]:
    """The next stylized picture, with the time that came with it."""
    while (message := socket.receive()).get("bytes") is None:
        assert message["type"] == "websocket.send", message
    data = message["bytes"]
    return struct.unpack_from("<d", data)[0], decode_image(data[8:], "frame")


def test_the_newest_picture_comes_back_stylized_with_its_own_time(client: Any, service: Service) -> None:
    with client.websocket_connect("ws://127.0.0.1:8000/v1/camera", subprotocols=["mst"]) as socket:
        assert socket.accepted_subprotocol == "mst"
        socket.send_text(SETTINGS)
        for number in range(3):
            socket.send_bytes(sent(number + 0.5))
            stamp, image = received(socket)
            assert stamp == number + 0.5
            assert image.shape == PHOTO.shape
            assert abs(image.astype(int) - (255 - PHOTO)).mean() < 8  # JPEG, twice
        socket.send_text(json.dumps({"style": ["udnie"], "strength": 0.0}))
        socket.send_bytes(sent(9.0))
        stamp, image = received(socket)
        assert abs(image.astype(int) - PHOTO).mean() < 8
        with (
            client.websocket_connect("ws://127.0.0.1:8000/v1/camera") as second,
            pytest.raises(WebSocketDisconnect) as closed,
        ):
            second.receive_text()
        assert (closed.value.code, service.cameras) == (1013, 1)
    assert service.cameras == 0


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([sent(0.0)], "settings"),
        (["no json"], "JSON"),
        ([json.dumps({"style": "/etc/passwd"})], "no style"),
        ([json.dumps({"style": "udnie", "strength": "1"})], "strength"),
        ([json.dumps({"style": "udnie", "path": "x"})], "JSON object"),
        ([SETTINGS, b"short"], "JPEG"),
        ([SETTINGS, sent(0.0, b"no picture")], "JPEG"),
        ([SETTINGS, sent(0.0, encode_picture(".png", PHOTO))], "JPEG"),
        ([SETTINGS, sent(0.0, encode_picture(".jpg", picture(4000, 16, 0)))], "4000x16"),
    ],
)
def test_what_is_no_camera_gets_an_error(client: Any, messages: list[Any], words: str) -> None:
    with client.websocket_connect("ws://127.0.0.1:8000/v1/camera") as socket:
        for message in messages:
            socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
    assert closed.value.code == 1008
    assert words in closed.value.reason


@pytest.mark.parametrize(
    ("headers", "names", "admitted"),
    [
        ({}, [], False),
        ({}, ["mst", f"bearer.{base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip('=')}"], True),
        ({}, ["mst", "bearer.AAAA"], False),
        ({"Origin": "http://evil.example", "Authorization": f"Bearer {TOKEN}"}, [], False),
        ({"Origin": "http://127.0.0.1:8000", "Authorization": f"Bearer {TOKEN}"}, [], True),
    ],
)
def test_who_may_send_a_camera(
    service: Service, headers: dict[str, str], names: list[str], admitted: bool
) -> None:
    client = TestClient(create_app(service, Access(token=TOKEN)), "http://127.0.0.1:8000")
    given = {"Host": "127.0.0.1:8000", **headers}
    with contextlib.ExitStack() as stack:
        refused = None if admitted else stack.enter_context(pytest.raises(WebSocketDisconnect))
        with client.websocket_connect("ws://127.0.0.1:8000/v1/camera", headers=given, subprotocols=names):
            pass
    assert refused is None or refused.value.code == 1008
