"""Cache of built TensorRT engines: one file each, named by its identity.

An engine runs only with the TensorRT version, GPU and graph it was built for. All of that is in its identity;
the identity's hash is in the file name, so stale or foreign engines are never opened, and the identity itself
is in the file's header for users (``mst engines list``). The header also holds the SHA-256 of the plan, which
follows it: TensorRT never gets damaged bytes, which can crash the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mst_deploy.errors import BundleError
from mst_deploy.files import replacing, user_cache

SUFFIX = ".engine"
TIMING_SUFFIX = ".timing"
MAGIC = b"MSTENGINE1"
LONGEST_HEADER = 1 << 20

Shape = tuple[int, int, int]
"""(batch, height, width)."""


@dataclass(frozen=True)
class ShapeRange:
    """Range of frames that an engine accepts; the three are equal in a static one, which is the fastest."""

    smallest: Shape
    typical: Shape
    largest: Shape

    @property
    def is_static(self) -> bool:
        """Whether all frames have one shape."""
        return self.smallest == self.largest

    def covers(self, shape: Shape) -> bool:
        """Return whether frames of this shape can be run."""
        sides = zip(self.smallest, shape, self.largest, strict=True)
        return all(low <= side <= high for low, side, high in sides)

    def __str__(self) -> str:
        if self.is_static:
            batch, height, width = self.largest
            return f"{width}x{height}" + (f" batch {batch}" if batch > 1 else "")
        ends = (f"{width}x{height}x{batch}" for batch, height, width in (self.smallest, self.largest))
        return "-".join(ends)


@dataclass(frozen=True)
class Machine:
    """Properties of a machine that an engine depends on, besides the graph."""

    tensorrt: str
    cuda: str
    gpu: str
    compute_capability: str


@dataclass(frozen=True)
class Identity:
    """All properties that distinguish one engine from another."""

    model: str
    """Name of the bundle, for users."""
    onnx_sha256: str
    precision: str
    shapes: ShapeRange
    machine: Machine
    flags: tuple[str, ...] = ()
    """Build options other than the default ones, such as level-5 or version-compatible."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the hash of all fields but the model's name."""
        values = asdict(self)
        values.pop("model")
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def file_name(self) -> str:
        """Name of the engine's file."""
        size = str(self.shapes).replace(" ", "-")
        return f"{self.model}-{size}-{self.precision}-{self.digest}{SUFFIX}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Identity:
        """Restore an identity from the values of dataclasses.asdict."""
        shapes = ShapeRange(**{name: tuple(shape) for name, shape in values["shapes"].items()})
        return cls(
            **{
                **values,
                "shapes": shapes,
                "machine": Machine(**values["machine"]),
                "flags": tuple(values["flags"]),
            }
        )


@dataclass(frozen=True)
class Engine:
    """One file of the cache with its parsed header."""

    path: Path
    identity: Identity
    plan_sha256: str
    built: dict[str, Any] = field(default_factory=dict)
    """Time and duration of the build, and the figures of the verification."""
    header_bytes: int = 0

    def plan(self) -> bytes:
        """Return the serialized engine. Raises BundleError for a damaged file."""
        with self.path.open("rb") as file:
            file.seek(self.header_bytes)
            plan = file.read()
        if hashlib.sha256(plan).hexdigest() != self.plan_sha256:
            raise BundleError(f"the engine {self.path} is damaged; remove it and build it again")
        return plan


def cache_folder() -> Path:
    """Return ``MST_ENGINES``, or mst/engines in the user's cache folder."""
    named = os.environ.get("MST_ENGINES")
    return Path(named) if named else user_cache("engines")


def store(folder: Path, identity: Identity, plan: bytes, built: dict[str, Any]) -> Engine:
    """Write an engine atomically under the name of its identity. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / identity.file_name
    header = json.dumps(
        {"identity": asdict(identity), "plan_sha256": hashlib.sha256(plan).hexdigest(), "built": built}
    ).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(MAGIC + struct.pack("<I", len(header)) + header + plan)
    return read_header(path)


def read_header(path: Path) -> Engine:
    """Parse the header of an engine file. Raises BundleError."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + 4)
            (length,) = struct.unpack("<I", start[len(MAGIC) :])
            if not start.startswith(MAGIC) or length > LONGEST_HEADER:
                raise ValueError("not an engine file")
            values = json.loads(file.read(length))
        identity = Identity.from_dict(values["identity"])
        return Engine(path, identity, values["plan_sha256"], values["built"], len(MAGIC) + 4 + length)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise BundleError(f"{path} is not an engine of this program, or damaged: {error}") from error


def listed(folder: Path) -> Iterator[Engine | BundleError]:
    """Yield every engine file of the folder in order of name; an error in place of an unreadable one."""
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            yield read_header(path)
        except BundleError as error:
            yield error


def find_engine(folder: Path, onnx_sha256: str, machine: Machine, shape: Shape) -> Engine | None:
    """Return the best engine for a graph, machine and frame shape: static ones first, then the narrowest
    range."""
    found = [
        engine
        for engine in listed(folder)
        if isinstance(engine, Engine)
        and engine.identity.onnx_sha256 == onnx_sha256
        and engine.identity.machine == machine
        and engine.identity.shapes.covers(shape)
    ]
    return min(found, key=lambda engine: _extent(engine.identity.shapes), default=None)


def why_not(engine: Engine, onnx_sha256: str, machine: Machine) -> str | None:
    """Return why an engine cannot be used here, as part of a sentence; None if it can."""
    own = engine.identity.machine
    for name, wanted, found in (
        ("TensorRT", own.tensorrt, machine.tensorrt),
        ("CUDA", own.cuda, machine.cuda),
        ("GPU", own.gpu, machine.gpu),
        ("compute capability", own.compute_capability, machine.compute_capability),
    ):
        if wanted != found:
            return f"it was built with {name} {wanted}, this machine has {found}"
    return None if engine.identity.onnx_sha256 == onnx_sha256 else "the model's graph has changed since"


def read_timings(path: Path) -> bytes:
    """Return a timing cache whose checksum matches; b"" if it is missing or damaged.

    A single flipped byte in a timing cache crashes the process inside TensorRT.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, timings = data[:32], data[32:]
    return timings if hashlib.sha256(timings).digest() == digest else b""


def write_timings(path: Path, timings: bytes) -> None:
    """Write a timing cache with its checksum, atomically. Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(timings).digest() + timings)


def _extent(shapes: ShapeRange) -> float:
    """Return the ratio of the largest frames to the smallest: 1 for a static engine."""
    extent = 1.0
    for low, high in zip(shapes.smallest, shapes.largest, strict=True):
        extent *= high / low
    return extent
