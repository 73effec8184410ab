"""The GPU, its clocks, the installed packages, and the roofline."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import metadata
from typing import Any

import torch

from mst_deploy.benchmarks.roofline import measure_roofline
from mst_deploy.cli.doctor import examine
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record
from tools.gpu_report.timing import Budget, device_times

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PACKAGES = (
    "torch",
    "triton",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "numpy",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "tensorrt-rtx-cu13",
    "tensorrt_rtx",
    "cuda-bindings",
    "cuda-core",
    "pycuda",
    "nvidia-cudnn-cu13",
    "nvidia-cublas",
    "opencv-python-headless",
    "lightning",
)
SECTIONS = "CLOCK,POWER,TEMPERATURE,PERFORMANCE,ECC"


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Record facts first, then the roofline that other steps are compared with."""
    record.fact("versions_found", versions)
    record.fact("torch", torch_facts)
    if settings.cuda:
        record.fact("card", card)
        record.fact("nvidia_smi", nvidia_smi)
    record.fact("products", lambda: products(settings, record))
    record.fact("copies", lambda: copies(settings))
    record.fact("launches", lambda: launches(settings))
    if record.left() > 8 and settings.cuda:
        record.fact("ceilings", lambda: asdict(measure_roofline(settings.device)))
    if record.left() > 4:
        record.fact("doctor", examine)


def versions() -> dict[str, str]:
    """Return the versions of the installed packages."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def torch_facts() -> dict[str, Any]:
    """Return versions of the libraries inside PyTorch, and its settings."""
    cudnn: Any = torch.backends.cudnn
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "threads": torch.get_num_threads(),
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "gpus": torch.cuda.device_count(),
    }


def card() -> dict[str, Any]:
    """Return PyTorch's properties of the first GPU."""
    known = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    return {
        "name": known.name,
        "capability": f"{known.major}.{known.minor}",
        "multiprocessors": known.multi_processor_count,
        "memory_mib": total >> 20,
        "free_mib": free >> 20,
        "l2_mib": getattr(known, "L2_cache_size", 0) / 2**20,
        "architectures": torch.cuda.get_arch_list(),
    }


def nvidia_smi() -> list[str]:
    """Return the driver's report on clocks, power and throttling, line by line."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise FileNotFoundError("nvidia-smi is not installed")
    done = subprocess.run([program, "-q", "-d", SECTIONS], capture_output=True, text=True, timeout=20)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def products(settings: Settings, record: Record) -> dict[str, float]:
    """Return multiply-adds per second of square matrix products, by type: the best of the timed calls."""
    side = 8192 if settings.cuda else 256
    found = {}
    for name, dtype in TYPES.items():
        if name == "fp16" and not settings.cuda:
            continue  # emulated
        a, b = (torch.randn(side, side, device=settings.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        found[name] = side**3 / _best(partial(torch.matmul, a, b, out=out), settings)
    return found


def copies(settings: Settings) -> dict[str, float]:
    """Return bytes per second: within the device's memory (reads plus writes), to it and from it."""
    count = 2**30 if settings.cuda else 2**24
    source = torch.ones(count, dtype=torch.uint8, device=settings.device)
    target = torch.zeros_like(source)
    found = {"within": 2 * count / _best(lambda: target.copy_(source), settings)}
    if settings.cuda:
        host = torch.zeros(2**26, dtype=torch.uint8).pin_memory()
        part = target[: 2**26]
        found["to_device"] = 2**26 / _best(lambda: part.copy_(host, non_blocking=True), settings)
        found["from_device"] = 2**26 / _best(lambda: host.copy_(part, non_blocking=True), settings)
    return found


def launches(settings: Settings) -> dict[str, float]:
    """Return microseconds of a tiny kernel, launched by PyTorch one after the other."""
    tiny = torch.zeros(1, device=settings.device)
    return {"tiny_kernel_us": round(1e6 * _best(lambda: tiny.add_(1), settings), 2)}


def _best(work: Callable[[], object], settings: Settings) -> float:
    """Return the seconds of the fastest timed call."""
    times = device_times(work, Budget(settings.seconds(0.5)), settings.device)
    return float((times.get("device_ms") or times["call_ms"])["min"]) / 1000
