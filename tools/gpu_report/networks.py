"""Generators in PyTorch, in the types and layouts that are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst_deploy.model.checkpoints import load_bundle
from mst_deploy.model.io_wrappers import Uint8Generator
from mst_deploy.model.networks import FilmNorm, Generator
from tools.gpu_report.inputs import Inputs, films_of, input_names, make_inputs, opened

CUDA: Any = torch.cuda  # parts of it have no types

Norm = Callable[[FilmNorm, Tensor, Tensor, Tensor], Tensor]


@lru_cache(maxsize=4)
def names_of(model: str) -> tuple[str, ...]:
    """Return the input names of a shipped model's generator."""
    return tuple(input_names(opened(model)))


@lru_cache(maxsize=4)
def _weights(model: str) -> Generator:
    """Return the network as it is in the package: float32, on the CPU; callers copy it."""
    return load_bundle(opened(model)).generator


def generator(
    model: str, device: str, dtype: torch.dtype = torch.float32, *, channels_last: bool = False
) -> nn.Module:
    """Return a shipped model's generator with uint8 input and output: ``dtype`` weights, in evaluation
    mode."""
    graph: nn.Module = Uint8Generator(deepcopy(_weights(model))).eval().to(device, dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return graph.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def on_device(inputs: Inputs, device: str) -> dict[str, Tensor]:
    """Return the same inputs as tensors on the device."""
    return {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}


def caller(graph: Callable[..., Any], tensors: dict[str, Tensor]) -> Callable[[], Tensor]:
    """Return a call without arguments."""

    @torch.inference_mode()
    def call() -> Tensor:
        stylized: Tensor = graph(**tensors)
        return stylized

    return call


def replayed(graph: Callable[..., Any], tensors: dict[str, Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Return the call as a captured CUDA graph, and the tensor that it writes (N, H, W, 3) uint8."""
    call, side = caller(graph, tensors), CUDA.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        stylized = call()
    return captured.replay, stylized


@contextmanager
def switches(*, tf32: bool = True, benchmark: bool = True) -> Iterator[None]:
    """Set PyTorch's options for convolutions, and restore them afterwards.

    ``tf32`` rounds the factors of float32 products to 10 bits (PyTorch's default for convolutions);
    ``benchmark`` lets cuDNN try its kernels.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = tf32, benchmark
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


@contextmanager
def norms(norm: Norm) -> Iterator[None]:
    """Replace the formula of every FilmNorm inside the block."""
    before = FilmNorm.forward
    FilmNorm.forward = norm  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        FilmNorm.forward = before  # type: ignore[method-assign]


def two_moments(self: FilmNorm, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Compute mean and mean of squares in float32, var = E[x^2] - E[x]^2: one pass over the map instead of
    two."""
    wide = x.float()
    mean = wide.mean(dim=(2, 3), keepdim=True)
    variance = F.relu(wide.square().mean(dim=(2, 3), keepdim=True) - mean.square())
    scale = gamma[:, :, None, None] * torch.rsqrt(variance + self.eps)
    return (wide * scale + (beta[:, :, None, None] - mean * scale)).to(x.dtype)


def one_pass(self: FilmNorm, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Compute mean and variance by torch.var_mean (Welford), all in float32, one multiplication per value."""
    wide = x.float()
    variance, mean = torch.var_mean(wide, dim=(2, 3), keepdim=True, correction=0)
    scale = gamma[:, :, None, None] * torch.rsqrt(variance + self.eps)
    return torch.addcmul(beta[:, :, None, None] - mean * scale, wide, scale).to(x.dtype)


NORMS: dict[str, Norm] = {"two_moments": two_moments, "one_pass": one_pass}
"""Other formulas of the same norm."""


@lru_cache(maxsize=8)
def reference(model: str, size: tuple[int, int], device: str) -> Tensor:
    """Return the result for the usual inputs in float32 without TF32: (1, H, W, 3) uint8, cached."""
    return exact(model, device, make_inputs(names_of(model), size, films_of(opened(model))[0]))


def exact(model: str, device: str, inputs: Inputs) -> Tensor:
    """Return the result in float32 without TF32: (N, H, W, 3) uint8 on the device."""
    with switches(tf32=False, benchmark=False):
        return caller(generator(model, device), on_device(inputs, device))()


def difference(wanted: Tensor, found: Tensor) -> dict[str, Any]:
    """Return PSNR in dB (100 where equal), the largest difference in levels, and the range of ``found``."""
    apart = (wanted.to(found.device).short() - found.short()).abs()
    error = float(apart.double().square().mean())
    ratio = 100.0 if error == 0 else 10 * math.log10(255.0**2 / error)
    return {
        "psnr_db": round(ratio, 2),
        "largest_difference": int(apart.max()),
        "range": [int(found.min()), int(found.max())],
    }
