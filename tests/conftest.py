"""Fixtures: the shipped bundle, synthetic clips, an identity generator, restored random states.

Where no backend is named the tests run ONNX Runtime, on every machine the same, in this process and in those
it starts; ``tests/backends/test_auto.py`` is about the choice.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.backends.onnxrt import gpu_present
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model

ROOT = Path(__file__).parent.parent
os.environ.setdefault("MST_BACKEND", "onnxrt")
PROCESSES = 2
"""Of a run of all tests, if pytest-xdist is installed."""
WORKER = "PYTEST_XDIST_WORKER"
"""Environment variable that pytest-xdist sets in each process."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run all tests in processes of one thread each, file by file; chosen files run in this process.

    ``-n`` decides otherwise.
    """
    option = config.option
    if WORKER in os.environ:  # one of the processes
        return
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS or option.collectonly or option.usepdb:
        return
    if config.pluginmanager.hasplugin("xdist") and option.numprocesses is None:
        option.numprocesses, option.dist = PROCESSES, "loadfile"
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread_in_each_of_several_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        if WORKER in os.environ:
            make = onnxruntime.SessionOptions

            def options_of_one_thread() -> Any:
                options = make()
                options.intra_op_num_threads = 1
                return options

            patched.setattr(onnxruntime, "SessionOptions", options_of_one_thread)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if gpu_present() or os.environ.get("MST_REQUIRE_GPU") == "1":
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(autouse=True)
def _rng_restored() -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy_state)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """All threads have ended when the test returns."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def threads_end() -> Iterator[None]:
    """All threads end within seconds after the test, as those that a closed socket has to wake."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 30.0
    while not set(threading.enumerate()) <= before:
        assert time.monotonic() < deadline, "threads are left"
        time.sleep(0.005)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C does what it does in a terminal, for this process and those it starts.

    Programs in the background of a shell, or under nohup, are started with SIGINT ignored, and so are
    their children; they are right to keep it so.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The shipped model."""
    return open_bundle(resolve_model())


@pytest.fixture(scope="session")
def film(bundle: Bundle) -> Any:
    """A FiLM vector (P,) of the right size for the fake generator."""
    return bundle.manifest.layout.identity()


class IdentityGenerator(FakeGenerator):
    """Gives every frame back unchanged: what differs in the output came from the video path."""

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        super().__call__(frames, film_params)
        return frames


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG-19 of random weights."""
    torch, stored = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    from mst_deploy.perceptual.vgg import Vgg19

    path: Path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    torch.manual_seed(0)
    stored.save_file(Vgg19().state_dict(), path)
    return path


@pytest.fixture
def identity(bundle: Bundle) -> IdentityGenerator:
    return IdentityGenerator(bundle)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def small_clip(clip_folder: Path) -> Path:
    """64x48, 12 frames at 29.97 fps, with sound."""
    from tests.clips import Clip, write_clip  # here, so that tests without video do without PyAV

    return write_clip(clip_folder / "small.mp4", Clip(frames=12))
