"""Tests of a real TensorRT on a real GPU: build, verification, inference, parity with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mst_deploy.backends import open_generator
from mst_deploy.backends.parity import psnr, sample_picture
from mst_deploy.backends.trt import compat
from mst_deploy.backends.trt.runner import open_cuda
from mst_deploy.backends.trt.verify import LEAST_PSNR
from mst_deploy.engines.command import build, runs_portable
from mst_deploy.engines.options import Request
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.zoo import load_shipped_styles

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def supported_card() -> None:
    """Skip on a card for which none of the installed flavors of TensorRT builds engines, such as an H100 with
    TensorRT for RTX alone."""
    found = compat.installed()
    cuda = open_cuda()
    try:
        if not runs_portable(cuda) and all(compat.portable(trt) for trt in found):
            pytest.skip(f"{compat.product(found[0])} does not support SM{cuda.compute_capability}")
    finally:
        cuda.close()


@pytest.mark.parametrize("size", ["320x180", "853x479", "1280x720"])
def test_engine_is_built_and_gives_the_picture(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path))
    engine, fresh = build(Request(str(bundle.path), size))
    assert fresh
    (verification,) = engine.verifications
    assert verification.figures["psnr_db"] >= LEAST_PSNR
    assert engine.built["convolutions_in_fp16"] == 1
    width, height = map(int, size.split("x"))
    frames = [sample_picture(height, width, seed=seed)[None] for seed in range(5)]
    film = load_shipped_styles()[0].film[None]
    with open_generator(bundle, "trt") as trt, open_generator(bundle, "onnxrt", "cpu") as reference:
        for frame, stylized in zip(frames, trt.stream((frame, film) for frame in frames), strict=True):
            assert psnr(stylized, reference(frame, film)) >= LEAST_PSNR


def test_a_thousand_frames_take_no_more_memory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path))
    build(Request(str(bundle.path), "320x180"))
    frame = sample_picture(180, 320, seed=0)[None]
    films = [style.film[None] for style in load_shipped_styles()]
    with open_generator(bundle, "trt") as generator:
        free = []
        for count in range(1000):
            generator(frame, films[count % len(films)])
            if count in (20, 999):
                with generator.cuda.current():  # type: ignore[attr-defined]
                    free.append(generator.cuda.free_memory())  # type: ignore[attr-defined]
        assert np.diff(free)[0] >= 0
