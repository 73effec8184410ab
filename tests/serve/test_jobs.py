"""Videos as jobs of the service: progress, results, queue, restart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import InputError

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from mst_deploy.serve import jobs as jobs_module
from mst_deploy.serve.children import Canceled, ClipFacts, Parent
from mst_deploy.serve.service import FACTS, Service


class FakeChild:
    """Renders a clip of two frames, of which the second waits for a word."""

    wait = False

    def __init__(self, memory: int) -> None:
        pass

    def run(self, task: str, clip: Path, output: Path, *_: Any, patience: float, parent: Parent) -> Any:
        assert (task, clip.read_bytes()) == ("render", b"clip")
        parent.on_progress(1, 2)
        while self.wait:
            if parent.canceled():
                raise Canceled
            time.sleep(0.005)
        if b"bad" in output.parent.name.encode():
            raise InputError("the clip is damaged")
        parent.on_progress(2, 2)
        output.write_bytes(b"0123456789")

    def close(self) -> None:
        pass


@pytest.fixture
def clip(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an uploaded clip."""
    monkeypatch.setattr(jobs_module, "Child", FakeChild)
    path = service.library.new_clip()
    path.write_bytes(b"clip")
    path.with_name(FACTS).write_text(json.dumps(vars(ClipFacts(64, 48, 25.0, 2, 0.08, False))))
    return path.parent.name


def until(client: Any, path: str, state: str) -> Any:
    end = time.monotonic() + 60
    while (reported := client.get(path).json())["state"] != state:
        assert time.monotonic() < end, reported
        time.sleep(0.005)
    return reported


def test_a_video_is_a_job_with_progress_and_a_result_in_parts(
    client: Any, service: Service, clip: str
) -> None:
    asked = client.post(f"/v1/videos?style=udnie&strength=0.5&clip={clip}")
    assert asked.status_code == 202
    path = asked.headers["Location"]
    reported = until(client, path, "done")
    assert (reported["frames_done"], reported["frames"], reported["progress"], reported["error"]) == (
        2,
        2,
        1.0,
        None,
    )
    assert reported["settings"]["strength"] == 0.5
    events = client.get(f"{path}/events").text
    assert json.loads(events.removeprefix("data: ").strip())["state"] == "done"
    result = client.get(reported["result"], headers={"Range": "bytes=2-4"})
    assert (result.status_code, result.content) == (206, b"234")
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == client.get(f"{path}/result").status_code == 404
    assert list((service.library.folder / "jobs").iterdir()) == []


def test_jobs_wait_in_line_are_refused_beyond_it_and_can_be_canceled(
    client: Any, service: Service, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "wait", True)
    ask = f"/v1/videos?style=udnie&clip={clip}"
    first = client.post(ask).headers["Location"]
    until(client, first, "running")
    others = [client.post(ask) for _ in range(3)]
    assert [each.status_code for each in others] == [202, 202, 429]
    early = client.get(f"{first}/result")
    assert (early.status_code, "Retry-After" in early.headers) == (409, True)
    assert client.delete(f"/v1/clips/{clip}").status_code == 409
    service.library.expire(service.jobs.in_use, time.time() + 10**6)
    assert client.delete(others[0].headers["Location"]).status_code == 204
    assert client.delete(first).status_code == 204
    until(client, others[1].headers["Location"], "running")
    monkeypatch.setattr(FakeChild, "wait", False)
    until(client, others[1].headers["Location"], "done")
    assert client.delete(f"/v1/clips/{clip}").status_code == 204


def test_jobs_go_on_after_a_restart(
    client: Any, service: Service, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "wait", True)
    path = client.post(f"/v1/videos?style=udnie&clip={clip}").headers["Location"]
    until(client, path, "running")
    service.jobs.close()
    assert client.get(path).json()["state"] == "running"  # as the file says after a crash
    monkeypatch.setattr(FakeChild, "wait", False)
    again = jobs_module.Jobs(service.library, service.limits, service._order_of_job, service._parent)
    again.start()
    identity = path.rpartition("/")[2]
    try:
        end = time.monotonic() + 60
        while again.get(identity).state != "done":
            assert time.monotonic() < end, again.get(identity)
            time.sleep(0.005)
        assert again.result(identity).read_bytes() == b"0123456789"
    finally:
        again.close()
