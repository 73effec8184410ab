"""Options of the command ``mst build``. Nothing here loads TensorRT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from mst_deploy.backends.options import MODEL_HELP
from mst_deploy.backends.trt.flags import HARDWARE_COMPATIBLE, STRIPPED, VERSION_COMPATIBLE
from mst_deploy.errors import InvalidArgument
from mst_deploy.options import Option
from mst_deploy.reporter import SILENT, Reporter

FRAMES = "Frames"
BUILDER = "Builder"
DEFAULT_LEVEL = 3
LEVELS = range(6)


@dataclass(frozen=True)
class BuildOptions:
    """Options of the builder. Defaults do not appear in an engine's identity."""

    workspace_mib: Annotated[
        int | None,
        Option(
            "Most scratch memory of a layer, MiB. Default: TensorRT's.",
            BUILDER,
            metavar="MIB",
            minimum=1,
            name="workspace",
        ),
    ] = None
    level: Annotated[
        int | None,
        Option(
            "0 builds fast, 5 runs fast. Default: 3.",
            BUILDER,
            metavar="LEVEL",
            minimum=LEVELS[0],
            maximum=LEVELS[-1],
            name="optimization_level",
        ),
    ] = None
    version_compatible: Annotated[
        bool, Option("The engine runs with later TensorRT of the same major version too.", BUILDER)
    ] = False
    hardware_compatible: Annotated[
        bool, Option("The engine runs on any GPU from Ampere on, but slower.", BUILDER)
    ] = False
    strip_weights: Annotated[
        bool,
        Option(
            "Leave the weights out of the engine (TensorRT 10 and later); they are read from the model.",
            BUILDER,
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in LEVELS:
            raise InvalidArgument(f"the optimization level goes from 0 to {LEVELS[-1]}, got {self.level}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InvalidArgument(
                field="workspace", problem=f"the workspace must be at least 1 MiB, got {self.workspace_mib}"
            )

    def flags(self) -> tuple[str, ...]:
        """Return the names of all options with other values than the default, for the identity."""
        flags = [
            (self.workspace_mib is not None, f"workspace-{self.workspace_mib}"),
            (self.level not in (None, DEFAULT_LEVEL), f"level-{self.level}"),
            (self.version_compatible, VERSION_COMPATIBLE),
            (self.hardware_compatible, HARDWARE_COMPATIBLE),
            (self.strip_weights, STRIPPED),
        ]
        return tuple(name for used, name in flags if used)

    def given(self) -> tuple[str, ...]:
        """Return the names of the options that were given."""
        found = [
            (self.workspace_mib is not None, "workspace"),
            (self.level is not None, "optimization_level"),
            (self.version_compatible, "version_compatible"),
            (self.hardware_compatible, "hardware_compatible"),
            (self.strip_weights, "strip_weights"),
        ]
        return tuple(name for used, name in found if used)


@dataclass(frozen=True)
class Request:
    """Options of a build."""

    model: Annotated[str | None, Option(MODEL_HELP, metavar="MODEL", positional=True)] = None
    size: Annotated[str | None, Option("WIDTHxHEIGHT of all frames: the fastest engine.", FRAMES)] = None
    flavor: Annotated[
        str | None,
        Option("rtx (TensorRT for RTX) or tensorrt. Default: rtx where it is installed.", BUILDER),
    ] = None
    """None takes an installed flavor that supports this machine's GPU."""
    targets: Annotated[
        tuple[str, ...],
        Option(
            "Compute capabilities for rtx, such as 8.6,8.9. Default: 8.0, 8.6, 8.9, 12.0 and 12.1.",
            BUILDER,
            name="target",
        ),
    ] = ()
    """Compute capabilities for TensorRT for RTX, such as SM86 or 8.6; () stands for all but Turing."""
    smallest: Annotated[
        str | None,
        Option(
            "Smallest frames of an engine for many sizes, with [option:typical] and [option:largest].", FRAMES
        ),
    ] = None
    typical: Annotated[str | None, Option("Frames to be fastest at.", FRAMES)] = None
    largest: Annotated[str | None, Option("Largest frames.", FRAMES)] = None
    batch: Annotated[int, Option("Frames at once.", FRAMES, minimum=1)] = 1
    options: BuildOptions = field(default_factory=BuildOptions)
    timing_cache: Annotated[bool, Option("Reuse what earlier builds have measured.", BUILDER)] = True
    rewrite: Annotated[bool, Option("Replace operators by cheaper ones that compute the same.", BUILDER)] = (
        True
    )
    force: Annotated[bool, Option("Build even if the engine exists.", BUILDER, letter="f")] = False
    reporter: Reporter = SILENT


Model = Annotated[str | None, Option(MODEL_HELP, metavar="MODEL")]


@dataclass(frozen=True)
class ExplainOptions:
    """An engine to explain."""

    name: Annotated[str, Option("File name, from mst engines list.", positional=True)]
    model: Model = None


@dataclass(frozen=True)
class VerifyOptions:
    """Engines to verify."""

    names: Annotated[
        tuple[str, ...], Option("File names. Default: all.", metavar="NAME...", positional=True)
    ] = ()
    model: Model = None


@dataclass(frozen=True)
class PruneOptions:
    """Engines to remove."""

    everything: Annotated[bool, Option("Remove every engine and timing cache.")] = False
    dry_run: Annotated[bool, Option("Only list what would be removed.")] = False
