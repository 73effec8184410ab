"""Somebody else's program over a set: ``python -m mst_deploy.benchmarks.quality.external --help``.

The program is a Python file with a function (content, style, alpha) -> image on (1, 3, H, W) float RGB
tensors in 0..1. It reads the photographs and artworks of a set that ``mst eval model`` wrote and stylizes
the same pairs; ``mst eval images`` measures what it made.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mst_deploy.benchmarks.quality.sets import PAIRS, ROLES, read_pairs, write_pairs
from mst_deploy.cli.console import progress
from mst_deploy.errors import InputError
from mst_deploy.images import load_image, save_image
from mst_deploy.perceptual.distances import as_tensor


def load_function(program: Path, name: str) -> Any:
    """A function out of a Python file. Raises InputError when there is no such thing."""
    spec = importlib.util.spec_from_file_location("others_program", program)
    if not program.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{program} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(function := getattr(module, name, None)):
        raise InputError(f"{program} has no function {name!r}")
    return function


def main(
    program: Annotated[Path, typer.Option(help="The Python file.")],
    function: Annotated[str, typer.Option(help="The function in it.")],
    pictures: Annotated[Path, typer.Option("--set", help="Folder of the set: content, style, pairs.csv.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    alpha: Annotated[float, typer.Option(help="Passed on; 1 is the full style.")] = 1.0,
) -> None:
    """Stylize a set with somebody else's program."""
    call = load_function(program, function)
    pairs = read_pairs(pictures / PAIRS, *(pictures / role for role in ROLES))
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    made = []
    with progress(function, len(pairs), unit="pictures/s") as tell, torch.inference_mode():
        for done, pair in enumerate(pairs, start=1):
            target = output / pair.name
            if not target.exists():
                content, style = (as_tensor(load_image(path)) for path in (pair.content, pair.style))
                pixels = call(content, style, alpha).clamp(0, 1).mul(255).round()[0].permute(1, 2, 0)
                save_image(target, np.asarray(pixels.numpy(), np.uint8))
            made.append(replace(pair, stylized=target))
            tell(done)
    listed = output.with_name(f"{output.name}.csv")
    write_pairs(listed, made)
    print(f"{len(made)} results in {output}, pairs in {listed}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    typer.run(main)
