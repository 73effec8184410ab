"""One suite for all backends: a new one is added to the fixture below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import Generator, load_backend, onnxrt, open_generator, open_style_encoder
from mst_deploy.errors import BackendError, InvalidArgument
from mst_deploy.manifest import Bundle
from mst_deploy.shipped import load_shipped_styles
from tests.clips import picture

BACKENDS = [("onnxrt", "cpu"), ("pytorch", "cpu"), ("fake", "cpu"),
            pytest.param(("onnxrt", "cuda"), marks=pytest.mark.gpu),
            pytest.param(("pytorch", "cuda"), marks=pytest.mark.gpu)]  # fmt: skip


@pytest.fixture(scope="module", params=BACKENDS, ids=str)
def generator(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Generator]:
    name, device = request.param
    with open_generator(bundle, name, device) as opened:
        assert opened.device == device
        yield opened


@pytest.fixture(scope="module")
def films() -> Any:
    return np.stack([style.film for style in load_shipped_styles()[:2]])


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (64, 48), (33, 120)])
def test_shape_and_type_come_back(generator: Generator, films: Any, size: tuple[int, int]) -> None:
    frames = picture(size[1], size[0], 0)[None]
    stylized = generator(frames, films[:1])
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


def test_each_item_of_a_batch_has_its_own_style(generator: Generator, films: Any) -> None:
    frames = np.stack([picture(48, 40, 0), picture(48, 40, 9)])
    both = generator(frames, films)
    for index in range(2):
        alone = generator(frames[index : index + 1], films[index : index + 1])
        assert np.abs(both[index].astype(int) - alone[0].astype(int)).max() <= 1


def test_same_input_same_output(generator: Generator, films: Any) -> None:
    frames = picture(48, 40, 0)[None]
    np.testing.assert_array_equal(generator(frames, films[:1]), generator(frames, films[:1]))


def test_strided_frames_are_accepted(generator: Generator, films: Any) -> None:
    frames = np.rot90(picture(48, 40, 0))[None]
    expected = generator(np.ascontiguousarray(frames), films[:1])
    np.testing.assert_array_equal(generator(frames, films[:1]), expected)


def test_contract_violations_are_refused(generator: Generator, films: Any) -> None:
    good = picture(48, 40, 0)[None]
    for frames, rows in [
        (good.astype(np.float32), films[:1]),
        (good[0], films[:1]),
        (good[..., :2], films[:1]),
        (good, films),
        (good, films[:1, :-1]),
        (good, films[:1].astype(np.float64)),
        (good[:, :7], films[:1]),
    ]:
        with pytest.raises(InvalidArgument, match="must be"):
            generator(frames, rows)


def test_onnx_runtime_and_pytorch_agree_on_the_shipped_model(bundle: Bundle, films: Any) -> None:
    """The same tolerance as at export, here with real styles."""
    frames = picture(320, 256, 3)[None]
    with open_generator(bundle, "onnxrt", "cpu") as first, open_generator(bundle, "pytorch", "cpu") as second:
        difference = first(frames, films[:1]).astype(float) - second(frames, films[:1])
    assert np.abs(difference).max() <= 16
    assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 40


def test_encoders_agree_on_the_shipped_model(bundle: Bundle) -> None:
    style = picture(256, 300, 5)[None]
    rows = [open_style_encoder(bundle, name, "cpu")(style) for name in ("onnxrt", "pytorch")]
    for found, wanted in zip(*rows, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-2 * np.abs(wanted).max())


def test_extreme_pictures_give_pictures(bundle: Bundle, films: Any) -> None:
    """Constant maps have zero variance; eps keeps them finite."""
    with open_generator(bundle, "onnxrt", "cpu") as generator:
        for value in (0, 255):
            flat = generator(np.full((1, 64, 64, 3), value, np.uint8), films[:1])
            assert flat[0, 24:40, 24:40].std(axis=(0, 1)).max() < 40


def test_cuda_without_a_gpu_is_an_error_not_a_fallback(bundle: Bundle) -> None:
    if onnxrt.gpu_present():
        pytest.skip("this machine has a GPU")
    for backend in ("onnxrt", "pytorch"):
        with pytest.raises(BackendError, match="--device cpu"):
            open_generator(bundle, backend, "cuda")


def test_a_session_on_another_provider_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver but without CUDA libraries ONNX Runtime gives a CPU session and no error."""
    if onnxrt.gpu_present():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(onnxrt, "_prepare_cuda", lambda: None)
    with pytest.raises(BackendError, match="got CPUExecutionProvider"):
        open_generator(bundle, "onnxrt", "cuda")


def test_unknown_names_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match="onnxrt, trt, pytorch, fake"):
        load_backend("tpu")
    with pytest.raises(InvalidArgument, match="auto, cpu, cuda"):
        open_generator(bundle, "onnxrt", "gpu")
