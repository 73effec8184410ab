"""What several commands share: options, so that they read the same everywhere, and the way to a room."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from mst_deploy.errors import MissingDependency, MstError, OutputError, error_line, exit_code
from mst_deploy.files import refuse_to_overwrite

StrengthOption = Annotated[
    float,
    typer.Option(help="0 keeps the picture, 1 gives the full style.", min=0.0, max=1.0),
]
SizeOption = Annotated[
    str | None,
    typer.Option(help="Result size: WIDTHxHEIGHT, or one number for the short side. Default: as the input."),
]
CORE = ("av",)
"""Packages that come with the program itself, and that parts of it can do without: PyAV, for videos."""
MODEL_HELP = "Model: base, lite, or a folder made by mst export. Default: base."
ModelOption = Annotated[str | None, typer.Option(metavar="MODEL", help=MODEL_HELP)]
ModelArgument = Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
BackendOption = Annotated[
    str, typer.Option(help="What runs the model: onnxrt, openvino, openvino:bf16, trt, pytorch or fake.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is an NVIDIA GPU.")]
VggOption = Annotated[
    Path | None, typer.Option(help="VGG-19: .pth or .safetensors. Default: downloaded once.")
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Refuse pictures (inputs, styles, masks) of more pixels, before they are decoded. "
        "Default: 300000000.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def require_writable(path: Path, source: Path | None, *, force: bool, read: Sequence[Path] = ()) -> Path:
    """The path itself if it may be written.

    Raises OutputError when it exists, or is the input or one of the files that are ``read`` too, by
    whatever name or link.
    """
    refuse_to_overwrite(path, [*([] if source is None else [source]), *read])
    if path.exists() and not force:
        raise OutputError(f"{path} already exists; use --force to overwrite it, or -o for another name")
    if path.is_dir() and not (path / "manifest.json").is_file():
        raise OutputError(f"{path} is a folder; give a file name")
    return path


def run_alone(main: Callable[..., object]) -> None:
    """A module's own command line, for ``python -m``: errors meant for people are one line, as in ``mst``."""
    try:
        typer.run(main)
    except MstError as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None


def command_module(name: str) -> Any:
    """The command module of a room; its missing packages become a message with the line that helps."""
    extra = {
        "export": "export",
        "training": "train",
        "benchmarks.quality": "eval",
        "engines": "tensorrt",
        "benchmarks": "plots",
    }[name]
    purpose = {"training": "train", "benchmarks.quality": "eval", "engines": "build", "benchmarks": "bench"}
    return import_optional(f"{name}.command", extra, f"mst {purpose.get(name, name)}")


def import_optional(module: str, extra: str, purpose: str) -> Any:
    """A module of this package, by its name in it. Raises MissingDependency, naming the extra that helps."""
    try:
        return import_module(f"mst_deploy.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mst_deploy"):
            raise
        raise MissingDependency(missing, "" if missing in CORE else extra, purpose) from error
