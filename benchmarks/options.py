"""Options of the commands ``mst bench ...``. Nothing here loads NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mst_deploy.backends.options import BACKENDS_HELP, DEVICE_HELP, MODEL_HELP
from mst_deploy.errors import InvalidArgument
from mst_deploy.options import INPUT_OUTPUT, MODEL, Option
from mst_deploy.video.time_ranges import TimeRange, parse_time

if TYPE_CHECKING:
    from mst_deploy.jobs.options import RenderOptions

MEASUREMENT = "Measurement"
DEFAULT_BACKENDS = ("onnxrt",)

Models = Annotated[
    tuple[str, ...], Option(f"{MODEL_HELP} May be repeated.", MODEL, metavar="MODEL", name="model")
]
Backends = Annotated[
    tuple[str, ...],
    Option(f"{BACKENDS_HELP}; may be repeated. Default: onnxrt.", MODEL, name="backend"),
]
Device = Annotated[str, Option(DEVICE_HELP, MODEL)]
Roofline = Annotated[bool, Option("Also measure the roofline of this machine.", MEASUREMENT)]
Confidence = Annotated[
    float,
    Option("Confidence level of the intervals.", MEASUREMENT, minimum=0.5, maximum=0.999),
]
CiWidth = Annotated[
    float,
    Option(
        "Largest half width of the mean's confidence interval, as a fraction of the mean.",
        MEASUREMENT,
        minimum=0.001,
        maximum=0.5,
        name="ci_width",
    ),
]
MaxLoad = Annotated[
    float,
    Option("Fraction of the machine that other programs may use.", MEASUREMENT, minimum=0, maximum=1),
]


@dataclass(frozen=True)
class Plan:
    """Required precision of the figures, and the budget of calls and time."""

    confidence: Confidence = 0.95
    precision: CiWidth = 0.03
    """Required half width of the interval of a mean, as a share of the mean."""
    min_runs: int = 10
    """Smallest number of timed calls."""
    most: int = 320
    """Largest number of timed calls."""
    seconds: float = 60.0
    """Budget of the timed calls of one item in seconds, after which no further round begins; ``min_runs``
    takes precedence."""
    warmup: int = 30
    """Largest number of calls before the timed ones."""
    stable: float = 0.05
    """Largest relative difference of two medians of three calls that counts as warm."""
    max_load: MaxLoad = 0.10
    """Largest share of the machine that other programs may use."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or not 0 < self.precision < 1:
            raise InvalidArgument(
                f"confidence and precision lie between 0 and 1, got {self.confidence} and {self.precision}"
            )
        if not 2 <= self.min_runs <= self.most:
            raise InvalidArgument(
                field="min_runs", problem=f"at least 2 runs and no less than that at most, got {self}"
            )


@dataclass(frozen=True)
class LatencyPlan(Plan):
    """Plan of a measurement of single calls."""

    min_runs: Annotated[
        int,
        Option(
            "Calls of each case, whatever the time: p95 needs 20, p99 100.",
            MEASUREMENT,
            minimum=2,
            maximum=320,
        ),
    ] = 10
    seconds: Annotated[
        float, Option("Maximum time for the calls of each case, in seconds.", MEASUREMENT, minimum=0)
    ] = 60.0


@dataclass(frozen=True)
class VideoPlan(Plan):
    """Plan of a measurement of whole jobs, each run ``min_runs`` times."""

    precision: CiWidth = 0.05
    min_runs: Annotated[int, Option("Complete jobs of each case.", MEASUREMENT, minimum=3, name="runs")] = 3

    def exact(self) -> Plan:
        """Return the plan with as many runs as were requested, and no more."""
        return replace(self, most=self.min_runs)


@dataclass(frozen=True)
class Request:
    """Selection of models, backends and sizes to measure."""

    models: Models = ()
    """Names or folders; () is the default model."""
    backends: Backends = ()
    """() is onnxrt."""
    device: Device = "auto"
    sizes: Annotated[
        tuple[str, ...],
        Option("WIDTHxHEIGHT of the frames; may be repeated. Default: 512x512.", MEASUREMENT, name="size"),
    ] = ("512x512",)
    batches: Annotated[
        tuple[int, ...],
        Option("Frames a call; may be repeated. Default: 1.", MEASUREMENT, minimum=1, name="batch"),
    ] = (1,)
    encoder: Annotated[bool, Option("Also measure the style encoder.", MEASUREMENT)] = True
    cold: Annotated[
        bool, Option("Also measure the time to the first frame and memory, in new processes.", MEASUREMENT)
    ] = True
    ceilings: Roofline = True


@dataclass(frozen=True)
class VideoRequest:
    """A clip, and the selection of models, backends and sizes to measure."""

    clip: Annotated[Path, Option("Video that is stylized.", metavar="CLIP", positional=True)]
    models: Models = ()
    """Names or folders; () is the default model."""
    backends: Backends = ()
    """() is onnxrt."""
    device: Device = "auto"
    sizes: Annotated[
        tuple[str, ...],
        Option(
            "WIDTHxHEIGHT or short side; may be repeated. Default: the clip's own.", MEASUREMENT, name="size"
        ),
    ] = ()
    batch: Annotated[int, Option("Frames in one call of the model.", MODEL, minimum=1)] = 1
    codec: Annotated[str | None, Option("Codec of the result, as for mst video.", INPUT_OUTPUT)] = None
    start: Annotated[
        Fraction | None,
        Option("Begin at this moment.", INPUT_OUTPUT, metavar="TIME", parse=parse_time),
    ] = None
    end: Annotated[
        Fraction | None, Option("End before this moment.", INPUT_OUTPUT, metavar="TIME", parse=parse_time)
    ] = None
    ceilings: Roofline = True

    def job(self) -> RenderOptions:
        """Return the options of the measured jobs."""
        from mst_deploy.jobs.options import RenderOptions
        from mst_deploy.video.codecs import EncodeOptions
        from mst_deploy.video.options import ReadOptions

        return RenderOptions(
            read=ReadOptions(TimeRange(self.start, self.end)),
            encode=EncodeOptions(self.codec),
            batch=self.batch,
        )


@dataclass(frozen=True)
class ReportOptions:
    """Files that a measurement writes."""

    output: Annotated[Path | None, Option("Report to write (.json).", INPUT_OUTPUT)] = None
    markdown: Annotated[Path | None, Option("Tables to write (.md).", INPUT_OUTPUT)] = None
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False


def plot_file(text: str) -> Path:
    """Parse the name of a plot. Raises InvalidArgument for other suffixes than .png and .svg."""
    path = Path(text)
    if path.suffix not in (".png", ".svg"):
        raise InvalidArgument(
            field="plots", problem=f"plots are written as .png or .svg, not {path.suffix!r}"
        )
    return path


@dataclass(frozen=True)
class PlotOptions:
    """Plots that a measurement writes."""

    plots: Annotated[
        Path | None,
        Option("Plots to write: NAME.png or NAME.svg, as NAME-sizes etc.", INPUT_OUTPUT, parse=plot_file),
    ] = None


@dataclass(frozen=True)
class CompareOptions:
    """Two reports to compare."""

    first: Annotated[Path, Option("Report of mst bench latency or video.", metavar="A.json", positional=True)]
    second: Annotated[Path, Option("Another one.", metavar="B.json", positional=True)]
    relative_to: Annotated[
        str | None, Option("Compare times as multiples of this backend's.", metavar="BACKEND")
    ] = None
    fail_above: Annotated[
        float | None,
        Option("Exit with 1 if anything got significantly slower, by this fraction.", minimum=0),
    ] = None


@dataclass(frozen=True)
class WorkOptions:
    """Operations to count."""

    size: Annotated[str, Option("WIDTHxHEIGHT of the frames.")] = "512x512"
    model: Annotated[str | None, Option(MODEL_HELP, metavar="MODEL")] = None
    batch: Annotated[int, Option("Frames at once.", minimum=1)] = 1
