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
    """In what it computes if that is not the weights' to say ("" where it is), the default first. Of several
    one can be chosen: NAME:PRECISION."""
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
        own = requested or (*self.precisions, "")[0]
        return own or ("fp32" if device == "cpu" else weights)

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
            precisions=("", "int8"),
            threads=True,
        ),
        BackendSpec(
            "openvino",
            "mst_deploy.backends.openvino",
            {"openvino": ("openvino",)},
            precisions=("fp32", "bf16", "int8"),
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
AUTO = "auto"
"""Not a backend: the choice among those of this machine, made by ``backends.auto``."""
PRECISIONS = (AUTO, "fp32", "bf16", "int8")
"""What can be asked for where the backend is not named with one: auto is the fastest that is close enough to
float32."""
RENAMED = {"f32": "fp32"}
"""Precisions with another name now."""


def offered() -> list[str]:
    """All that people can choose as a backend."""
    return [choice for spec in BACKENDS.values() if not spec.hidden for choice in spec.choices]


def find_spec(name: str) -> BackendSpec:
    """The backend of a name. Raises InvalidArgument."""
    if name == AUTO:
        raise InvalidArgument(
            field="backend",
            problem="a backend must be named here; auto would leave the choice to the machine",
            hint=f"choose one of {', '.join(offered())}",
        )
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
    choices = tuple(filter(None, spec.precisions)) if len(spec.precisions) > 1 else ()
    if precision not in choices:
        hint = f"choose one of {', '.join(choices)}" if choices else f"give {name} alone"
        if choices and "" in spec.precisions:
            hint = f"give {name} alone, or {' or '.join(f'{name}:{choice}' for choice in choices)}"
        if (new := RENAMED.get(precision)) in choices:
            hint = f"it is called {new} now: {name}:{new}"
        raise InvalidArgument(
            field="backend",
            problem=f"the backend {name} cannot compute in {precision!r}",
            hint=hint,
        )
    return name, {"precision": precision}


def check_precision(precision: str) -> None:
    """Raise InvalidArgument for a precision that does not exist."""
    if precision not in PRECISIONS:
        raise InvalidArgument(
            field="precision",
            problem=f"unknown precision {precision!r}",
            hint=f"choose one of {', '.join(PRECISIONS)}",
        )


def with_precision(backend: str, precision: str, device: str, weights: str) -> str:
    """Return a named backend (NAME or NAME:PRECISION) that computes in a precision; auto leaves it as it is.

    Raises InvalidArgument where it cannot, or was named with another.
    """
    check_precision(precision)
    name, colon, own = backend.partition(":")
    if precision == AUTO or own == precision:
        return backend
    if colon:
        raise InvalidArgument(
            field="precision",
            problem=f"{precision} contradicts the backend {backend}",
            hint=f"leave out one of the two, or name the backend {name} alone",
        )
    if find_spec(name).compute_precision("", device, weights) == precision:
        return name
    split_precision(f"{name}:{precision}")
    return f"{name}:{precision}"


def precision_of(backend: str, device: str, weights: str) -> str:
    """In what a backend (NAME or NAME:PRECISION) multiplies on a device, for weights of a precision."""
    name, how = split_precision(backend)
    return find_spec(name).compute_precision(how.get("precision", ""), device, weights)
