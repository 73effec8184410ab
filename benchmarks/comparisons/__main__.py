"""Time one frame through every way to run the shipped weights, and through external models, interleaved.

    python -m mst_deploy.benchmarks.comparisons --size 512x512 -o peers.json

An external program loads its weights and encodes the style at every call. This overhead is measured in the
same rounds with a frame of 64x64 and subtracted: its rows are times of a frame alone. A TFLite model stays
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from mst_deploy.backends import Images
from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.comparisons.rows import Runs
from mst_deploy.benchmarks.comparisons.systems import (
    ExternalProgram,
    System,
    as_exported,
    external,
    opencv_dnn,
    ours,
    tflite,
    timing,
    torch_system,
)
from mst_deploy.benchmarks.comparisons.tables import table
from mst_deploy.benchmarks.environment import environment_info, refuse_busy_machine, usable_cores
from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.roofline import measure_roofline
from mst_deploy.cli.options import ModelOption, run_alone
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import load_image, resize
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model, styles_for
from mst_deploy.size import Size

REFERENCE = "PyTorch eager"
STYLE_SIDE = 256
MaxLoadOption = Annotated[float, typer.Option(min=0, max=1, help="Share that other programs may use.")]


@dataclass(frozen=True)
class External:
    """External networks to compare with."""

    programs: Sequence[ExternalProgram] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    """Paths of TFLite files by name."""

    @classmethod
    def parse(cls, files: Sequence[Path], functions: Sequence[str], models: Sequence[str]) -> External:
        """Parse the options of the command line. Raises InvalidArgument."""
        if len(files) != len(functions):
            raise InvalidArgument(
                field="function",
                problem="give one [option:function] for each [option:program]",
                hint=f"there are {len(functions)} for {len(files)}",
            )
        named = dict(text.split("=", 1) for text in models if "=" in text)
        if len(named) < len(models):
            raise InvalidArgument(
                field="tflite",
                problem=f"give TFLite models as NAME=FILE, each name once, not {', '.join(models)}",
            )
        programs = [ExternalProgram.parse(*pair) for pair in zip(files, functions, strict=True)]
        return cls(programs, {name: Path(path) for name, path in named.items()})


def makers(bundle: Bundle, others: External, artwork: Images) -> dict[str, Any]:
    """Return the constructor of each system, by name. ``artwork`` is (1, H, W, 3) uint8 RGB."""
    shipped = [style.film for style in styles_for(bundle.manifest.model_id).values()]
    film_params = [*shipped, bundle.manifest.layout.identity()][0][None]
    made: dict[str, Any] = {
        REFERENCE: partial(torch_system, bundle, film_params, "eager"),
        "torch.compile": partial(torch_system, bundle, film_params, "compile"),
        "as exported": partial(as_exported, bundle, film_params),
        "onnxrt": partial(ours, bundle, "onnxrt", film_params, "mst, onnxrt (default)", "fp32"),
        "openvino": partial(ours, bundle, "openvino", film_params, "mst, openvino", "fp32"),
        "openvino:bf16": partial(ours, bundle, "openvino:bf16", film_params, "mst, openvino:bf16", "bf16"),
        "OpenCV DNN": partial(opencv_dnn, bundle, film_params),
    }
    made |= {name: partial(tflite, name, path) for name, path in others.models.items()}
    return made | {
        f"{program.function} {index}": partial(external, program, artwork)
        for index, program in enumerate(others.programs)
    }


def opened(
    constructors: Mapping[str, Any], frame: Images, only: Sequence[str]
) -> tuple[list[System], dict[str, str]]:
    """Return the systems that work, and for the others the reason by name.

    ``frame`` is (1, H, W, 3) uint8 RGB. ``only`` limits the systems beside the reference, which is always
    included.
    """
    systems, refused = [], {}
    for name, make in constructors.items():
        if only and name not in only and name != REFERENCE:
            continue
        system = timing(make, frame)
        if isinstance(system, str):
            refused[name] = system
        else:
            systems.append(system)
    return systems, refused


def main(
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Report to write (.json).")],
    content: Annotated[Path, typer.Option(help="Picture whose frames are stylized.")],
    model: ModelOption = None,
    program: Annotated[list[Path] | None, typer.Option(help="Python file; may be repeated.")] = None,
    function: Annotated[
        list[str] | None, typer.Option(help="Its function: NAME or NAME,key=value; one for each --program.")
    ] = None,
    tflite_model: Annotated[
        list[str] | None, typer.Option("--tflite", help="NAME=FILE of a TFLite model; may be repeated.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these systems, beside the first.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for the calls of each system.")] = 30.0,
    min_runs: Annotated[int, typer.Option(min=6, help="Rounds at least.")] = 10,
    most: Annotated[int, typer.Option(min=6, help="Rounds at most.")] = 80,
    max_load: MaxLoadOption = 0.10,
) -> None:
    """Time all systems; report ratios to PyTorch eager with intervals, and the PSNR of the results."""
    others = External.parse(program or [], function or [], tflite_model or [])
    plan = Plan(min_runs=min_runs, most=most, seconds=seconds, max_load=max_load)
    refuse_busy_machine(max_load)
    torch.set_num_threads(usable_cores())
    bundle, picture = open_bundle(resolve_model(model)), load_image(content)
    artwork = resize(picture, STYLE_SIDE, STYLE_SIDE)[None]
    runs = Runs(plan)
    for text in sizes:
        frame = resize(picture, *Size.parse(text).applied(0, 0))[None]
        systems, refused = opened(makers(bundle, others, artwork), frame, only or [])
        runs.refused |= refused
        runs.add(systems, frame, bundle)
    report = {
        **environment_info(),
        "model": bundle.manifest.name,
        **runs.facts(),
        "ceilings": asdict(measure_roofline()),
    }
    reports.write_report(output, report)
    print(table(report))


if __name__ == "__main__":
    run_alone(main)
