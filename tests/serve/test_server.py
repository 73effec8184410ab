"""The service as a process, over real connections: many at once, slow ones, hostile ones, and kill -9."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest

from mst_deploy.images.files import encode_picture
from tests.clips import Clip, write_clip
from tests.pictures import picture
from tests.serve.running import Running

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow
DATA = encode_picture(".png", picture(64, 48, 0))


def resident(pid: int) -> int:
    """Resident memory of a process and its children in kB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if str(pid) in (lines["Pid"].strip(), lines["PPid"].strip()):
            total += int(lines.get("VmRSS", "0 kB").split()[0])
    return total


def raw(port: int, data: bytes) -> int:
    """The status that bytes get; 0 if the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=200) as connection:
        try:
            connection.sendall(data)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        except OSError:
            return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def request(line: str, body: bytes = b"", **headers: str) -> bytes:
    given = {"Host": "127.0.0.1", "Content_Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


IMAGES = "POST /v1/images?style=udnie"
HOSTILE = [
    (request(IMAGES, DATA[:100], Content_Type="image/png"), {422}),
    (request(IMAGES, b"\x89PNG" + bytes(5000), Content_Type="image/png"), {422}),
    (request(IMAGES, DATA, Content_Type="text/html"), {415}),
    (request(IMAGES, DATA, Content_Type="image/png", Host="evil.example"), {403}),
    (request(IMAGES, DATA, Content_Type="image/png", Origin="http://evil.example"), {403}),
    (request(IMAGES, DATA, Content_Type="image/png", Content_Length="99999999999"), {413, 0}),
    (request(IMAGES, DATA, Content_Type="multipart/form-data; boundary=a"), {400}),
    (request("POST /v1/images?style=../../../etc/passwd", DATA, Content_Type="image/png"), {422}),
    (request("POST /v1/images?style=http://127.0.0.1/x", DATA, Content_Type="image/png"), {422}),
    (request("GET /../../etc/passwd"), {404}),
    (request("GET /%2e%2e/%2e%2e/etc/passwd"), {404}),
    (request("GET /v1/jobs/..%2f..%2fx"), {404}),
    (request("GET /page.js/../../app.py"), {404}),
    (request("GET /healthz", Cookie="x" * 40000), {400, 431, 0}),
    (request("GET /" + "a" * 60000), {400, 431, 0}),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n" * 20, {400, 0}),
    (b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n", {400, 0}),
    (request("POST /v1/clips", b"ffconcat version 1.0\nfile /etc/passwd\n", Content_Type="video/mp4"), {422}),
    (request("DELETE /v1/jobs/" + "0" * 32), {404}),
    (request("TRACE /healthz"), {405}),
]


def test_many_slow_and_hostile_clients_are_answered_and_leave_nothing(tmp_path: Path) -> None:
    with Running(tmp_path / "files") as service:
        ask, port = service.ask, service.port
        while ask("/readyz")[0] != 200:
            time.sleep(0.05)
        with ThreadPoolExecutor(6) as pool:  # until all processes are there
            for _ in pool.map(lambda data: raw(port, data), [data for data, _ in HOSTILE[:3]] * 10):
                pass
        before, slowest = resident(service.process.pid), 0.0
        with ThreadPoolExecutor(40) as pool, ExitStack() as slow:
            for number in range(15):  # slow ones: half a header, half a body, and no reading
                connection = slow.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(
                    [
                        b"GET / HTTP/1.1\r\nHost:",
                        request(IMAGES, DATA, Content_Type="image/png")[:-50],
                        request("GET /example.jpg") * 50,
                    ][number % 3]
                )
            wanted = list(islice(cycle(HOSTILE), 100))
            hostile = [pool.submit(raw, port, data) for data, _ in wanted]
            pictures = [
                pool.submit(ask, "/v1/images?style=udnie", DATA, Content_Type="image/png") for _ in range(60)
            ]
            while not all(each.done() for each in [*hostile, *pictures]):
                started = time.monotonic()
                assert ask("/healthz")[0] in (200, 503)  # 503: too many connections
                slowest = max(slowest, time.monotonic() - started)
                time.sleep(0.05)
            for (data, right), each in zip(wanted, hostile, strict=True):
                assert each.result() in {*right, 503}, data[:200]
            counts = Counter(each.result()[0] for each in pictures)
        assert set(counts) <= {200, 429, 503}, counts
        assert counts[200] >= 18, counts  # the queue, at least
        print(f"health within {slowest:.3f} s; pictures {dict(counts)}")
        assert ask("/v1/images?style=udnie", DATA, Content_Type="image/png")[0] == 200
        after = resident(service.process.pid)
        print(f"resident {before} kB before, {after} kB after")
        assert after < before * 1.3
        assert [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()] == ["lock"]
        assert service.end() == 0


def test_jobs_survive_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    clips = [write_clip(tmp_path / f"{frames}.mp4", Clip(frames=frames)) for frames in (10, 400)]
    with Running(folder) as service:
        paths = []
        for clip in clips:
            status, body = service.ask("/v1/videos?style=udnie", clip.read_bytes(), Content_Type="video/mp4")
            assert status == 202, body
            paths.append("/v1/jobs/" + json.loads(body)["id"])
        until = time.monotonic() + 120
        while service.state(paths[1])["frames_done"] < 260:  # two segments are closed
            assert time.monotonic() < until
            time.sleep(0.01)
        service.end(signal.SIGKILL)
    with Running(folder) as service:
        assert service.state(paths[0])["state"] == "done"
        seen = []
        while (reported := service.state(paths[1]))["state"] != "done":
            assert reported["state"] in ("waiting", "running"), reported
            seen.append(reported["frames_done"])
            time.sleep(0.01)
        assert min(done for done in seen if done) >= 120
        assert reported["frames_done"] == 400
        status, video = service.ask(reported["result"])
        assert (status, video[4:8]) == (200, b"ftyp")
