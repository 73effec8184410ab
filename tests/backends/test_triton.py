"""Tests of the model repository for Triton and of the backend that uses a server, over the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import open_generator, open_style_encoder, triton
from mst_deploy.errors import BackendError, BundleError, InvalidArgument
from mst_deploy.export.triton import export_repository
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.zoo import load_shipped_styles, resolve_model
from tests.backends.kserve import Server, serving, stop
from tests.command_line import mst
from tests.pictures import picture


@pytest.fixture(scope="module")
def lite() -> Bundle:
    return open_bundle(resolve_model("lite"))


@pytest.fixture(scope="module")
def repository(lite: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "repository"
    made = export_repository(lite, folder, device="cpu", sizes=[(64, 48)])
    assert made.models == ("mst_lite", "mst_lite_style")
    return folder


@pytest.fixture(scope="module")
def running(repository: Path) -> Iterator[Server]:
    with serving(repository) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    running.busy, running.short = 0, False
    monkeypatch.setattr(triton, "PAUSE", 0.001)
    return running


@pytest.fixture(scope="module")
def films() -> Any:
    return np.stack([style.film for style in load_shipped_styles("lite")[:2]])


def test_frames_and_styles_are_those_of_the_local_model(server: Server, lite: Bundle, films: Any) -> None:
    frames = np.stack([picture(48, 40, 0), picture(48, 40, 9)])
    canvas = np.stack([still_canvas(40, 48, seed) for seed in range(2)])
    with (
        open_generator(lite, "onnxrt", "cpu") as local,
        open_generator(lite, f"triton:{server.url}/mst_lite") as remote,
    ):
        np.testing.assert_array_equal(remote(frames, films, canvas), local(frames, films, canvas))
        one = [(frames[:1], films[:1], canvas[:1]), (frames[1:], films[1:], canvas[1:])]
        batches = [one[n % 2] for n in range(12)]
        for got, wanted in zip(remote.stream(iter(batches)), local.stream(iter(batches)), strict=True):
            np.testing.assert_array_equal(got, wanted)
    style = picture(80, 70, 3)[None]
    remote_encoder = open_style_encoder(lite, f"triton:{server.url}")
    local_encoder = open_style_encoder(lite, "onnxrt", "cpu")
    for vectors, expected in zip(remote_encoder(style), local_encoder(style), strict=True):
        np.testing.assert_array_equal(vectors, expected)


def test_connections_are_kept_and_requests_overlap(server: Server, lite: Bundle, films: Any) -> None:
    before, requests = server.connections, server.requests
    with open_generator(lite, f"triton:{server.url}") as remote:
        batch = (picture(16, 16, 0)[None], films[:1])
        assert len(list(remote.stream(batch for _ in range(40)))) == 40
    assert server.requests - requests == 40
    assert 2 <= server.connections - before <= triton.IN_FLIGHT + 1


def test_mixed_sizes_of_many_clients_are_not_mixed_up(server: Server, lite: Bundle, films: Any) -> None:
    sizes = [(16, 16), (24, 16), (17, 31)]
    frames = [picture(width, height, 7 * n)[None] for n, (width, height) in enumerate(sizes)]
    with open_generator(lite, "onnxrt", "cpu") as local:
        expected = [local(frame, films[:1]) for frame in frames]
    wrong: list[int] = []
    with open_generator(lite, f"triton:{server.url}") as remote:

        def ask(number: int) -> None:
            for each in range(4):
                kind = (number + each) % 3
                if not np.array_equal(remote(frames[kind], films[:1]), expected[kind]):
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_busy_server_is_asked_again(server: Server, lite: Bundle, films: Any) -> None:
    frame = picture(16, 16, 0)[None]
    with open_generator(lite, f"triton:{server.url}") as remote:
        server.busy = triton.TRIES - 1
        remote(frame, films[:1])
        server.busy = triton.TRIES
        with pytest.raises(BackendError, match=r"too busy \(Exceeds maximum queue size\)"):
            remote(frame, films[:1])


def test_wrong_answers_and_requests_are_one_line(server: Server, lite: Bundle, films: Any) -> None:
    frame = picture(16, 16, 0)[None]
    with triton.open_generator(lite, "auto", server.url) as remote:
        server.short = True
        with pytest.raises(BackendError, match="do not fit its shape"):
            remote(frame, films[:1])
        server.short = False
        with pytest.raises(BackendError, match="batch-size must be <= 8"):
            remote(np.repeat(frame, 9, 0), np.repeat(films[:1], 9, 0))
        with pytest.raises(BackendError, match="data-type is wrong, expected 'FP32'"):
            remote.client.infer({"frames": frame, "film": films[:1].astype(np.uint8)}, ["stylized"])
        with pytest.raises(BackendError, match="unexpected shape for input 'film'"):
            remote.client.infer(
                {"frames": frame, "film": films[:1, :7], "canvas": frame[..., :1]}, ["stylized"]
            )


def test_servers_that_are_no_use(server: Server, lite: Bundle, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="does not answer"):
        open_generator(lite, "triton:http://127.0.0.1:9/mst_lite")
    with pytest.raises(BackendError, match="has no model nothing"):
        open_generator(lite, f"triton:{server.url}/nothing")
    with pytest.raises(BundleError, match=r"mst_lite on .* is the model"):
        open_generator(bundle, f"triton:{server.url}/mst_lite")
    for wrong in ("", "grpc://host:8001", "http://", "host:nothing"):
        with pytest.raises(InvalidArgument, match="triton"):
            open_generator(lite, f"triton:{wrong}")


def test_a_server_that_dies_is_named_and_another_one_goes_on(
    repository: Path, lite: Bundle, films: Any
) -> None:
    frame = picture(16, 16, 0)[None]
    with serving(repository) as server, open_generator(lite, f"triton:{server.url}") as remote:
        remote(frame, films[:1])
        stop(server)
        with pytest.raises(BackendError, match="does not answer"):
            remote(frame, films[:1])


def test_configurations_are_valid_and_agree_with_the_graphs(repository: Path, lite: Bundle) -> None:
    """Strictly parsed with the protobuf of Triton itself: unknown fields and enumerators are refused."""
    import onnx

    protobuf = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    for name in ("mst_lite", "mst_lite_style"):
        config = text_format.Parse((repository / name / "config.pbtxt").read_text(), protobuf.ModelConfig())
        assert config.name == name
        graph = onnx.load(repository / name / "1" / "model.onnx").graph
        for ours, theirs in ((config.input, graph.input), (config.output, graph.output)):
            assert [tensor.name for tensor in ours] == [tensor.name for tensor in theirs]
            for tensor, value in zip(ours, theirs, strict=True):
                dims = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim][1:]
                assert [int(dim) for dim in tensor.dims] == dims
        assert config.parameters["model_id"].string_value == lite.manifest.model_id
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch: 8", protobuf.ModelConfig())


def test_exporting_again_adds_a_version(lite: Bundle, tmp_path: Path) -> None:
    export_repository(lite, tmp_path, device="cuda")
    again = export_repository(lite, tmp_path, device="cuda")
    assert again.version == 2
    for model in again.models:
        assert {path.name for path in (tmp_path / model).iterdir()} == {"1", "2", "config.pbtxt"}
    assert json.loads((tmp_path / "mst.json").read_text())["mst_lite"]["version"] == 2
    assert (tmp_path / "mst_lite" / "2" / "model.onnx").read_bytes() == lite.generator.read_bytes()
    assert "KIND_GPU" in (tmp_path / "mst_lite" / "config.pbtxt").read_text()


def test_commands(server: Server, tmp_path: Path) -> None:
    done = mst("export", "lite", "--triton", tmp_path / "models", "--triton-device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "mst_lite" / "1" / "model.onnx").is_file()
    painting = Path(__file__).parents[2] / "examples" / "paintings" / "zodiac.jpg"
    common = ("image", painting, "-s", "zodiac", "--model", "lite", "--size", "64")
    done = mst(*common, "-o", tmp_path / "far.png", "--backend", f"triton:{server.url}/mst_lite")
    assert done.returncode == 0, done.stderr
    assert mst(*common, "-o", tmp_path / "near.png").returncode == 0
    assert (tmp_path / "far.png").read_bytes() == (tmp_path / "near.png").read_bytes()
    done = mst(*common, "-o", tmp_path / "gone.png", "--backend", "triton:http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
