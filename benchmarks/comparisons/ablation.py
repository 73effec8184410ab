"""Measure each optimization step of the CPU path in one run: ``python -m
mst_deploy.benchmarks.comparisons.ablation``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer

from mst_deploy.backends import FilmBatch, Images, model_inputs
from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.comparisons.__main__ import MaxLoadOption
from mst_deploy.benchmarks.comparisons.fixed_statistics import fix_statistics
from mst_deploy.benchmarks.comparisons.rows import Runs
from mst_deploy.benchmarks.comparisons.systems import System, as_exported, ours
from mst_deploy.benchmarks.comparisons.tables import table
from mst_deploy.benchmarks.environment import environment_info, refuse_busy_machine
from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.roofline import measure_roofline
from mst_deploy.cli.options import run_alone
from mst_deploy.images import load_image, resize
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import load_shipped_styles, resolve_model
from mst_deploy.onnx_passes.cpu import film_into_norm
from mst_deploy.onnx_passes.passes import fold_small_constants, to_float32, upsample_into_conv
from mst_deploy.size import Size

MOVED = 8
"""Fraction 1/MOVED of the picture is missing in the view from which fixed statistics are taken."""
GraphRewrite = Callable[[onnx.ModelProto], object]
STEPS: dict[str, tuple[GraphRewrite, ...]] = {
    "weights in float32": (to_float32, fold_small_constants),
    "+ film in the normalization": (to_float32, fold_small_constants, film_into_norm),
    "+ doubling in the convolution": (to_float32, fold_small_constants, film_into_norm, upsample_into_conv),
}
SETTINGS: dict[str, dict[str, str]] = {
    "all, threads sleep between operators": {"session.intra_op.allow_spinning": "0"},
    "all, tiny numbers are zero": {"session.set_denormal_as_zero": "1"},
    "all, work in small shares": {"session.dynamic_block_base": "4"},
}


def rewritten(
    bundle: Bundle,
    film_params: FilmBatch,
    name: str,
    rewrites: tuple[GraphRewrite, ...],
    threads: int = 0,
    entries: dict[str, str] | None = None,
) -> System:
    """Return ONNX Runtime on a rewritten graph with its own session settings, for the CPU.

    ``film_params`` is (1, P) float32; 0 threads leaves the number to ONNX Runtime.
    """
    model = onnx.load(bundle.generator)
    for rewrite in rewrites:
        rewrite(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(frames: Images) -> Images:
        (stylized,) = session.run(["stylized"], model_inputs(bundle.manifest, frames, film_params))
        return np.asarray(stylized, np.uint8)

    return System(name, run, "fp32")


def openvino_fixed(bundle: Bundle, film_params: FilmBatch, name: str, give: GraphRewrite) -> System:
    """Return OpenVINO in bfloat16 on a graph with fixed normalization statistics."""
    model = onnx.load(bundle.generator)
    for rewrite in (to_float32, fold_small_constants, give):
        rewrite(model)
    with TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "given.onnx")
        compiled = import_module("mst_deploy.backends.openvino").Compiled(Path(folder) / "given.onnx", "bf16")

    def run(frames: Images) -> Images:
        return np.array(compiled(model_inputs(bundle.manifest, frames, film_params))["stylized"], np.uint8)

    return System(name, run, "bf16")


def ladder(bundle: Bundle, film_params: FilmBatch, beside: Images) -> list[System]:
    """Return the graph as exported, then with each rewrite added, then with other session settings.

    Fixed statistics are those of the view ``beside`` (1, H, W, 3): a video never has the statistics of the
    frame that is about to be stylized.
    """
    give = partial(fix_statistics, frames=beside, films=film_params)
    last = STEPS["+ doubling in the convolution"]
    return [
        as_exported(bundle, film_params),
        *(rewritten(bundle, film_params, name, steps) for name, steps in STEPS.items()),
        *(rewritten(bundle, film_params, name, last, entries=entries) for name, entries in SETTINGS.items()),
        rewritten(bundle, film_params, "all, one thread", last, threads=1),
        ours(bundle, "openvino", film_params, "openvino", "fp32"),
        ours(bundle, "openvino:bf16", film_params, "openvino:bf16", "bf16"),
        rewritten(bundle, film_params, "statistics given", (to_float32, fold_small_constants, give)),
        openvino_fixed(bundle, film_params, "openvino:bf16, statistics given", give),
    ]


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Report to write (.json).")],
    content: Annotated[Path, typer.Option(help="Picture whose frames are stylized.")],
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    seconds: Annotated[float, typer.Option(help="Time for the calls of each step.")] = 20.0,
    min_runs: Annotated[int, typer.Option(min=6, help="Rounds at least.")] = 10,
    max_load: MaxLoadOption = 0.10,
) -> None:
    """Time the steps, interleaved; ratios are relative to the graph as exported."""
    bundle, picture = open_bundle(resolve_model()), load_image(content)
    film_params, runs = (
        load_shipped_styles()[0].film[None],
        Runs(Plan(min_runs=min_runs, seconds=seconds, max_load=max_load)),
    )
    refuse_busy_machine(max_load)
    for text in sizes:
        frame = resize(picture, *Size.parse(text).applied(0, 0))[None]
        beside = resize(picture[:, : -picture.shape[1] // MOVED], *frame.shape[2:0:-1])[None]
        runs.add(ladder(bundle, film_params, beside), frame, bundle)
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
