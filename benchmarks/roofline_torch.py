"""Matrix products and copies by PyTorch: types that NumPy cannot multiply, and GPUs."""

from __future__ import annotations

import torch

from mst_deploy.benchmarks.harness import Work

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ON_CPU = ("fp32", "bf16")
"""Types measured on a CPU: float16 products are emulated there and would be no ceiling."""


def matrix_products(side: int, device: str) -> dict[str, Work]:
    """Return a product of two square matrices for every type."""
    return {
        f"{name}:torch": _product(side, dtype, device)
        for name, dtype in TYPES.items()
        if device != "cpu" or name in ON_CPU
    }


def copy(count: int, device: str) -> Work:
    """Return a copy of ``count`` bytes within the device's memory."""
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def work() -> None:
        target.copy_(source)
        _wait(device)

    return work


def _product(side: int, dtype: torch.dtype, device: str) -> Work:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    @torch.inference_mode()
    def work() -> None:
        torch.matmul(a, b, out=out)
        _wait(device)

    return work


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
