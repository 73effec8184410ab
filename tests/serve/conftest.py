"""A service with the fake model, without processes that decode: those have tests of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mst_deploy as mst
from mst_deploy.serve import children
from mst_deploy.serve.limits import Limits

LIMITS = Limits(
    picture_bytes=200_000,
    clip_bytes=300_000,
    picture_pixels=1_000_000,
    queue=2,
    jobs=2,
    cameras=1,
    quota=10**7,
)


@pytest.fixture(scope="session")
def stylizer() -> Iterator[mst.Stylizer]:
    with mst.Stylizer("lite", backend="fake") as opened:
        yield opened


class HereDecoders(children.PictureDecoders):
    """Decodes in this process."""

    def decode(self, data: bytes) -> Any:
        return children.TASKS["picture"](None, data, self.limits.picture_pixels, self.limits.picture_side)

    def start(self) -> None:
        pass


@pytest.fixture
def service(stylizer: mst.Stylizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("fastapi")
    from mst_deploy.serve import service as module

    monkeypatch.setattr(module, "PictureDecoders", HereDecoders)
    monkeypatch.setattr(module, "SWEEP", 0.01)
    before = set(threading.enumerate())
    with module.Service(stylizer, tmp_path / "files", LIMITS) as opened:
        yield opened
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    """A client of the service on this machine; errors of the server are answers, as over a network."""
    pytest.importorskip("httpx2")
    from fastapi.testclient import TestClient

    from mst_deploy.serve.app import create_app
    from mst_deploy.serve.guard import Access

    app = create_app(service, Access())
    with TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False) as opened:
        yield opened
