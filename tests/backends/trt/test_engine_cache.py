"""Tests of engine files: their identity, and the handling of stale, foreign and damaged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Gpu,
    Identity,
    Machine,
    ShapeRange,
    Verification,
    cache_folder,
    find_engine,
    listed,
    read_checked,
    read_header,
    store,
    why_not,
    with_verification,
    write_checked,
)
from mst_deploy.errors import BundleError

GPU = Gpu("NVIDIA L4", "8.9", "13.0")
HERE = Machine({"tensorrt": "10.16.1.11", "rtx": "1.7.1.116"}, GPU)
STATIC = ShapeRange(*[(1, 720, 1280)] * 3)
WIDE = ShapeRange((1, 240, 320), (1, 720, 1280), (2, 1080, 1920))
NARROW = ShapeRange((1, 700, 1200), (1, 720, 1280), (1, 740, 1300))
SAMPLE = Identity("default", "ab" * 32, "fp16", STATIC, "tensorrt", "10.16.1.11", GPU)
PORTABLE = replace(SAMPLE, flavor="rtx", version="1.7.1.116", gpu=None, targets=("SM86", "SM89"))


def test_name_says_what_it_is_for_and_changes_with_everything_that_matters() -> None:
    assert SAMPLE.file_name.startswith("default-1280x720-fp16-")
    others = [
        replace(SAMPLE, onnx_sha256="cd" * 32),
        replace(SAMPLE, precision="fp32"),
        replace(SAMPLE, shapes=WIDE),
        replace(SAMPLE, flags=("level-5",)),
        *(
            replace(SAMPLE, gpu=replace(GPU, **{name: "other"}))
            for name in ("cuda", "name", "compute_capability")
        ),
        replace(SAMPLE, version="10.16.1.12"),
        replace(SAMPLE, flavor="rtx"),
        PORTABLE,
        replace(PORTABLE, targets=("SM89",)),
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
    store(tmp_path, replace(SAMPLE, gpu=replace(GPU, name="NVIDIA L40S")), b"p", {})
    store(tmp_path, PORTABLE, b"p", {})
    store(tmp_path, replace(PORTABLE, targets=("SM86",), shapes=NARROW), b"p", {})
    for expected in reversed(engines):
        assert find_engine(tmp_path, SAMPLE.onnx_sha256, HERE, (1, 720, 1280)) == expected
        expected.path.unlink()
        if expected.identity.shapes == STATIC:  # then the portable one that this GPU runs
            found = find_engine(tmp_path, SAMPLE.onnx_sha256, HERE, (1, 720, 1280))
            assert found is not None
            assert found.identity == PORTABLE
            found.path.unlink()
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
    newer = replace(HERE, versions={"tensorrt": "11.4.0.106"})
    assert (
        why_not(engine, SAMPLE.onnx_sha256, newer)
        == "it was built with TensorRT 10.16.1.11, this machine has 11.4.0.106"
    )


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (HERE, None),
        (replace(HERE, gpu=Gpu("another", "8.6", "12.9")), None),
        (replace(HERE, gpu=None), "there is no NVIDIA GPU"),
        (replace(HERE, gpu=Gpu("H100", "9.0", "13.0")), "for SM86, SM89, this machine's H100 is SM90"),
        (replace(HERE, versions={"rtx": "1.8.0"}), "built with TensorRT for RTX 1.7.1.116, this machine has"),
        (replace(HERE, versions={}), "it needs TensorRT for RTX 1.7.1.116, which this machine has not"),
    ],
)
def test_a_portable_engine_is_for_all_gpus_of_its_compute_capabilities(
    tmp_path: Path, machine: Machine, reason: str | None
) -> None:
    found = why_not(store(tmp_path, PORTABLE, b"p", {}), SAMPLE.onnx_sha256, machine)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_name_says_for_what_a_portable_engine_is() -> None:
    assert PORTABLE.file_name.startswith("default-1280x720-fp16-rtx-sm86-sm89-")


def test_verifications_are_kept_by_gpu_and_driver_and_the_newest_wins(tmp_path: Path) -> None:
    engine = store(tmp_path, PORTABLE, b"plan" * 100, {"seconds": 1.5})
    assert engine.verifications == ()
    first, other = Gpu("NVIDIA L4", "8.9", "13.0"), Gpu("NVIDIA L4", "8.9", "13.1")
    engine = with_verification(engine, Verification(first, "2026-01-01T00:00:00Z", {"psnr_db": 41.0}))
    engine = with_verification(engine, Verification(other, "2026-01-02T00:00:00Z", {"psnr_db": 42.0}))
    engine = with_verification(engine, Verification(first, "2026-01-03T00:00:00Z", {"psnr_db": 43.0}))
    engine = read_header(engine.path)
    assert len(engine.verifications) == 2
    found = engine.verified_on(first)
    assert found is not None
    assert found.when == "2026-01-03T00:00:00Z"
    assert engine.verified_on(replace(first, name="another")) is None
    assert engine.plan() == b"plan" * 100
    assert engine.built == {"seconds": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == [PORTABLE.file_name]


def test_engines_of_other_versions_of_this_program_are_named(tmp_path: Path) -> None:
    for digit, age in (("1", "an older"), ("3", "a newer")):
        engine = store(tmp_path, SAMPLE, b"plan", {})
        data = bytearray(engine.path.read_bytes())
        data[len("MSTENGINE")] = ord(digit)
        engine.path.write_bytes(data)
        with pytest.raises(BundleError, match=f"made by {age} version of this program .format {digit}"):
            read_header(engine.path)


def test_an_engine_is_bound_or_portable() -> None:
    with pytest.raises(ValueError, match="either bound to a GPU or built for"):
        replace(SAMPLE, targets=("SM86",))
    with pytest.raises(ValueError, match="either bound to a GPU or built for"):
        replace(SAMPLE, gpu=None)


def test_timing_cache_with_a_flipped_byte_is_no_timing_cache(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "t.timing"
    assert read_checked(path) == b""
    write_checked(path, b"measured")
    assert read_checked(path) == b"measured"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_checked(path) == b""
    path.write_bytes(b"short")
    assert read_checked(path) == b""


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mst" / "engines"
    monkeypatch.setenv("MST_ENGINES", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
