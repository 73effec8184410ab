"""The command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.cli.options import run_alone
from mst_deploy.errors import InvalidArgument
from mst_deploy.size import Size
from tools.gpu_report.plan import DEVICES, SIZES, Settings, chosen_steps
from tools.gpu_report.runner import run
from tools.gpu_report.summary import describe


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.json and the logs.")],
    minutes: Annotated[float, typer.Option(min=0.2, help="Wall time of everything, at most.")] = 5.0,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="WIDTHxHEIGHT, may be repeated; the most important size first."),
    ] = None,
    device: Annotated[str, typer.Option(help="cuda, or cpu for a rehearsal.")] = "cuda",
    steps: Annotated[str | None, typer.Option(help="Names with commas between; default: all.")] = None,
    models: Annotated[str, typer.Option(help="Shipped models with commas between.")] = "base,lite",
    commit: Annotated[
        str | None, typer.Option(help="What is measured, where the folder does not know it.")
    ] = None,
) -> None:
    """Measure everything that this machine can run, one step after the other."""
    if device not in DEVICES:
        raise InvalidArgument(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")
    settings = Settings(
        device, tuple(map(_size, sizes)) if sizes else SIZES, tuple(models.split(",")), str(output.resolve())
    )
    output.mkdir(parents=True, exist_ok=True)
    report = run(settings, chosen_steps(steps), 60 * minutes, commit)
    print(describe(report))
    print(output / "report.json")


def _size(text: str) -> tuple[int, int]:
    size = Size.parse(text)
    if size.width is None or size.height is None:
        raise InvalidArgument(f"give sizes as WIDTHxHEIGHT, not {text!r}")
    return size.width, size.height


if __name__ == "__main__":
    run_alone(main)
