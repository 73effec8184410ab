"""Steps of the GPU report that need CUDA, on a simulated one."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record
from tools.gpu_report.timing import Budget, device_times


class Rehearsed(Settings):
    """Takes the ways of a GPU with tensors on the CPU."""

    @property
    def cuda(self) -> bool:
        return True

    def seconds(self, wanted: float) -> float:
        return min(wanted, 0.02)


class Event:
    """One that knows when it was recorded."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other.at - self.at)

    def synchronize(self) -> None:
        pass


class Stream:
    """Everything is done at once."""

    cuda_stream = 7

    def wait_event(self, event: Event) -> None:
        pass

    def wait_stream(self, stream: Stream) -> None:
        pass


class Replayed:
    """A graph that has nothing to replay: what was captured has already run."""

    def replay(self) -> None:
        pass


@pytest.fixture
def simulated_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of torch.cuda the steps call, done by the CPU."""
    import torch

    instead: dict[str, Any] = {
        "Event": Event,
        "Stream": Stream,
        "CUDAGraph": Replayed,
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
        "graph": lambda captured, stream=None: nullcontext(),
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "is_initialized": lambda: True,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 2**21,
        "memory_allocated": lambda: 2**20,
        "memory_reserved": lambda: 2**21,
        "mem_get_info": lambda: (2**30, 2**31),
    }
    for name, value in instead.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())


@pytest.mark.usefixtures("simulated_cuda")
def test_the_ways_of_a_gpu_are_rehearsed(tmp_path: Path) -> None:
    from tools.gpu_report.steps import memory, profile
    from tools.gpu_report.steps import torch as step

    rehearsed = Rehearsed("cpu", ((32, 24),), ("lite",), str(tmp_path))
    record = Record(tmp_path / "torch.json", limit=step.COMPILING - 1)  # too little to compile anything
    step.find_out(rehearsed, record, {})
    assert not [row for row in record.rows if "error" in row]
    rows = {row["what"]: row for row in record.rows if "skipped" not in row}
    assert {"change of style", step.GRAPH.name, step.PIPELINED.name} <= rows.keys()
    assert rows[step.GRAPH.name]["psnr_db"] > 40
    assert rows[step.PIPELINED.name]["frame_ms"] > 0
    assert rows[step.GRAPH.name]["peak_mib"] == 2
    assert memory.held(rehearsed)["allocated_mib"] == 1
    before = {"products": {"fp16": 1e12}, "copies": {"within": 1e12}}
    layers = profile.layers(rehearsed, "lite", (32, 24), before)
    assert all(row["ms"] > 0 for row in layers["layers"])
    found = profile.roofline(rehearsed, "lite", (32, 24), before)
    least = max(found["multiply_adds"], found["least_bytes"]) / 1e12
    share = 1000 * least / found["call_ms"]["p50"]
    assert found["share_of_roofline"] == pytest.approx(share, rel=0.02, abs=5e-5)  # four decimals are kept


@pytest.mark.usefixtures("simulated_cuda")
def test_device_times_are_those_between_events() -> None:
    found = device_times(lambda: time.sleep(0.002), Budget(0.05), "cuda")
    assert 2 <= found["device_ms"]["min"] <= found["device_ms"]["p50"] <= found["device_ms"]["p99"]
    assert found["wall_ms"] >= 2
    assert found["device_ms"]["calls"] % 8 == 0


class Engine:
    """One that copies nothing, of TensorRT's interface."""

    device_memory_size_v2 = 3 * 2**20

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def create_execution_context(self) -> Engine:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.runs += 1
        return stream == Stream.cuda_stream


@pytest.mark.usefixtures("simulated_cuda")
def test_engines_run_on_tensors_of_pytorch(tmp_path: Path) -> None:
    from tools.gpu_report.steps import tensorrt

    engine = Engine()
    trt = SimpleNamespace(__version__="10.16.0")
    found = tensorrt.run(
        trt, engine, Rehearsed("cpu", ((32, 24),), ("lite",), str(tmp_path)), "lite", (32, 24)
    )
    assert set(engine.addresses) == {"frames", "film", "canvas", "stylized"}
    assert found["device_memory_mib"] == 3
    assert found["range"] == [0, 0]
    assert found["psnr_db"] < 20
    assert found["replayed_is_the_same"]
    assert found["end_to_end"]["p50"] > 0


def test_kernels_are_distinguished_by_their_names() -> None:
    from tools.gpu_report.steps.profile import kind_of

    names = {
        "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc": "convolution",
        "void at::native::(anonymous namespace)::reflection_pad2d_out_kernel<c10::Half>": "padding",
        "void at::native::batch_norm_collect_statistics_kernel<float>": "norm",
        "void at::native::elementwise_kernel<128, 4, relu>": "elementwise",
        "void cudnn::ops::nchwToNhwcKernel<__half>": "copies and layout",
        "void at::native::upsample_nearest2d_nhwc_out_frame<c10::Half>": "upsampling",
    }
    assert {name: kind_of(name) for name in names} == names
