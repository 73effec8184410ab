"""The TensorRT backend on a GPU that is as late as it may be, and on one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.trt.engine_cache import Identity, ShapeRange, store
from mst_deploy.backends.trt.runner import TrtGenerator, machine
from mst_deploy.errors import BackendError, BundleError, InvalidArgument
from mst_deploy.model.bundle import GENERATOR, Bundle
from tests.engines.fake_cuda import FakeCuda
from tests.engines.fake_tensorrt import Scenario, fake_tensorrt
from tests.pictures import picture

MAJORS = (8, 10, 11)
WIDTH, HEIGHT = 64, 48


def painted(frames: Any, films: Any) -> Any:
    """A result in which frame and film both show."""
    return (255 - frames + films.sum(axis=1).astype(np.uint8)[:, None, None, None]).astype(np.uint8)


def opened(
    bundle: Bundle, folder: Path, major: int = 10, graphs: bool = True, **scenario: Any
) -> tuple[TrtGenerator, Scenario, FakeCuda]:
    """A generator whose cache holds a static engine of WIDTH x HEIGHT, and a range for batches."""
    cuda = scenario.pop("cuda", None) or FakeCuda()
    told = Scenario(cuda, compute=painted, **scenario)
    trt = fake_tensorrt(major, told)
    for shapes in (
        ShapeRange(*[(1, HEIGHT, WIDTH)] * 3),
        ShapeRange((1, 16, 16), (2, HEIGHT, WIDTH), (4, 96, 96)),
    ):
        identity = Identity("m", bundle.manifest.files[GENERATOR], "fp16", shapes, machine(trt, cuda))
        store(folder, identity, b"plan of TensorRT " + trt.__version__.encode(), {})
    return TrtGenerator(bundle, trt, cuda, folder, graphs=graphs), told, cuda


def frame(index: int) -> Any:
    return picture(WIDTH, HEIGHT, index)[None]


def film(bundle: Bundle, value: int) -> Any:
    rows = np.zeros((1, bundle.manifest.film_size), np.float32)
    rows[0, 0] = value
    return rows


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
            rows = film(bundle, index % 3)
            np.testing.assert_array_equal(generator(frame(index), rows), painted(frame(index), rows))
        assert cuda.allocations == allocations


def test_static_engine_is_preferred_and_batches_take_the_range(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with generator:
        assert generator.engine_for((1, HEIGHT, WIDTH)).identity.shapes.is_static
        both = np.concatenate([frame(0), frame(1)])
        rows = np.concatenate([film(bundle, 1), film(bundle, 7)])
        np.testing.assert_array_equal(generator(both, rows), painted(both, rows))


def test_no_engine_tells_the_line_that_builds_one(bundle: Bundle, tmp_path: Path) -> None:
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
    generator = TrtGenerator(bundle, fake_tensorrt(11, scenario), cuda, tmp_path)
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
def test_failures_are_told_and_nothing_is_left_open(
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


def test_contract_violations_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    generator, _, _ = opened(bundle, tmp_path)
    with generator, pytest.raises(InvalidArgument, match="must be"):
        generator(frame(0), film(bundle, 0)[:, :-1])
