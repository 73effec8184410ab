"""Built TensorRT engines on disk: one file each, named by everything it depends on.

An engine depends on one graph, one version of one flavor of TensorRT, and either one GPU (TensorRT) or all
of some compute capabilities (TensorRT for RTX). All of that is in its identity; the identity's hash is in the
file name, so a stale or foreign engine is never opened, and the identity itself is in the file's header
(``mst engines list``), with the GPUs it was verified on and when. After the header follows the plan, whose
SHA-256 is checked before TensorRT reads it: damaged bytes can crash the process.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mst_deploy.backends.trt.compat import FLAVORS, target_of
from mst_deploy.errors import BundleError
from mst_deploy.files import replacing, user_cache

SUFFIX = ".engine"
TIMING_SUFFIX = ".timing"
RUNTIME_CACHE_SUFFIX = ".runtime-cache"
"""Runtime cache: kernels that TensorRT for RTX has compiled for an engine on one GPU."""
MAGIC = b"MSTENGINE"
FORMAT = b"2"
"""Version of the file format. 1 had one flavor and no unverified engines."""
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
class Gpu:
    """Properties of a GPU that engines depend on."""

    name: str
    compute_capability: str
    cuda: str
    """Newest CUDA version that its driver supports, such as 13.0."""

    @property
    def target(self) -> str:
        """Compute capability in TensorRT for RTX's notation, such as SM86."""
        return target_of(self.compute_capability)

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability}, CUDA {self.cuda})"


@dataclass(frozen=True)
class Machine:
    """Properties of a machine that engines depend on."""

    versions: Mapping[str, str]
    """Version of each installed flavor of TensorRT."""
    gpu: Gpu | None = None


@dataclass(frozen=True)
class Identity:
    """All properties that distinguish one engine from another."""

    model: str
    """Name of the bundle, for users."""
    onnx_sha256: str
    precision: str
    shapes: ShapeRange
    flavor: str
    """Flavor of TensorRT: tensorrt or rtx."""
    version: str
    """Version of TensorRT."""
    gpu: Gpu | None = None
    """GPU that the engine is bound to; None for a portable engine."""
    targets: tuple[str, ...] = ()
    """Compute capabilities of the GPUs that run a portable engine; () for an engine bound to a GPU."""
    flags: tuple[str, ...] = ()
    """Build options other than the default ones, such as level-5 or version-compatible."""

    def __post_init__(self) -> None:
        if bool(self.targets) == (self.gpu is not None):
            raise ValueError("an engine is either bound to a GPU or built for compute capabilities")

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
        where = "-".join([self.flavor, *(name.lower() for name in self.targets)])
        return f"{self.model}-{size}-{self.precision}-{where}-{self.digest}{SUFFIX}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Identity:
        """Restore an identity from the values of dataclasses.asdict."""
        shapes = ShapeRange(**{name: tuple(shape) for name, shape in values["shapes"].items()})
        return cls(
            **{
                **values,
                "shapes": shapes,
                "gpu": None if values["gpu"] is None else Gpu(**values["gpu"]),
                "targets": tuple(values["targets"]),
                "flags": tuple(values["flags"]),
            }
        )


@dataclass(frozen=True)
class Verification:
    """A passed verification of an engine on one GPU."""

    gpu: Gpu
    when: str
    """UTC, ISO 8601."""
    figures: dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """One file of the cache with its parsed header."""

    path: Path
    identity: Identity
    plan_sha256: str
    built: dict[str, Any] = field(default_factory=dict)
    """Build time, seconds, and facts from the builder."""
    verifications: tuple[Verification, ...] = ()
    """One for each GPU and driver on which the engine was verified; () if it is not yet verified."""
    header_bytes: int = 0

    def plan(self) -> bytes:
        """Return the serialized engine. Raises BundleError for a damaged file."""
        with self.path.open("rb") as file:
            file.seek(self.header_bytes)
            plan = file.read()
        if hashlib.sha256(plan).hexdigest() != self.plan_sha256:
            raise BundleError(f"the engine {self.path} is damaged; remove it and build it again")
        return plan

    def verified_on(self, gpu: Gpu) -> Verification | None:
        """Return the verification on a GPU and its driver; None if there is none yet."""
        return next((verification for verification in self.verifications if verification.gpu == gpu), None)


def cache_folder() -> Path:
    """Return ``MST_ENGINES``, or mst/engines in the user's cache folder."""
    named = os.environ.get("MST_ENGINES")
    return Path(named) if named else user_cache("engines")


def lock_file(path: Path) -> Path:
    """Return the lock file for building or verifying an engine of this file name."""
    return path.with_name(f".{path.stem.rpartition('-')[2]}.lock")


def store(
    folder: Path,
    identity: Identity,
    plan: bytes,
    built: dict[str, Any],
    verifications: Sequence[Verification] = (),
) -> Engine:
    """Write an engine under the name of its identity, at once or not at all. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / identity.file_name
    values = {
        "identity": asdict(identity),
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "built": built,
        "verifications": [asdict(verification) for verification in verifications],
    }
    header = json.dumps(values).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(MAGIC + FORMAT + struct.pack("<I", len(header)) + header + plan)
    return read_header(path)


def with_verification(engine: Engine, verification: Verification) -> Engine:
    """Write a verification into the engine's file, replacing an older one of the same GPU.

    Raises BundleError when the file is damaged, OutputError when it cannot be written.
    """
    others = [known for known in engine.verifications if known.gpu != verification.gpu]
    return store(engine.path.parent, engine.identity, engine.plan(), engine.built, [*others, verification])


def read_header(path: Path) -> Engine:
    """What an engine file says about itself. Raises BundleError."""
    length_at = len(MAGIC) + len(FORMAT)
    try:
        with path.open("rb") as file:
            start = file.read(length_at + 4)
            if not start.startswith(MAGIC):
                raise ValueError("it does not begin as engines do")
            other = start[len(MAGIC) : length_at]
            if other != FORMAT and other.isdigit():
                raise BundleError(
                    f"the engine {path} was made by {'an older' if other < FORMAT else 'a newer'} version of "
                    f"this program (format {other.decode()}, this one reads {FORMAT.decode()}); build it "
                    "again with mst build, and remove this one with mst engines prune"
                )
            (length,) = struct.unpack("<I", start[length_at:])
            if other != FORMAT or length > LONGEST_HEADER:
                raise ValueError("its header cannot be read")
            values = json.loads(file.read(length))
        return Engine(
            path,
            Identity.from_dict(values["identity"]),
            values["plan_sha256"],
            values["built"],
            tuple(Verification(**{**found, "gpu": Gpu(**found["gpu"])}) for found in values["verifications"]),
            length_at + 4 + length,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BundleError(f"{path} is not an engine of this program, or damaged: {error}") from error


def listed(folder: Path) -> Iterator[Engine | BundleError]:
    """Yield every engine file of the folder in order of name; an error in place of an unreadable one."""
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            yield read_header(path)
        except BundleError as error:
            yield error


def find_engine(folder: Path, onnx_sha256: str, machine: Machine, shape: Shape) -> Engine | None:
    """Return the best engine for a graph, machine and frame shape; None if there is none.

    Static engines come first, then narrow ranges; of equal ones those bound to this GPU before portable ones.
    """
    found = [
        engine
        for engine in listed(folder)
        if isinstance(engine, Engine)
        and engine.identity.shapes.covers(shape)
        and why_not(engine, onnx_sha256, machine) is None
    ]
    return min(found, key=_preference, default=None)


def why_not(engine: Engine, onnx_sha256: str, machine: Machine) -> str | None:
    """Why an engine cannot be used here, as part of a sentence; None if it can."""
    own, here = engine.identity, machine.gpu
    flavor = FLAVORS.get(own.flavor)
    product = flavor.product if flavor else own.flavor
    version = machine.versions.get(own.flavor)
    if version is None:
        return f"it needs {product} {own.version}, which this machine has not"
    if version != own.version:
        return f"it was built with {product} {own.version}, this machine has {version}"
    if here is None:
        return "there is no NVIDIA GPU, or its driver does not answer"
    if own.gpu is None:
        if here.target not in own.targets:
            return f"it was built for {', '.join(own.targets)}, this machine's {here.name} is {here.target}"
    else:
        for name, wanted, found in (
            ("CUDA", own.gpu.cuda, here.cuda),
            ("GPU", own.gpu.name, here.name),
            ("compute capability", own.gpu.compute_capability, here.compute_capability),
        ):
            if wanted != found:
                return f"it was built with {name} {wanted}, this machine has {found}"
    return None if own.onnx_sha256 == onnx_sha256 else "the model's graph has changed since"


def runtime_cache_file(engine: Engine, gpu: Gpu) -> Path:
    """Return the file of the runtime cache of a portable engine on a GPU with its driver."""
    words = json.dumps([engine.plan_sha256, asdict(gpu)])
    key = hashlib.sha256(words.encode()).hexdigest()[:8]
    return engine.path.with_name(f"{engine.path.stem}-{key}{RUNTIME_CACHE_SUFFIX}")


def runtime_caches(path: Path) -> list[Path]:
    """Return the runtime caches of the engine at ``path``."""
    return sorted(path.parent.glob(f"{glob.escape(path.stem)}-*{RUNTIME_CACHE_SUFFIX}"))


def remove(path: Path) -> None:
    """Remove an engine and its runtime caches, if they exist."""
    for one in [path, *runtime_caches(path)]:
        one.unlink(missing_ok=True)


def read_checked(path: Path) -> bytes:
    """Read a timing or runtime cache and check its SHA-256; b"" if it is missing or damaged.

    A single flipped byte in a timing cache crashes the process inside TensorRT.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, content = data[:32], data[32:]
    return content if hashlib.sha256(content).digest() == digest else b""


def write_checked(path: Path, content: bytes) -> None:
    """Write a timing or runtime cache with its SHA-256, atomically. Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)


def _preference(engine: Engine) -> tuple[float, bool]:
    """Return a sort key: the best engine has the smallest."""
    return (_extent(engine.identity.shapes), bool(engine.identity.targets))


def _extent(shapes: ShapeRange) -> float:
    """Return the ratio of the largest frames to the smallest: 1 for a static engine."""
    extent = 1.0
    for low, high in zip(shapes.smallest, shapes.largest, strict=True):
        extent *= high / low
    return extent
