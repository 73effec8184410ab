"""The backends there are: what each needs, runs on and computes in. Nothing of them is imported here.

A new backend is a module with ``open_generator`` and ``open_style_encoder`` (see ``base.Backend``) and one
line in ``BACKENDS``; the command line, ``mst doctor``, the benchmarks and the errors read it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mst_deploy.errors import InvalidArgument, MissingDependency


@dataclass(frozen=True)
class BackendSpec:
    """One backend."""

    name: str
    module: str
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What it imports, and the distributions of which any one brings it."""
    extra: str = ""
    """The extra of this package that brings them; empty if the package itself does."""
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ()
    """In what it computes if that is not the weights' to say, the default first. Of several one can be
    chosen: NAME:PRECISION."""
    threads: bool = False
    """Whether the number of its threads can be chosen."""
    address: str = ""
    """Placeholder of the address of a server that has to follow: NAME:ADDRESS. Such a backend has no devices
    of its own."""
    hidden: bool = False
    """For tests: works, but is not offered."""

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be given as a backend: the name, and the name with each precision but the default."""
        if self.address:
            return (f"{self.name}:{self.address}",)
        return (self.name, *(f"{self.name}:{precision}" for precision in self.precisions[1:]))

    def compute_precision(self, requested: str, device: str, weights: str) -> str:
        """Return the type that products are computed in.

        ``requested`` is a precision the user gave, "" for none; ``weights`` is that of the model. Processors
        multiply in float32 unless another precision is requested.
        """
        return requested or (*self.precisions, "fp32" if device == "cpu" else weights)[0]

    def missing(self, package: str, purpose: str = "") -> MissingDependency:
        """The error for one of its packages that is not installed."""
        return MissingDependency(package, self.extra, purpose or f"the backend {self.name}")


BACKENDS = {
    spec.name: spec
    for spec in (
        BackendSpec(
            "onnxrt",
            "mst_deploy.backends.onnxrt",
            {"onnxruntime": ("onnxruntime-gpu", "onnxruntime")},
            devices=("cpu", "cuda"),
            threads=True,
        ),
        BackendSpec(
            "openvino",
            "mst_deploy.backends.openvino",
            {"openvino": ("openvino",)},
            extra="openvino",
            precisions=("fp32", "bf16"),
            threads=True,
        ),
        BackendSpec(
            "trt",
            "mst_deploy.backends.trt.runner",
            {"tensorrt_rtx": ("tensorrt-rtx-cu13",), "cuda": ("cuda-bindings",)},
            extra="rtx",
            devices=("cuda",),
        ),
        BackendSpec(
            "pytorch",
            "mst_deploy.backends.pytorch",
            {"torch": ("torch",)},
            extra="export",
            devices=("cpu", "cuda"),
            precisions=("fp32",),
        ),
        BackendSpec("triton", "mst_deploy.backends.triton", devices=(), address="URL"),
        BackendSpec("fake", "mst_deploy.backends.fake", hidden=True),
    )
}
RENAMED = {"f32": "fp32"}
"""Precisions with another name now."""


def offered() -> list[str]:
    """All that people can choose as a backend."""
    return [choice for spec in BACKENDS.values() if not spec.hidden for choice in spec.choices]


def find_spec(name: str) -> BackendSpec:
    """The backend of a name. Raises InvalidArgument."""
    if name not in BACKENDS:
        raise InvalidArgument(
            field="backend", problem=f"unknown backend {name!r}", hint=f"choose one of {', '.join(offered())}"
        )
    return BACKENDS[name]


def split_precision(backend: str) -> tuple[str, dict[str, str]]:
    """Split ``openvino:bf16`` into ("openvino", {"precision": "bf16"}), and ``triton:URL`` into ("triton",
    {"address": "URL"}). Raises InvalidArgument."""
    name, colon, precision = backend.partition(":")
    spec = find_spec(name)
    if spec.address:
        if not precision:
            raise InvalidArgument(
                field="backend",
                problem=f"the backend {name} needs the address of a server",
                hint=f"write it like {name}:http://HOST:8000/mst_lite",
            )
        return name, {"address": precision}
    if not colon:
        return name, {}
    choices = spec.precisions if len(spec.precisions) > 1 else ()
    if precision not in choices:
        hint = f"choose one of {', '.join(choices)}" if choices else f"give {name} alone"
        if (new := RENAMED.get(precision)) in choices:
            hint = f"it is called {new} now: {name}:{new}"
        raise InvalidArgument(
            field="backend",
            problem=f"the backend {name} cannot compute in {precision!r}",
            hint=hint,
        )
    return name, {"precision": precision}


def precision_of(backend: str, device: str, weights: str) -> str:
    """In what a backend (NAME or NAME:PRECISION) multiplies on a device, for weights of a precision."""
    name, how = split_precision(backend)
    return find_spec(name).compute_precision(how.get("precision", ""), device, weights)
