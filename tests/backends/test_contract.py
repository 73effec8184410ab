"""Tests of the backend contract: one suite for all backends; add a new one to the fixture below."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import StylizeBackend, load_backend, onnxrt, open_generator, open_style_encoder
from mst_deploy.backends.parity import psnr
from mst_deploy.benchmarks.environment import instructions
from mst_deploy.errors import BackendError, InvalidArgument
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles
from tests.pictures import picture

BACKENDS = [
    ("onnxrt", "cpu"),
    ("pytorch", "cpu"),
    ("fake", "cpu"),
    ("openvino", "cpu"),
    ("openvino:bf16", "cpu"),
    pytest.param(("onnxrt", "cuda"), marks=pytest.mark.gpu),
    pytest.param(("pytorch", "cuda"), marks=pytest.mark.gpu),
]


@pytest.fixture(scope="module", params=BACKENDS, ids=str)
def generator(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[StylizeBackend]:
    name, device = request.param
    if name.startswith("openvino"):
        pytest.importorskip("openvino")
    if name == "openvino:bf16" and "avx512_bf16" not in instructions():
        pytest.skip("this processor has no bfloat16 arithmetic")
    with open_generator(bundle, name, device) as opened:
        assert opened.device == device
        yield opened


@pytest.fixture(scope="module")
def films() -> Any:
    return np.stack([style.film for style in load_shipped_styles()[:2]])


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (64, 48), (33, 120)])
def test_shape_and_type_come_back(generator: StylizeBackend, films: Any, size: tuple[int, int]) -> None:
    frames = picture(size[1], size[0], 0)[None]
    stylized = generator(frames, films[:1])
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


def test_each_item_of_a_batch_has_its_own_style(
    generator: StylizeBackend, films: Any, request: pytest.FixtureRequest
) -> None:
    coarse = "bf16" in request.node.name  # eight bits of a number: sums in another order differ by more
    frames = np.stack([picture(48, 40, 0), picture(48, 40, 9)])
    both = generator(frames, films)
    for index in range(2):
        alone = generator(frames[index : index + 1], films[index : index + 1])
        assert np.abs(both[index].astype(int) - alone[0].astype(int)).max() <= (3 if coarse else 1)


def test_same_input_same_output(generator: StylizeBackend, films: Any) -> None:
    frames = picture(48, 40, 0)[None]
    np.testing.assert_array_equal(generator(frames, films[:1]), generator(frames, films[:1]))


def test_strided_frames_are_accepted(generator: StylizeBackend, films: Any) -> None:
    frames = np.rot90(picture(48, 40, 0))[None]
    expected = generator(np.ascontiguousarray(frames), films[:1])
    np.testing.assert_array_equal(generator(frames, films[:1]), expected)


def test_contract_violations_are_refused(generator: StylizeBackend, films: Any) -> None:
    good = picture(48, 40, 0)[None]
    for frames, vectors in [
        (good.astype(np.float32), films[:1]),
        (good[0], films[:1]),
        (good[..., :2], films[:1]),
        (good, films),
        (good, films[:1, :-1]),
        (good, films[:1].astype(np.float64)),
        (good[:, :7], films[:1]),
    ]:
        with pytest.raises(InvalidArgument, match="must be"):
            generator(frames, vectors)


def test_onnx_runtime_and_pytorch_agree_on_the_shipped_model(bundle: Bundle, films: Any) -> None:
    """The same tolerance as at export, here with real styles."""
    frames = picture(320, 256, 3)[None]
    with open_generator(bundle, "onnxrt", "cpu") as first, open_generator(bundle, "pytorch", "cpu") as second:
        difference = first(frames, films[:1]).astype(float) - second(frames, films[:1])
    assert np.abs(difference).max() <= 16
    assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 40


@pytest.mark.parametrize(("precision", "least"), [("fp32", 60), ("bf16", 35)])
def test_openvino_paints_the_same_picture(bundle: Bundle, films: Any, precision: str, least: float) -> None:
    """bfloat16 keeps eight bits: 35 dB is what is promised of it, more is found."""
    pytest.importorskip("openvino")
    if precision == "bf16" and "avx512_bf16" not in instructions():
        pytest.skip("this processor has no bfloat16 arithmetic")
    frames = picture(320, 256, 3)[None]
    with open_generator(bundle, f"openvino:{precision}", "cpu") as generator:
        found = generator(frames, films[:1])
    with open_generator(bundle, "pytorch", "cpu") as reference:
        assert psnr(found, reference(frames, films[:1])) >= least


def test_openvino_gives_arrays_of_the_callers_own(bundle: Bundle, films: Any) -> None:
    """Its buffers are used again by the next call; a result must outlive it."""
    pytest.importorskip("openvino")
    with open_generator(bundle, "openvino", "cpu") as generator:
        batches = [picture(48, 40, phase)[None] for phase in (0, 9)]
        first, second = generator.stream((batch, films[:1]) for batch in batches)
        np.testing.assert_array_equal(first, generator(batches[0], films[:1]))
        assert (first != second).any()


@pytest.mark.parametrize(
    ("backend", "device", "words"),
    [
        (
            "openvino",
            "cuda",
            "on cpu only, not on cuda; use device cpu, or backend onnxrt or trt or pytorch",
        ),
        ("trt", "cpu", "on cuda only, not on cpu; use device cuda, or backend onnxrt or openvino"),
        ("fake", "cuda", "runs on cpu only, not on cuda"),
    ],
)
def test_a_device_that_a_backend_does_not_know_is_refused(
    backend: str, device: str, words: str, bundle: Bundle
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    with pytest.raises(InvalidArgument, match=words) as caught:
        open_generator(bundle, backend, device)
    assert caught.value.field == "device"


def test_bfloat16_without_the_instructions_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *asked: ["FP32"])
    with pytest.raises(BackendError, match="use backend openvino, which"):
        open_generator(bundle, "openvino:bf16", "cpu")


def test_encoders_agree_on_the_shipped_model(bundle: Bundle) -> None:
    style = picture(256, 300, 5)[None]
    names = ["onnxrt", "pytorch"] + (["openvino"] if find_spec("openvino") else [])
    rows = [open_style_encoder(bundle, name, "cpu")(style) for name in names]
    for found, wanted in [pair for row in rows[1:] for pair in zip(rows[0], row, strict=True)]:
        np.testing.assert_allclose(found, wanted, atol=2e-2 * np.abs(wanted).max())


def test_extreme_pictures_give_pictures(bundle: Bundle, films: Any) -> None:
    """Constant maps have zero variance; eps keeps them finite. Without strokes they stay even."""
    films = np.stack([bundle.manifest.layout.without_canvas(film) for film in films])
    with open_generator(bundle, "onnxrt", "cpu") as generator:
        for value in (0, 255):
            flat = generator(np.full((1, 64, 64, 3), value, np.uint8), films[:1])
            assert flat[0, 24:40, 24:40].std(axis=(0, 1)).max() < 40


def test_cuda_without_a_gpu_is_an_error_not_a_fallback(bundle: Bundle) -> None:
    if onnxrt.gpu_present():
        pytest.skip("this machine has a GPU")
    for backend in ("onnxrt", "pytorch"):
        with pytest.raises(BackendError, match=r"(run with|use) device cpu"):
            open_generator(bundle, backend, "cuda")


def test_a_session_on_another_provider_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver but without CUDA libraries ONNX Runtime gives a CPU session and no error."""
    if onnxrt.gpu_present():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(onnxrt, "_prepare_cuda", lambda: None)
    with pytest.raises(BackendError, match="got CPUExecutionProvider"):
        open_generator(bundle, "onnxrt", "cuda")


def test_unknown_names_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match=r"openvino:bf16, openvino:int8, trt, pytorch, triton:URL$"):
        load_backend("tpu")
    with pytest.raises(InvalidArgument, match="fp32, bf16"):
        open_generator(bundle, "openvino:int4", "cpu")
    with pytest.raises(InvalidArgument, match=r"compute in 'f32'; it is called fp32 now: openvino:fp32"):
        open_generator(bundle, "openvino:f32", "cpu")
    with pytest.raises(InvalidArgument, match="give onnxrt alone"):
        open_generator(bundle, "onnxrt:bf16", "cpu")
    with pytest.raises(InvalidArgument, match="auto, cpu, cuda"):
        open_generator(bundle, "onnxrt", "gpu")
