"""What runtimes raise without memory becomes one error of this program."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends import TimedBackend, enough_memory
from mst_deploy.errors import BackendError, InvalidArgument

SEEN = [
    MemoryError("std::bad_alloc"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1536000000 bytes."),
    RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 9"),
    RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223: std::bad_alloc"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[cpu]reshape: cannot allocate memory"),
]


class Failing(TimedBackend):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def prepare(self, *inputs: Any) -> Any:
        return inputs

    def compute(self, prepared: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", SEEN, ids=repr)
def test_the_words_of_every_runtime_are_known(error: Exception) -> None:
    with pytest.raises(BackendError, match="not enough memory to stylize 2 pictures of 5x4") as found:
        Failing(error)(np.zeros((2, 4, 5, 3), np.uint8), np.zeros((2, 1), np.float32))
    assert found.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("no such node"), InvalidArgument("cannot allocate a name")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, enough_memory((1, 4, 5, 3)):
        raise error
    assert found.value is error


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize(("backend", "power"), [("onnxrt", 29), ("pytorch", 29), ("openvino", 26)])
def test_a_real_lack_of_memory(backend: str, power: int) -> None:
    pytest.importorskip({"onnxrt": "onnxruntime", "pytorch": "torch", "openvino": "openvino"}[backend])
    code = f"""
import resource
import numpy as np
import mst_deploy as mst
with mst.Stylizer("lite", backend="{backend}") as stylizer:
    stylizer.image(np.zeros((64, 64, 3), np.uint8), "udnie")
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**{power}, used + 2**{power}))
    try:
        stylizer.image(np.zeros((3000, 4000, 3), np.uint8), "udnie")
    except mst.BackendError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert "not enough memory to stylize a picture of 4000x3000" in done.stdout, done.stderr
    assert done.stderr == ""  # runtimes write lines of their own
