"""The same frame through every way to run the shipped weights, and through other people's models, in turns.

    python -m mst_deploy.benchmarks.peers --size 512x512 -o peers.json

A foreign program loads its weights and reads the style at every call. What that takes is measured in the same
turns, with a frame of 64x64, and taken off: its rows are times of a frame alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mst_deploy.backends import Images
from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.ceilings import measure_ceilings
from mst_deploy.benchmarks.harness import Plan, Work, measure
from mst_deploy.benchmarks.latency import work_of_generator
from mst_deploy.benchmarks.machine import birth_certificate, others_load, usable_cores
from mst_deploy.benchmarks.peers.systems import (
    Program,
    System,
    as_exported,
    foreign,
    opencv_dnn,
    ours,
    torch_system,
    working,
)
from mst_deploy.benchmarks.statistics import ratio_of_turns
from mst_deploy.checking import psnr
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import load_image, resize
from mst_deploy.manifest import Bundle, open_bundle
from mst_deploy.options import ModelOption
from mst_deploy.pipeline import Size
from mst_deploy.shipped import find_bundle, styles_for

REFERENCE = "PyTorch eager"
SMALL = 64
STYLE_SIDE = 256


def makers(bundle: Bundle, programs: Sequence[Program], painting: Images) -> dict[str, Any]:
    """How each system is made, by name."""
    shipped = [style.film for style in styles_for(bundle.manifest.model_id).values()]
    films = [*shipped, bundle.manifest.layout.identity()][0][None]
    made: dict[str, Any] = {
        REFERENCE: partial(torch_system, bundle, films, "eager"),
        "torch.compile": partial(torch_system, bundle, films, "compile"),
        "as exported": partial(as_exported, bundle, films),
        "onnxrt": partial(ours, bundle, "onnxrt", films, "mst, onnxrt (default)", "fp32"),
        "openvino": partial(ours, bundle, "openvino", films, "mst, openvino", "fp32"),
        "openvino:bf16": partial(ours, bundle, "openvino:bf16", films, "mst, openvino:bf16", "bf16"),
        "OpenCV DNN": partial(opencv_dnn, bundle, films),
    }
    return made | {
        f"{program.function} {index}": partial(foreign, program, painting)
        for index, program in enumerate(programs)
    }


def rows_at(
    systems: Sequence[System], frame: Images, plan: Plan, work: dict[str, int]
) -> list[dict[str, Any]]:
    """All systems in turns on one frame (1, H, W, 3); ratios and PSNR are to the first of them."""
    small = np.ascontiguousarray(frame[:, :SMALL, :SMALL])
    things: dict[str, Work] = {}
    for system in systems:
        things[system.name] = partial(system.stylize, frame)
        if not system.same_weights:
            things[f"{system.name} start"] = partial(system.stylize, small)
    times = measure(things, plan)
    seconds = {name: np.array(one.seconds) for name, one in times.items()}
    wanted = systems[0].stylize(frame)
    rows = []
    for system in systems:
        spent = seconds[system.name]
        started = seconds.get(f"{system.name} start")
        own = spent if started is None else np.maximum(spent - np.median(started), 1e-6)
        ratio = ratio_of_turns(own.tolist(), seconds[systems[0].name].tolist(), plan.confidence)
        rows.append({
            "part": "generator", "backend": system.name, "device": "cpu", "precision": system.precision,
            "weights": "own" if not system.same_weights else "shipped", "batch": 1,
            "size": f"{frame.shape[2]}x{frame.shape[1]}", "seconds": own.tolist(),
            "warmups": times[system.name].warmups, "settled": times[system.name].settled,
            "taken_off_s": 0.0 if started is None else float(np.median(started)),
            "times_faster": asdict(ratio),
            "psnr_db": round(psnr(system.stylize(frame), wanted), 1) if system.same_weights else None,
            "work": work if system.same_weights else {"multiply_adds": 0, "bytes": 0, "least_bytes": 0},
        })  # fmt: skip
    return rows


def main(
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Report to write (.json).")],
    content: Annotated[Path, typer.Option(help="Picture whose frames are stylised.")],
    model: ModelOption = None,
    program: Annotated[list[Path] | None, typer.Option(help="Python file; may be repeated.")] = None,
    function: Annotated[
        list[str] | None, typer.Option(help="Its function: NAME or NAME,key=value; one for each --program.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these systems, beside the first.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for the calls of each system.")] = 30.0,
    least: Annotated[int, typer.Option(min=6, help="Rounds at least.")] = 10,
    most: Annotated[int, typer.Option(min=6, help="Rounds at most.")] = 80,
) -> None:
    """Time them; ratios to PyTorch eager with intervals, and how close the pictures are."""
    if len(program or []) != len(function or []):
        raise InvalidArgument("give one --function for each --program")
    programs = [Program.parse(*pair) for pair in zip(program or [], function or [], strict=True)]
    torch.set_num_threads(usable_cores())
    bundle, picture = open_bundle(find_bundle(model)), load_image(content)
    plan = Plan(least=least, most=most, seconds=seconds)
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    with others_load() as load:
        for text in sizes:
            width, height = Size.parse(text).applied(0, 0)
            frame = resize(picture, width, height)[None]
            painting = resize(picture, STYLE_SIDE, STYLE_SIDE)[None]
            systems = []
            for name, make in makers(bundle, programs, painting).items():
                if only and name not in only and name != REFERENCE:
                    continue
                found = working(make, frame)
                if isinstance(found, str):
                    refused[name] = found
                else:
                    systems.append(found)
            rows += rows_at(systems, frame, plan, work_of_generator(bundle, frame.shape))
    report = {**birth_certificate(), "plan": asdict(plan), "load": load.share,
              "ceilings": asdict(measure_ceilings()), "refused": refused, "rows": rows}  # fmt: skip
    reports.write_report(output, report)
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """Systems by size: median, times faster with its interval, PSNR, share of the machine."""
    ceilings = reports.ceilings_of(report)
    lines = []
    for row in report["rows"]:
        median = reports.summary_of(row, report).median
        share = reports.share_of_machine(row, median, ceilings) if row["work"]["multiply_adds"] else None
        faster, decibel = row["times_faster"], row["psnr_db"]
        lines.append([
            row["backend"], row["size"], f"{1000 * median:.0f}",
            f"{faster['value']:.2f} ({faster['low']:.2f} to {faster['high']:.2f})",
            "-" if decibel is None else "same" if decibel == 100 else f"{decibel:.1f}",
            "-" if share is None else f"{share:.0%}",
        ])  # fmt: skip
    head = ("system", "size", "ms a frame", "times as fast as PyTorch eager", "PSNR dB", "of the machine")
    notes = [f"- {name}: not measured: {reason}" for name, reason in report["refused"].items()]
    return "\n".join([reports.markdown(head, lines), *(["", *notes] if notes else [])])


if __name__ == "__main__":
    typer.run(main)
