"""Options of the commands ``mst eval ...``. Nothing here loads PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mst_deploy.backends.options import BACKENDS_HELP, DEVICE_HELP, MODEL_HELP
from mst_deploy.errors import InvalidArgument
from mst_deploy.options import INPUT_OUTPUT, MODEL, STYLE, Option

METRICS = "Metrics"

Output = Annotated[Path, Option("Folder for the report.", INPUT_OUTPUT)]
Model = Annotated[str | None, Option(MODEL_HELP, metavar="MODEL", positional=True)]
Backend = Annotated[str, Option(f"What runs the model: {BACKENDS_HELP}.", MODEL)]
Device = Annotated[str, Option(DEVICE_HELP, MODEL)]
Pairs = Annotated[
    Path | None,
    Option("CSV file with the columns content,style,stylized. Default: in order of names.", INPUT_OUTPUT),
]


def gap(text: str) -> int:
    """Parse a distance in frames. Raises InvalidArgument."""
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            field="gaps", problem=f"cannot use {text!r} as a gap: give whole numbers, such as 1,5"
        ) from None


@dataclass(frozen=True)
class Weights:
    """Files of the networks; None selects the default of each."""

    vgg: Annotated[
        Path | None, Option("VGG-19: .pth or .safetensors. Default: downloaded once.", METRICS)
    ] = None
    vgg_scales: Annotated[
        Path | None,
        Option(
            "Scales of VGG-19's channels (.safetensors) that normalize its activations. Default: not "
            "normalized.",
            METRICS,
        ),
    ] = None
    inception: Annotated[
        Path | None,
        Option(
            "Inception of the FID (pt_inception-2015-12-05): also measure fid768 and inception, the style "
            "distance in its features.",
            METRICS,
        ),
    ] = None
    alexnet: Annotated[
        Path | None,
        Option("torchvision's AlexNet: also measure LPIPS. Default: see [option:lpips].", METRICS),
    ] = None
    art_inception: Annotated[
        Path | None, Option("art_inception.pth of ArtFID's authors: also measure ArtFID.", METRICS)
    ] = None


@dataclass(frozen=True)
class MeasureOptions:
    """Options of a measurement."""

    metrics: Annotated[
        tuple[str, ...],
        Option(
            "Names with commas between. Default: all that the given weights allow.",
            METRICS,
            separator=",",
            parse=str.strip,
        ),
    ] = ()
    weights: Weights = field(default_factory=Weights)
    lpips: Annotated[
        bool, Option("Measure LPIPS too, with an AlexNet that is downloaded once (233 MB).", METRICS)
    ] = False
    artfid_mode: Annotated[
        str,
        Option("art_fid, or art_fid_inf (extrapolated to infinitely many; needs 5,000 pairs).", METRICS),
    ] = "art_fid"
    batch: Annotated[int, Option("Results measured at once, for GPUs.", MODEL, minimum=1)] = 1
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class ImagesOptions:
    """Existing results of any system, to be measured."""

    content: Annotated[Path, Option("Folder of the photographs.", INPUT_OUTPUT)]
    style: Annotated[Path, Option("Folder of the artworks.", INPUT_OUTPUT)]
    stylized: Annotated[Path, Option("Folder of the results.", INPUT_OUTPUT)]
    pairs: Pairs = None
    output: Output
    name: Annotated[
        str, Option("Name of the system in the report. Default: that of the results' folder.", INPUT_OUTPUT)
    ] = ""


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """The pictures to stylize: pairs of a photograph and an artwork."""

    content: Annotated[
        tuple[Path, ...],
        Option("Photographs: folder, tar file or text file of paths (.txt). May be repeated.", INPUT_OUTPUT),
    ]
    style: Annotated[
        tuple[Path, ...],
        Option("Artworks: folder, tar file or text file of paths (.txt). May be repeated.", INPUT_OUTPUT),
    ]
    held_out: Annotated[
        Path | None,
        Option(
            "Use only pictures whose SHA-256 hash is in this text file, such as training/held_out.txt.",
            INPUT_OUTPUT,
        ),
    ] = None
    pairs_per_style: Annotated[int, Option("Photographs for every artwork.", INPUT_OUTPUT, minimum=1)] = 2
    max_pairs: Annotated[
        int | None,
        Option("Use no more than this many pairs, evenly spread over all.", INPUT_OUTPUT, minimum=1),
    ] = None
    size: Annotated[
        int, Option("Side of the square pictures (center crops), pixels.", INPUT_OUTPUT, minimum=76)
    ] = 512
    output: Output


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model to evaluate."""

    model: Model = None
    strength: Annotated[
        float, Option("0 keeps the picture, 1 gives the full style.", STYLE, minimum=0.0, maximum=1.0)
    ] = 1.0
    optimize_style: Annotated[
        Path | None,
        Option(
            "Optimize each style for each photograph (see mst style optimize); folder to keep the optimized "
            "styles in.",
            STYLE,
        ),
    ] = None
    optimize_once: Annotated[
        bool,
        Option("With [option:optimize_style]: each style once, for the shipped photographs.", STYLE),
    ] = False
    backend: Backend = "onnxrt"

    def __post_init__(self) -> None:
        if self.optimize_once and self.optimize_style is None:
            raise InvalidArgument(
                field="optimize_once",
                problem="[option:optimize_once] needs [option:optimize_style] and a folder for the styles",
            )


@dataclass(frozen=True, kw_only=True)
class OptimumOptions(SetOptions):
    """Optimization of every picture on the measured distances."""

    size: Annotated[
        int, Option("Side of the square pictures (center crops), pixels.", INPUT_OUTPUT, minimum=76)
    ] = 256
    style_weight: Annotated[float, Option("Weight of style against content.", STYLE, minimum=0.0)] = 5.0
    steps: Annotated[int, Option("L-BFGS steps for every picture.", STYLE, minimum=1)] = 200


@dataclass(frozen=True)
class VideoOptions:
    """A stylized clip whose flicker is measured."""

    source: Annotated[Path, Option("The clip that was stylized.", metavar="SOURCE", positional=True)]
    result: Annotated[
        Path, Option("Its result, with the same number of frames.", metavar="RESULT", positional=True)
    ]
    gaps: Annotated[
        tuple[int, ...],
        Option(
            "Distances, in frames, of the frames that are compared, with commas between.",
            INPUT_OUTPUT,
            separator=",",
            parse=gap,
        ),
    ] = (1, 5)
    flow: Annotated[
        str, Option("Optical flow: dis or farneback, or a folder of .flo files.", INPUT_OUTPUT)
    ] = "dis"
    output: Annotated[
        Path | None, Option("JSON file to write, with the figures of every frame.", INPUT_OUTPUT)
    ] = None


@dataclass(frozen=True)
class CompareOptions:
    """Reports to compare."""

    reports: Annotated[
        tuple[Path, ...], Option("Folders or report.json files.", metavar="REPORT...", positional=True)
    ]
    by_group: Annotated[
        str | None, Option("Also show this metric for each group (art movement).", METRICS)
    ] = None


@dataclass(frozen=True)
class SheetOptions:
    """A blind comparison by viewers: sheets to make, or answers to count."""

    more: Annotated[
        tuple[Path, ...],
        Option("Further forms for [option:answers].", metavar="[FORM]...", positional=True),
    ] = ()
    content: Annotated[Path | None, Option("Folder of the photographs.", INPUT_OUTPUT)] = None
    style: Annotated[Path | None, Option("Folder of the artworks.", INPUT_OUTPUT)] = None
    pairs: Pairs = None
    system: Annotated[
        tuple[str, ...],
        Option("NAME=FOLDER of results or of a model, or base or lite; two at least.", INPUT_OUTPUT),
    ] = ()
    each: Annotated[
        bool, Option("Compare each with each. Default: the first with every other.", INPUT_OUTPUT)
    ] = False
    output: Annotated[Path | None, Option("Folder for the sheets.", INPUT_OUTPUT)] = None
    key: Annotated[
        Path | None,
        Option("File that says which picture is which system's. Default: OUTPUT-key.json.", INPUT_OUTPUT),
    ] = None
    seed: Annotated[
        int, Option("Seed of the order of the sheets, and of which system is A.", INPUT_OUTPUT)
    ] = 0
    size: Annotated[
        int, Option("Least longer side of a result on the sheets, in pixels.", INPUT_OUTPUT, minimum=256)
    ] = 640
    answers: Annotated[
        tuple[Path, ...], Option("Filled form: count the votes. May be repeated.", INPUT_OUTPUT)
    ] = ()
    backend: Backend = "onnxrt"
    device: Device = "auto"
