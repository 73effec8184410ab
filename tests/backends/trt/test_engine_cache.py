"""Tests of engine files: their identity, and the handling of stale, foreign and damaged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Identity,
    Machine,
    ShapeRange,
    cache_folder,
    find_engine,
    listed,
    read_header,
    read_timings,
    store,
    why_not,
    write_timings,
)
from mst_deploy.errors import BundleError

HERE = Machine("10.16.1.11", "12.9", "NVIDIA H200", "9.0")
STATIC = ShapeRange(*[(1, 720, 1280)] * 3)
WIDE = ShapeRange((1, 240, 320), (1, 720, 1280), (2, 1080, 1920))
NARROW = ShapeRange((1, 700, 1200), (1, 720, 1280), (1, 740, 1300))
SAMPLE = Identity("default", "ab" * 32, "fp16", STATIC, HERE)


def test_name_says_what_it_is_for_and_changes_with_everything_that_matters() -> None:
    assert SAMPLE.file_name.startswith("default-1280x720-fp16-")
    others = [
        replace(SAMPLE, onnx_sha256="cd" * 32),
        replace(SAMPLE, precision="fp32"),
        replace(SAMPLE, shapes=WIDE),
        replace(SAMPLE, flags=("level-5",)),
        *(
            replace(SAMPLE, machine=replace(HERE, **{name: "other"}))
            for name in ("tensorrt", "cuda", "gpu", "compute_capability")
        ),
    ]
    assert len({identity.digest for identity in [SAMPLE, *others]}) == len(others) + 1
    assert replace(SAMPLE, model="renamed").digest == SAMPLE.digest


def test_engine_survives_the_disk(tmp_path: Path) -> None:
    plan = bytes(range(256)) * 100
    engine = store(tmp_path / "new", SAMPLE, plan, {"seconds": 12.5})
    assert engine.path.name == SAMPLE.file_name
    again = read_header(engine.path)
    assert again == engine
    assert again.identity == SAMPLE
    assert again.built == {"seconds": 12.5}
    assert again.plan() == plan
    assert [path.name for path in engine.path.parent.iterdir()] == [SAMPLE.file_name]


@pytest.mark.parametrize("position", [0, 5, 12, 60, -1])
def test_one_flipped_byte_is_noticed(tmp_path: Path, position: int) -> None:
    engine = store(tmp_path, SAMPLE, b"plan" * 50, {})
    data = bytearray(engine.path.read_bytes())
    data[position] ^= 0xFF
    engine.path.write_bytes(data)
    with pytest.raises(BundleError):
        read_header(engine.path).plan()


@pytest.mark.parametrize("length", [0, 5, 14, 40, 400])
def test_truncated_files_are_errors_in_the_list(tmp_path: Path, length: int) -> None:
    whole = store(tmp_path, replace(SAMPLE, shapes=WIDE), b"plan", {})
    broken = store(tmp_path, SAMPLE, b"plan" * 50, {})
    broken.path.write_bytes(broken.path.read_bytes()[:length])
    found = list(listed(tmp_path))
    assert [type(item) for item in found] == [BundleError, Engine] or length == 400
    assert whole in found


def test_static_before_narrow_before_wide_and_nothing_foreign(tmp_path: Path) -> None:
    engines = [store(tmp_path, replace(SAMPLE, shapes=shapes), b"p", {}) for shapes in (WIDE, NARROW, STATIC)]
    store(tmp_path, replace(SAMPLE, machine=replace(HERE, gpu="NVIDIA L4")), b"p", {})
    for expected in reversed(engines):
        assert find_engine(tmp_path, SAMPLE.onnx_sha256, HERE, (1, 720, 1280)) == expected
        expected.path.unlink()
    assert find_engine(tmp_path, SAMPLE.onnx_sha256, HERE, (1, 720, 1280)) is None
    assert find_engine(tmp_path / "nowhere", SAMPLE.onnx_sha256, HERE, (1, 720, 1280)) is None


def test_ranges_cover_what_lies_inside() -> None:
    assert WIDE.covers((2, 1080, 1920))
    assert not WIDE.covers((3, 720, 1280))
    assert not WIDE.covers((1, 239, 320))
    assert not STATIC.covers((1, 720, 1281))


def test_the_reason_an_engine_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    engine = store(tmp_path, SAMPLE, b"p", {})
    assert why_not(engine, SAMPLE.onnx_sha256, HERE) is None
    assert why_not(engine, "ef" * 32, HERE) == "the model's graph has changed since"
    newer = replace(HERE, tensorrt="11.4.0.106")
    assert (
        why_not(engine, SAMPLE.onnx_sha256, newer)
        == "it was built with TensorRT 10.16.1.11, this machine has 11.4.0.106"
    )


def test_timing_cache_with_a_flipped_byte_is_no_timing_cache(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "t.timing"
    assert read_timings(path) == b""
    write_timings(path, b"measured")
    assert read_timings(path) == b"measured"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_timings(path) == b""
    path.write_bytes(b"short")
    assert read_timings(path) == b""


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mst" / "engines"
    monkeypatch.setenv("MST_ENGINES", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
