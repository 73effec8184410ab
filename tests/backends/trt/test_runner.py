"""Tests of the TensorRT backend on a fake GPU that works as late as allowed, and on one that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import open_generator
from mst_deploy.backends.onnxrt import open_session
from mst_deploy.backends.parity import graph_inputs
from mst_deploy.backends.trt import compat, runner
from mst_deploy.backends.trt.engine_cache import (
    Engine,
    Gpu,
    Identity,
    ShapeRange,
    Verification,
    listed,
    remove,
    runtime_cache_file,
    runtime_caches,
    store,
    write_checked,
)
from mst_deploy.backends.trt.runner import TrtGenerator, machine
from mst_deploy.errors import BackendError, BundleError, InvalidArgument, VerificationError, error_line
from mst_deploy.model.bundle import GENERATOR, Bundle
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, fake_tensorrt
from tests.pictures import picture

MAJORS = (1, 8, 10, 11)
WIDTH, HEIGHT = 64, 48


def painted(frames: Any, films: Any) -> Any:
    """A result in which frame and film both show."""
    return (255 - frames + films.sum(axis=1).astype(np.uint8)[:, None, None, None]).astype(np.uint8)


def opened(
    bundle: Bundle, folder: Path, major: int = 10, graphs: bool = True, **scenario: Any
) -> tuple[TrtGenerator, Scenario, FakeCuda]:
    """A generator whose cache holds a static engine of WIDTH x HEIGHT, and a range for batches."""
    cuda = scenario.pop("cuda", None) or FakeCuda()
    simulated = Scenario(cuda, compute=painted, **scenario)
    trt = fake_tensorrt(major, simulated)
    for shapes in (
        ShapeRange(*[(1, HEIGHT, WIDTH)] * 3),
        ShapeRange((1, 16, 16), (2, HEIGHT, WIDTH), (4, 96, 96)),
    ):
        store_engine(bundle, folder, trt, cuda, shapes)
    return TrtGenerator(bundle, [trt], cuda, folder, graphs=graphs), simulated, cuda


def store_engine(
    bundle: Bundle, folder: Path, trt: Any, cuda: FakeCuda, shapes: ShapeRange, verified: bool = True
) -> None:
    """An engine as ``mst build`` keeps it: portable for RTX, else bound to the GPU."""
    gpu = machine([], cuda).gpu
    assert gpu is not None
    portable = compat.portable(trt)
    identity = Identity(
        "m",
        bundle.manifest.files[GENERATOR],
        "fp16",
        shapes,
        compat.flavor_of(trt),
        trt.__version__,
        None if portable else gpu,
        compat.DEFAULT_TARGETS if portable else (),
    )
    verifications = [Verification(gpu, "2026-01-02T03:04:05Z", {"psnr_db": 50.0})] if verified else []
    store(folder, identity, b"plan of TensorRT " + trt.__version__.encode(), {}, verifications)


@pytest.fixture
def on_cpu(bundle: Bundle) -> Any:
    """What ONNX Runtime computes: frames, films -> stylized."""
    session, _ = open_session(bundle.generator, "cpu")
    names = [value.name for value in session.get_inputs()]
    return lambda frames, films: session.run(["stylized"], graph_inputs(names, frames, films))[0]


def frame(index: int) -> Any:
    return picture(WIDTH, HEIGHT, index)[None]


def film(bundle: Bundle, value: int) -> Any:
    vectors = np.zeros((1, bundle.manifest.film_size), np.float32)
    vectors[0, 0] = value
    return vectors


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("graphs", [False, True])
def test_stream_keeps_order_and_content(bundle: Bundle, tmp_path: Path, major: int, graphs: bool) -> None:
    """Copies and kernels run only when waited for: a missing wait would mix frames up."""
    generator, scenario, cuda = opened(bundle, tmp_path, major, graphs)
    with generator:
        batches = [frame(index) for index in range(9)]
        results = list(generator.stream((batch, film(bundle, 5)) for batch in batches))
        assert len(results) == 9
        for batch, result in zip(batches, results, strict=True):
            np.testing.assert_array_equal(result, painted(batch, film(bundle, 5)))
        assert cuda.launches == (7 if graphs else 0)  # one eager run for each of two slots
        assert scenario.enqueued == (4 if graphs else 9)  # and one captured run for each
    assert cuda.closed
    assert cuda.graphs == cuda.depth == 0


def test_results_are_the_callers_own(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with generator:
        first = generator(frame(0), film(bundle, 0))
        kept = first.copy()
        for index in range(1, 5):
            generator(frame(index), film(bundle, 0))
        np.testing.assert_array_equal(first, kept)


def test_changing_the_style_costs_one_copy_and_touches_no_frame_under_way(
    bundle: Bundle, tmp_path: Path
) -> None:
    generator, _, cuda = opened(bundle, tmp_path)
    with generator:
        generator(frame(0), film(bundle, 1))
        allocations = cuda.allocations
        with cuda.current():
            session = generator.session((1, HEIGHT, WIDTH))
            session.set_film(film(bundle, 40))
            session.submit(0, frame(1))
            session.set_film(film(bundle, 90))
            session.submit(1, frame(2))
            np.testing.assert_array_equal(session.take(0), painted(frame(1), film(bundle, 40)))
            np.testing.assert_array_equal(session.take(1), painted(frame(2), film(bundle, 90)))
        for index in range(20):
            vectors = film(bundle, index % 3)
            np.testing.assert_array_equal(generator(frame(index), vectors), painted(frame(index), vectors))
        assert cuda.allocations == allocations


def test_static_engine_is_preferred_and_batches_take_the_range(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with generator:
        assert generator.engine_for((1, HEIGHT, WIDTH)).identity.shapes.is_static
        both = np.concatenate([frame(0), frame(1)])
        vectors = np.concatenate([film(bundle, 1), film(bundle, 7)])
        np.testing.assert_array_equal(generator(both, vectors), painted(both, vectors))


def test_without_an_engine_the_error_has_the_command_that_builds_one(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with (
        generator,
        pytest.raises(BackendError, match=r"no TensorRT engine for 320x200; .*mst build \(size=320x200"),
    ):
        generator(picture(320, 200, 0)[None], film(bundle, 0))


def test_engine_of_another_tensorrt_is_never_loaded(bundle: Bundle, tmp_path: Path) -> None:
    opened(bundle, tmp_path, 10)
    cuda = FakeCuda()
    scenario = Scenario(cuda)
    generator = TrtGenerator(bundle, [fake_tensorrt(11, scenario)], cuda, tmp_path)
    with generator, pytest.raises(BackendError, match=r"built with TensorRT 10\.16.*this machine has 11\.4"):
        generator(frame(0), film(bundle, 0))
    assert not scenario.called("Runtime.deserialize_cuda_engine")


def test_damaged_engine_never_reaches_tensorrt(bundle: Bundle, tmp_path: Path) -> None:
    generator, scenario, _ = opened(bundle, tmp_path)
    for path in tmp_path.glob("*.engine"):
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    with generator, pytest.raises(BundleError, match="is damaged; remove it and build it again"):
        generator(frame(0), film(bundle, 0))
    assert not scenario.called("Runtime.deserialize_cuda_engine")


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (
            {"deserializes": False, "complaint": "version tag does not match"},
            "refuses the engine .*version tag",
        ),
        ({"gives_context": False}, r"it takes 3 MiB of GPU memory"),
        ({"failing_enqueue": 0}, "could not start the engine"),
        ({"cuda": FakeCuda(capacity=100)}, "too little free memory"),
    ],
)
@pytest.mark.parametrize("major", MAJORS)
def test_failures_are_reported_and_nothing_is_left_open(
    bundle: Bundle, tmp_path: Path, major: int, scenario: dict[str, Any], message: str
) -> None:
    if "cuda" in scenario:
        scenario = {"cuda": FakeCuda(capacity=100)}
    generator, _, cuda = opened(bundle, tmp_path, major, **scenario)
    with generator, pytest.raises(BackendError, match=message):
        generator(frame(0), film(bundle, 0))
    assert cuda.closed
    assert cuda.depth == 0


def test_failure_in_the_middle_of_a_stream(bundle: Bundle, tmp_path: Path) -> None:
    """The error comes after the results that were taken; the frame under way is given up with it."""
    generator, _, cuda = opened(bundle, tmp_path, graphs=False, failing_enqueue=3)
    with generator:
        results = generator.stream((frame(index), film(bundle, 0)) for index in range(6))
        for index in range(2):
            np.testing.assert_array_equal(next(results), painted(frame(index), film(bundle, 0)))
        with pytest.raises(BackendError, match="could not start"):
            next(results)
    assert cuda.closed


def test_cuda_error_in_the_middle_of_a_frame(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy back of the third frame fails: the error comes out as words, everything is closed."""
    generator, _, cuda = opened(bundle, tmp_path)
    copies = 0

    def failing(target: Any, source: Any, stream: Any) -> None:
        nonlocal copies
        copies += 1
        if copies == 3:
            raise BackendError("the GPU failed: an illegal memory access was encountered")
        FakeCuda.to_host(cuda, target, source, stream)

    monkeypatch.setattr(cuda, "to_host", failing)
    taken: list[Any] = []
    with generator, pytest.raises(BackendError, match="illegal memory access"):
        taken.extend(generator.stream((frame(index), film(bundle, 0)) for index in range(6)))
    assert cuda.closed
    assert cuda.depth == cuda.graphs == 0
    assert copies == 3


def test_a_capture_that_fails_leaves_no_graph(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, cuda = opened(bundle, tmp_path, failing_enqueue=2)
    with generator, pytest.raises(BackendError, match="could not start"):
        list(generator.stream([(frame(0), film(bundle, 0))] * 4))
    assert cuda.graphs == 0
    assert cuda.captured is None


def unverified(bundle: Bundle, folder: Path, compute: Any, **cuda: Any) -> tuple[TrtGenerator, Scenario]:
    """A generator whose cache holds one portable engine that no GPU has opened."""
    gpu = FakeCuda(**cuda)
    scenario = Scenario(gpu, compute=compute)
    trt = fake_tensorrt(1, scenario)
    store_engine(bundle, folder, trt, gpu, ShapeRange(*[(1, HEIGHT, WIDTH)] * 3), verified=False)
    return TrtGenerator(bundle, [trt], gpu, folder), scenario


def test_the_first_gpu_verifies_an_engine_before_a_frame_and_once(
    bundle: Bundle, tmp_path: Path, on_cpu: Any
) -> None:
    generator, scenario = unverified(bundle, tmp_path, on_cpu)
    with generator:
        results = generator.stream((frame(index), film(bundle, 0)) for index in range(3))
        assert scenario.enqueued == 0
        next(results)
        (engine,) = listed(tmp_path)
        assert isinstance(engine, Engine)
        (verification,) = engine.verifications
        assert verification.gpu == machine([], scenario.cuda).gpu
        assert verification.figures["psnr_db"] > 45
        list(results)
    again, simulated = unverified(bundle, tmp_path / "other", on_cpu)
    again.folder = tmp_path
    with again:
        again(frame(0), film(bundle, 0))
    assert simulated.enqueued == 1  # the frame itself


def test_an_engine_that_fails_on_its_first_gpu_shows_no_frame_and_is_removed(
    bundle: Bundle, tmp_path: Path
) -> None:
    generator, _ = unverified(bundle, tmp_path, painted)
    with generator, pytest.raises(VerificationError, match=r"PSNR \d+\.\d dB") as error:
        next(generator.stream([(frame(0), film(bundle, 0))]))
    assert ".engine was removed" in error_line(error.value)
    assert not list(listed(tmp_path))
    assert generator.cuda is None


def test_another_driver_verifies_again(bundle: Bundle, tmp_path: Path, on_cpu: Any) -> None:
    generator, scenario = unverified(bundle, tmp_path, on_cpu)
    with generator:
        generator(frame(0), film(bundle, 0))
    before = scenario.enqueued
    scenario.cuda = FakeCuda()
    scenario.cuda.driver_version = "13.1"
    trt = fake_tensorrt(1, scenario)
    with TrtGenerator(bundle, [trt], scenario.cuda, tmp_path) as generator:
        generator(frame(0), film(bundle, 0))
    assert scenario.enqueued > before + 1
    (engine,) = listed(tmp_path)
    assert isinstance(engine, Engine)
    assert [verification.gpu.cuda for verification in engine.verifications] == ["13.0", "13.1"]


def test_a_portable_engine_is_not_opened_by_a_gpu_it_is_not_for(bundle: Bundle, tmp_path: Path) -> None:
    generator, scenario = unverified(bundle, tmp_path, painted, compute_capability="9.0")
    with (
        generator,
        pytest.raises(BackendError, match=r"built for SM80, .*this machine's Fake GPU 9000 is SM90"),
    ):
        generator(frame(0), film(bundle, 0))
    assert not scenario.called("Runtime.deserialize_cuda_engine")


def test_what_rtx_says_of_a_plan_is_asked_before_it_is_opened(bundle: Bundle, tmp_path: Path) -> None:
    generator, scenario, _ = opened(bundle, tmp_path, 1, validity=("INVALID", 2 | 4))
    with generator, pytest.raises(BackendError, match=r"refuses .*OLD_CUDA_DRIVER, UNSUPPORTED_CC"):
        generator(frame(0), film(bundle, 0))
    assert not scenario.called("Runtime.deserialize_cuda_engine")


def test_rtx_runs_without_a_graph_where_its_stream_cannot_be_captured(bundle: Bundle, tmp_path: Path) -> None:
    generator, scenario, cuda = opened(bundle, tmp_path, 1, capturable=False)
    with generator:
        list(generator.stream((frame(index), film(bundle, 5)) for index in range(6)))
    assert cuda.launches == 0
    assert scenario.enqueued == 6


def test_rtx_waits_for_the_right_kernels(bundle: Bundle, tmp_path: Path) -> None:
    generator, scenario, _ = opened(bundle, tmp_path, 1)
    with generator:
        generator(frame(0), film(bundle, 0))
    strategy = scenario.values["IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy"]
    assert strategy.name == "EAGER"


def test_what_rtx_compiled_is_kept_for_the_next_time_and_damage_is_noticed(
    bundle: Bundle, tmp_path: Path
) -> None:
    def handed_over(kernels: bytes) -> list[Any]:
        generator, scenario, _ = opened(bundle, tmp_path, 1, kernels=kernels)
        with generator:
            generator(frame(0), film(bundle, 0))
        return scenario.called("IRuntimeCache.deserialize")

    assert handed_over(b"first") == []
    (path,) = tmp_path.glob("*.runtime-cache")
    assert handed_over(b"second") == [(b"first",)]
    assert handed_over(b"second") == [(b"second",)]
    written = path.stat().st_mtime_ns
    assert handed_over(b"second") == [(b"second",)]
    assert path.stat().st_mtime_ns == written
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert handed_over(b"third") == []
    assert handed_over(b"third") == [(b"third",)]
    assert [*tmp_path.glob("*.runtime-cache")] == [path]


def test_kernels_are_of_one_plan_gpu_and_driver(bundle: Bundle, tmp_path: Path) -> None:
    opened(bundle, tmp_path, 1)
    engine = next(iter(listed(tmp_path)))
    assert isinstance(engine, Engine)
    gpus = [Gpu("L4", "8.9", "13.0"), Gpu("L4", "8.9", "13.1"), Gpu("L40S", "8.9", "13.0")]
    names = {runtime_cache_file(engine, gpu) for gpu in gpus}
    names.add(runtime_cache_file(replace(engine, plan_sha256="cd" * 32), gpus[0]))
    assert len(names) == 4
    for name in names:
        write_checked(name, b"kernels")
    other = next(iter(reversed([*listed(tmp_path)])))
    assert isinstance(other, Engine)
    assert {*runtime_caches(engine.path)} == names
    assert runtime_caches(other.path) == []
    remove(engine.path)
    assert [*tmp_path.iterdir()] == [other.path]


def test_tensorrt_has_no_runtime_cache(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path, 11)
    with generator:
        generator(frame(0), film(bundle, 0))
    assert not [*tmp_path.glob("*.runtime-cache")]


def test_the_backend_opens_by_name(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MST_ENGINES", str(tmp_path))
    cuda = FakeCuda()
    monkeypatch.setattr(compat, "installed", lambda: [fake_tensorrt(1, Scenario(cuda))])
    monkeypatch.setattr(runner, "open_cuda", lambda: cuda)
    with open_generator(bundle, "trt") as generator, pytest.raises(BackendError, match="mst build"):
        generator(frame(0), film(bundle, 0))
    with pytest.raises(InvalidArgument, match="cpu"):
        open_generator(bundle, "trt", "cpu")


def test_contract_violations_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with generator, pytest.raises(InvalidArgument, match="must be"):
        generator(frame(0), film(bundle, 0)[:, :-1])
