"""The routes, with the fake model: what they answer, and what they refuse."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli.options import QuietOptions
from mst_deploy.cli.serve import ServeOptions, serve
from mst_deploy.contact_sheet import SheetLayout, best_columns
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images.files import decode_image, encode_picture
from tests.conftest import ROOT
from tests.pictures import picture

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
from fastapi.testclient import TestClient

from mst_deploy.serve.app import FILES, PAGE, create_app
from mst_deploy.serve.guard import Access
from mst_deploy.serve.service import Service

TOKEN = "0123456789abcdef0123"
PNG = {"Content-Type": "image/png", "Accept": "image/png"}
URL = "http://127.0.0.1:8000"
PHOTO = picture(64, 48, 0)
DATA = encode_picture(".png", PHOTO)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


# Pictures


def test_a_picture_comes_back_as_the_library_stylizes_it(client: Any, service: Service) -> None:
    expected = service.stylizer.image(PHOTO, "zodiac")
    raw = client.post("/v1/images?style=zodiac", content=DATA, headers=PNG)
    form = client.post(
        "/v1/images",
        params={"style": "zodiac"},
        files={"a": ("x.txt", DATA)},
        headers={"Accept": "image/png"},
    )
    for answer in (raw, form):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert (decode_image(answer.content, "answer") == expected).all()
    assert not (expected == PHOTO).all()


def test_kind_size_and_transparency_of_the_result(client: Any) -> None:
    path = "/v1/images?style=udnie&style=zodiac%3D2&strength=0.5&size=32x40&preserve_color=true"
    for accept, kind in [("image/webp", "WEBP"), ("text/html,image/png", "PNG"), ("*/*", "JPEG")]:
        answer = client.post(path, content=DATA, headers={**PNG, "Accept": accept})
        found = Image.open(io.BytesIO(answer.content))
        assert (found.format, found.size) == (kind, (32, 40))
    alpha = np.zeros(PHOTO.shape[:2], np.uint8)
    alpha[:, :20] = 255
    clear = client.post(
        "/v1/images?style=udnie",
        content=encode_picture(".png", PHOTO, alpha),
        headers={**PNG, "Accept": "*/*"},
    )
    assert (np.asarray(Image.open(io.BytesIO(clear.content)))[..., 3] == alpha).all()


@pytest.mark.parametrize(
    ("path", "content", "kind", "status", "field"),
    [
        ("/v1/images?style=zodiacs", DATA, "image/png", 422, "style"),
        (f"/v1/images?style={ROOT}/examples/paintings/udnie.jpg", DATA, "image/png", 422, "style"),
        ("/v1/images?style=../../etc/passwd", DATA, "image/png", 422, "style"),
        ("/v1/images?style=udnie%3Dheavy", DATA, "image/png", 422, "style"),
        ("/v1/images?style=udnie%3Dnan", DATA, "image/png", 422, "style"),
        ("/v1/images?style=udnie&strength=2", DATA, "image/png", 422, "strength"),
        ("/v1/images?style=udnie&strokes=nan", DATA, "image/png", 422, "strength"),
        ("/v1/images?style=udnie&strength=much", DATA, "image/png", 422, "strength"),
        ("/v1/images?style=udnie&size=9000x9000", DATA, "image/png", 422, "size"),
        ("/v1/images?style=udnie&size=0", DATA, "image/png", 422, "size"),
        ("/v1/images", DATA, "image/png", 422, "style"),
        ("/v1/images?style=udnie", b"", "image/png", 422, None),
        ("/v1/images?style=udnie", b"no picture", "image/png", 422, None),
        ("/v1/images?style=udnie", DATA[:200], "image/png", 422, None),
        ("/v1/images?style=udnie", bomb(60000, 60000), "image/png", 422, None),
        ("/v1/images?style=udnie", bomb(17000, 20), "image/png", 422, None),
        ("/v1/images?style=udnie", DATA, "text/plain", 415, None),
        ("/v1/images?style=udnie", DATA, "", 415, None),
        ("/v1/images?style=udnie", DATA, "multipart/form-data; boundary=x", 400, None),
        ("/v1/images?style=udnie", bytes(250_000), "image/png", 413, None),
        ("/v1/sheets?style=nobody", DATA, "image/png", 422, "style"),
        ("/v1/sheets?size=5000", DATA, "image/png", 422, "size"),
        ("/v1/styles", b"no picture", "image/png", 422, None),
        ("/v1/clips", DATA, "image/png", 415, None),
        ("/v1/videos?style=udnie&clip=" + "0" * 32, b"", "", 404, None),
        ("/v1/videos?style=udnie&clip=../../x", b"", "", 404, None),
        ("/v1/nothing", DATA, "image/png", 404, None),
        ("/v1/jobs/" + "0" * 32, DATA, "image/png", 405, None),
    ],
)
def test_what_cannot_be_done_is_a_problem_in_words(
    client: Any, service: Service, path: str, content: bytes, kind: str, status: int, field: str | None
) -> None:
    answer = client.post(path, content=content, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    reported = answer.json()
    assert reported["status"] == status
    assert reported["detail"].startswith(reported["problem"])
    assert reported.get("field") == field
    for secret in (str(service.library.folder), "Traceback", "mst_deploy", ".py", "[option"):
        assert secret not in answer.text


def test_a_body_without_a_length_is_counted_while_it_comes(client: Any) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 5_000_000:
            sent += 50_000
            yield bytes(50_000)

    answer = client.post("/v1/images?style=udnie", content=endless(), headers=PNG)
    assert answer.status_code == 413


def test_a_full_queue_says_when_to_ask_again(client: Any, service: Service) -> None:
    service.admitted = 100
    answer = client.post("/v1/images?style=udnie", content=DATA, headers=PNG)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.get("/readyz").status_code == 503
    service.admitted = 0
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.post("/v1/images?style=udnie", content=DATA, headers=PNG).status_code == 200


def test_the_service_reports_when_the_model_is_warm(client: Any) -> None:
    until = time.monotonic() + 20
    while client.get("/readyz").status_code != 200 and time.monotonic() < until:
        time.sleep(0.01)
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/images?style=udnie", content=DATA, headers=PNG)
    assert 'mst_work_total{kind="pictures"} 1' in client.get("/metrics").text


# Styles and sheets


def test_a_sheet_shows_the_picture_in_every_style_one_after_the_other(client: Any, service: Service) -> None:
    names = [each["id"] for each in client.get("/v1/styles").json()["styles"]]
    answer = client.post("/v1/sheets?size=64", content=DATA, headers={"Content-Type": "image/png"})
    reported = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["style"] for line in reported] == names
    assert len(names) == 12
    expected = service.stylizer.image(PHOTO, names[0]).astype(int)
    found = decode_image(base64.b64decode(reported[0]["image"]), "cell")
    assert abs(found - expected).mean() < 4  # JPEG
    whole = client.post("/v1/sheets?size=64", content=DATA, headers=PNG)
    layout = SheetLayout(13, best_columns(13, 64, 48), 64, 48)
    assert Image.open(io.BytesIO(whole.content)).size == layout.size


def test_a_picture_becomes_a_style_that_can_be_used_and_listed(client: Any, service: Service) -> None:
    made = client.post("/v1/styles?name=My%0Astyle", content=DATA, headers=PNG)
    assert made.status_code == 201
    identity = made.json()["id"]
    assert made.json() == {"id": hashlib.sha256(DATA).hexdigest()[:32], "name": "Mystyle"}
    assert client.get("/v1/styles").json()["styles"][-1] == {
        "id": identity,
        "name": "Mystyle",
        "shipped": False,
    }
    assert client.post(f"/v1/images?style={identity}", content=DATA, headers=PNG).status_code == 200
    assert service.library.expire(lambda path: True, time.time() + 10**6) == 0
    assert service.library.expire(lambda path: False, time.time() + 10**6) == 1
    assert client.post(f"/v1/images?style={identity}", content=DATA, headers=PNG).status_code == 422


def test_files_have_a_limit_in_all(client: Any, service: Service) -> None:
    (service.library.folder / "clips" / "large").write_bytes(bytes(service.limits.quota))
    answer = client.post("/v1/clips", content=b"x", headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 507
    assert client.post("/v1/styles", content=DATA, headers=PNG).status_code == 507


# Access


@pytest.mark.parametrize(
    ("access", "headers", "status"),
    [
        (Access(), {}, 200),
        (Access(), {"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        (Access(), {"Host": "[::1]:8000"}, 200),
        (Access(), {"Cookie": "x" * 20000}, 431),
        (Access(), {"Host": "evil.example"}, 403),
        (Access(), {"Host": "127.0.0.1.evil.example"}, 403),
        (Access(), {"Origin": "http://evil.example"}, 403),
        (Access(), {"Origin": "null"}, 403),
        (Access(), {"Origin": "http://127.0.0.1:9"}, 403),
        (Access(), {"Sec-Fetch-Site": "cross-site"}, 403),
        (Access("0.0.0.0", TOKEN), {"Host": "192.168.1.5:8000"}, 401),
        (Access("0.0.0.0", TOKEN), {"Host": "rebound.example", "Authorization": f"Bearer {TOKEN}"}, 403),
        (Access("0.0.0.0", TOKEN), {"Authorization": f"Bearer {TOKEN}x"}, 401),
        (Access("0.0.0.0", TOKEN), {"Host": "10.0.0.1", "Authorization": f"Bearer {TOKEN}"}, 200),
        (
            Access("127.0.0.1", TOKEN, ("mst.example",)),
            {"Host": "mst.example", "Origin": "https://mst.example", "Authorization": f"bearer {TOKEN}"},
            200,
        ),
    ],
)
def test_who_may_ask(service: Service, access: Access, headers: dict[str, str], status: int) -> None:
    client = TestClient(create_app(service, access), URL)
    answer = client.post("/v1/images?style=udnie", content=DATA, headers={**PNG, **headers})
    assert answer.status_code == status, answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    host = {"Host": headers.get("Host", "127.0.0.1")}
    assert client.get("/", headers=host).status_code == (403 if not access.knows(host["Host"]) else 200)


def test_other_machines_are_served_only_with_a_token(tmp_path: Path) -> None:
    def start(token: Path | None) -> None:
        serve(ServeOptions(host="0.0.0.0", token=token), GeneratorOptions(), QuietOptions())

    with pytest.raises(InvalidArgument, match="everybody who reaches"):
        start(None)
    (tmp_path / "token").write_text("short\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="16 or more"):
        start(tmp_path / "token")
    with pytest.raises(InputError, match="cannot read"):
        start(tmp_path / "none")


def test_the_page_names_nothing_from_elsewhere_and_finds_all_its_parts(client: Any) -> None:
    page = client.get("/").text
    for path, (name, kind) in FILES.items():
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:/" not in text
        assert "style=" not in text if name.endswith("html") else True
    assert {path.name for path in PAGE.iterdir()} == {name for name, _ in FILES.values()}
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    for wanted in {part.partition('"')[0] for part in script.split('$("')[1:]}:
        assert f'id="{wanted}"' in page
    assert client.get("/example.jpg").content.startswith(b"\xff\xd8")


def test_openapi_describes_every_route(client: Any) -> None:
    described = client.get("/v1/openapi.json").json()["paths"]
    assert set(described) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/styles",
        "/v1/images",
        "/v1/sheets",
        "/v1/clips",
        "/v1/clips/{identity}",
        "/v1/clips/{identity}/frame",
        "/v1/clips/{identity}/previews",
        "/v1/videos",
        "/v1/jobs/{identity}",
        "/v1/jobs/{identity}/events",
        "/v1/jobs/{identity}/result",
    }
    names = {each["name"] for each in described["/v1/images"]["post"]["parameters"]}
    assert names == {"style", "strength", "strokes", "stroke_size", "seed", "preserve_color", "size"}
    document = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    for path, methods in described.items():
        for method in methods:
            assert f"`{method.upper()} {path.replace('{identity}', 'ID')}`" in document
