"""The way to the GPU by cuda-bindings, with the real bindings on a driver library that needs no GPU.

``fake_libcuda.c`` checks what the driver checks: contexts, handles, addresses, lifetimes. pycuda, which has
to be compiled against a CUDA toolkit, is a stub here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mst_deploy.backends.onnxrt import gpu_present

pytestmark = [
    pytest.mark.skipif(find_spec("cuda") is None, reason="needs cuda-bindings (mst-deploy[rtx])"),
    pytest.mark.skipif(sys.platform != "linux", reason="the driver library is loaded by its Linux name"),
]
BEGIN = """
import ctypes, gc, sys
import numpy as np
from mst_deploy.backends.trt.cuda import Cuda
from mst_deploy.errors import BackendError
fake = ctypes.CDLL("libcuda.so.1")
def expect(part, work):
    try:
        work()
    except BackendError as error:
        assert part in str(error), error
    else:
        raise AssertionError(f"no error with {part!r}")
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver library in it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder: Path = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("fake_libcuda.c")
    made = ["-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source), "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *made, "-ldl"], check=True, capture_output=True)
    return folder


def run(code: str, library: Path, **environment: str) -> None:
    """Run code in a process that finds the library as its driver."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_frames_go_to_the_device_and_back_and_nothing_is_left(library: Path) -> None:
    run(
        """
cuda = Cuda()
assert (cuda.name, cuda.compute_capability, cuda.driver_version) == ("Fake RTX 4000", "8.9", "13.1")
with cuda.current():
    assert cuda.free_memory() == 5
    memory, stream, event = cuda.allocate(24), cuda.stream(), cuda.event()
    source, target = cuda.pinned((2, 3), np.float32), cuda.pinned((2, 3), np.float32)
    assert source.shape == (2, 3) and source.dtype == np.float32 and source.flags.c_contiguous
    source[:] = [[1, 2, 3], [4, 5, 6]]
    cuda.to_device(memory, source, stream)
    event.record(stream)
    stream.wait_for_event(event)
    event.synchronize()
    cuda.to_host(target, memory, stream)
    stream.synchronize()
    assert (target == source).all()
    assert fake.fake_live() == 3 and fake.fake_pinned() == 2
view = source[1:]
del source, target, memory, event, stream
gc.collect()
assert fake.fake_live() == 0
assert fake.fake_pinned() == 1  # a view of one is still in use
assert view[0, 0] == 4
del view
assert fake.fake_pinned() == 0
assert fake.fake_depth() == 0
cuda.close()
cuda.close()
assert fake.fake_retained() == 0
""",
        library,
    )


def test_a_captured_graph_copies_what_is_there_when_it_is_launched(library: Path) -> None:
    run(
        """
cuda = Cuda()
with cuda.current():
    memory, stream = cuda.allocate(4), cuda.stream()
    source, target = cuda.pinned((4,), np.uint8), cuda.pinned((4,), np.uint8)
    graph = []
    with cuda.capturing(stream, graph):
        cuda.to_device(memory, source, stream)
        cuda.to_host(target, memory, stream)
    source[:] = 7
    assert not target.any()
    cuda.launch(graph[0], stream)
    assert (target == 7).all()
    cuda.forget(graph[0])
    assert fake.fake_live() == 2  # memory and stream
    try:
        with cuda.capturing(stream, graph):
            raise ValueError
    except ValueError:
        pass
    assert len(graph) == 1 and fake.fake_live() == 2
    with cuda.capturing(stream, graph):  # the stream is not left capturing
        pass
""",
        library,
    )


def test_errors_are_words_and_the_context_is_given_back(library: Path) -> None:
    run(
        """
cuda = Cuda()
expect("CUDA_ERROR_INVALID_CONTEXT (201)", lambda: cuda.allocate(4))
def large():
    with cuda.current():
        cuda.allocate(1 << 30)
expect("too little free memory", large)
assert fake.fake_depth() == 0
def beyond():
    with cuda.current():
        cuda.to_device(cuda.allocate(3), cuda.pinned((4,), np.uint8), cuda.stream())
expect("the GPU failed: CUDA_ERROR_INVALID_VALUE (1)", beyond)
gc.collect()
assert fake.fake_live() == 0
with cuda.current():
    kept = cuda.allocate(4)
cuda.close()
del kept  # went with the context
gc.collect()
assert fake.fake_depth() == 0
expect("there is no GPU 1", lambda: Cuda(1))
""",
        library,
    )
    run('expect("there is no GPU 0; run with device cpu", Cuda)', library, FAKE_NO_GPU="1")


@pytest.mark.skipif(gpu_present(), reason="here a driver answers")
def test_without_a_driver_that_is_said(tmp_path: Path) -> None:
    begin = BEGIN.replace('fake = ctypes.CDLL("libcuda.so.1")\n', "")
    done = subprocess.run(
        [sys.executable, "-c", begin + 'expect("there is no NVIDIA driver here", Cuda)'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


PYCUDA = """
class Error(Exception): ...
calls = []
def init(): calls.append("init")
class Context:
    def push(self): calls.append("push")
    @staticmethod
    def pop(): calls.append("pop")
    def detach(self): calls.append("detach")
class Device:
    def __init__(self, index): ...
    @staticmethod
    def count(): return 1
    def name(self): return "by pycuda"
    def compute_capability(self): return (12, 0)
    def retain_primary_context(self): return Context()
def mem_alloc(count): raise Error("cuMemAlloc failed: out of memory")
"""


def test_pycuda_is_used_where_it_is(library: Path, tmp_path: Path) -> None:
    package = tmp_path / "pycuda"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "driver.py").write_text(PYCUDA)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run(
        """
import pycuda.driver
cuda = Cuda()
assert (cuda.name, cuda.compute_capability) == ("by pycuda", "12.0")
def large():
    with cuda.current():
        cuda.allocate(4)
expect("too little free memory (cuMemAlloc failed", large)
cuda.close()
assert pycuda.driver.calls == ["init", "push", "pop", "detach"]
expect("there is no GPU 1", lambda: Cuda(1))
""",
        library,
        PYTHONPATH=path,
    )
    (package / "driver.py").write_text("raise ImportError('libcuda.so.1: cannot open')")
    run('assert Cuda().name == "Fake RTX 4000"', library, PYTHONPATH=path)
