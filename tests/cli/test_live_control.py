"""Live video controlled over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.cli.live_control import controlled, parse_port
from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.images import decode_image
from mst_deploy.pipeline.live import LivePipeline
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.styles.timeline import StyleKey, Timeline
from mst_deploy.video.live_source import Picture

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[LivePipeline, int]]:
    def none() -> Generator[Picture, None, None]:
        yield Picture(time.monotonic(), np.zeros((40, 48, 3), np.uint8))

    before = set(threading.enumerate())
    with mst.Stylizer("lite", backend="fake") as stylizer:
        plan = stylizer.plan(Timeline((StyleKey("udnie"), StyleKey("zodiac"))))
        live = LivePipeline(none, {}, stylizer.backend, LiveStyle.of(plan, 0.0), (48, 40))
        live.run()  # one picture, so that there is a newest one
        with controlled(live, 0) as port:
            yield live, port
    assert set(threading.enumerate()) <= before


def ask(port: int, method: str, body: Any = None, path: str = "/v1/live", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, ({} if data is None else JSON) | given)
    answer = connection.getresponse()
    values = json.loads(answer.read() or b"{}")
    connection.close()
    return answer.status, values


def test_style_and_strength_are_changed_and_reported(served: tuple[LivePipeline, int]) -> None:
    live, port = served
    status, values = ask(port, "PATCH", {"style": "zodiac", "strength": 0.5})
    assert (status, values["styles"], values["strength"]) == (200, {"zodiac": 1.0}, 0.5)
    now = time.monotonic()
    assert (live.active_style.weights(now), live.active_style.strength(now)) == ({"zodiac": 1.0}, 0.5)
    assert ask(port, "GET")[1] == values
    assert values["captured"] == values["stylized"] == 1
    status, values = ask(port, "PATCH", {"style": "udnie", "fade": 1000})
    assert values["styles"]["zodiac"] > 0.9
    status, values = ask(port, "PATCH", {"strength": 1})
    assert values["styles"]["zodiac"] > 0.9
    assert values["strength"] == 1.0


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"style": "nobody"}, 422, "was not read before the start"),
        ({"style": 3}, 422, "must be the name"),
        ({"strength": 2}, 422, "from 0 to 1"),
        ({"strength": True}, 422, "from 0 to 1"),
        ({"strength": float("nan")}, 422, "from 0 to 1"),
        ({"style": "udnie", "fade": -1}, 422, "fade must be"),
        ({"style": "udnie", "fade": float("inf")}, 422, "fade must be"),
        ({"size": 3}, 422, "give a JSON object"),
        ({}, 422, "give a JSON object"),
        ([1], 422, "give a JSON object"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe\xff", 400, "not JSON"),
        (b"[" * 4000, 400, "not JSON"),
        (b" " * 5000, 413, "4096 bytes"),
    ],
)
def test_wrong_bodies_change_nothing(
    served: tuple[LivePipeline, int], body: Any, status: int, detail: str
) -> None:
    live, port = served
    before = live.active_style
    found, problem = ask(port, "PATCH", body)
    assert (found, problem["status"]) == (status, status)
    assert detail in problem["detail"]
    assert live.active_style is before


def test_other_hosts_origins_types_and_paths(served: tuple[LivePipeline, int]) -> None:
    live, port = served
    before, change = live.active_style, {"strength": 0.1}
    assert ask(port, "GET", Host="evil.test")[0] == 403
    assert ask(port, "PATCH", change, Origin="http://evil.test")[0] == 403
    assert ask(port, "PATCH", change, Origin="null")[0] == 403
    assert ask(port, "PATCH", change, Content_Type="text/plain")[0] == 415
    assert ask(port, "GET", path="/")[0] == 404
    assert ask(port, "GET", path="/v1/live/snapshot")[0] == 404
    assert ask(port, "POST", path="/v1/live/snapshot", Origin="http://evil.test")[0] == 403
    assert ask(port, "GET", path="/v1/live/preview.mjpeg", Host="evil.test")[0] == 403
    assert ask(port, "POST", b"x", path="/v1/live/snapshot")[0] == 413
    assert ask(port, "GET", Host=f"localhost:{port}")[0] == 200
    assert ask(port, "PATCH", {"strength": 0.9}, Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert before is not live.active_style


def test_pictures_and_events(served: tuple[LivePipeline, int]) -> None:
    """The newest painted picture as a file, as the first part of a stream; the counts as events."""
    live, port = served
    assert live.newest is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/live/snapshot", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "image/png"
    np.testing.assert_array_equal(decode_image(answer.read(), "a snapshot"), live.newest.image)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/live/preview.mjpeg", timeout=20) as stream:
        assert stream.readline() == b"--mst-frame\r\n"
        head = dict(line.split(b": ") for line in iter(stream.readline, b"\r\n"))
        shown = decode_image(stream.read(int(head[b"Content-Length"])), "a part")
        assert np.abs(shown.astype(int) - live.newest.image).mean() < 3
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/live/events", timeout=20) as stream:
        assert json.loads(stream.readline().removeprefix(b"data: "))["stylized"] == 1
    connection.close()


def test_ports() -> None:
    assert [parse_port(text) for text in ("8000", "127.0.0.1:8000", "localhost:0")] == [8000, 8000, 0]
    for wrong in ("0.0.0.0:80", "x", "70000", "example.org:80"):
        with pytest.raises(InvalidArgument, match="control"):
            parse_port(wrong)


def test_a_port_that_is_taken(served: tuple[LivePipeline, int]) -> None:
    live, port = served
    with pytest.raises(OutputError, match="choose another port"), controlled(live, port):
        pass
