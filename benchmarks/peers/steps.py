"""What each step of the CPU's path brings, in one run: ``python -m mst_deploy.benchmarks.peers.steps``."""

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

from mst_deploy.backends import Films, Images, model_inputs
from mst_deploy.benchmarks import reports
from mst_deploy.benchmarks.ceilings import measure_ceilings
from mst_deploy.benchmarks.harness import Plan
from mst_deploy.benchmarks.machine import birth_certificate, refuse_busy
from mst_deploy.benchmarks.peers.__main__ import LoadOption
from mst_deploy.benchmarks.peers.given import give_statistics
from mst_deploy.benchmarks.peers.rows import Runs
from mst_deploy.benchmarks.peers.systems import System, as_exported, ours
from mst_deploy.benchmarks.peers.tables import table
from mst_deploy.cpu_graph import film_into_norm
from mst_deploy.images import load_image, resize
from mst_deploy.manifest import Bundle, open_bundle
from mst_deploy.options import run_alone
from mst_deploy.pipeline import Size
from mst_deploy.rewrites import fold_small_constants, to_float32, upsample_into_conv
from mst_deploy.shipped import find_bundle, load_shipped_styles

MOVED = 8
"""The share of a picture, one in so many, that has left the view from which statistics are given."""
Rewrite = Callable[[onnx.ModelProto], object]
STEPS: dict[str, tuple[Rewrite, ...]] = {
    "weights in float32": (to_float32, fold_small_constants),
    "+ film in the normalisation": (to_float32, fold_small_constants, film_into_norm),
    "+ doubling in the convolution": (to_float32, fold_small_constants, film_into_norm, upsample_into_conv),
}
SETTINGS: dict[str, dict[str, str]] = {
    "all, threads sleep between operators": {"session.intra_op.allow_spinning": "0"},
    "all, tiny numbers are zero": {"session.set_denormal_as_zero": "1"},
    "all, work in small shares": {"session.dynamic_block_base": "4"},
}


def rewritten(bundle: Bundle, films: Films, name: str, rewrites: tuple[Rewrite, ...], threads: int = 0,
              entries: dict[str, str] | None = None) -> System:  # fmt: skip
    """ONNX Runtime on a rewritten graph with settings of its own."""
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
        (stylized,) = session.run(["stylized"], model_inputs(bundle.manifest, frames, films))
        return np.asarray(stylized, np.uint8)

    return System(name, run, "fp32")


def openvino_with_given(bundle: Bundle, films: Films, name: str, give: Rewrite) -> System:
    """OpenVINO in bfloat16 on a graph whose statistics are given."""
    model = onnx.load(bundle.generator)
    for rewrite in (to_float32, fold_small_constants, give):
        rewrite(model)
    with TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "given.onnx")
        compiled = import_module("mst_deploy.backends.openvino").Compiled(Path(folder) / "given.onnx", "bf16")

    def run(frames: Images) -> Images:
        return np.array(compiled(model_inputs(bundle.manifest, frames, films))["stylized"], np.uint8)

    return System(name, run, "bf16")


def ladder(bundle: Bundle, films: Films, beside: Images) -> list[System]:
    """The graph as exported, step by step, then settings of the runtime on the last step.

    Statistics, where they are given, are those of the view ``beside`` (1, H, W, 3): a video has no others
    of the frame it is about to paint.
    """
    give = partial(give_statistics, frames=beside, films=films)
    last = STEPS["+ doubling in the convolution"]
    return [
        as_exported(bundle, films),
        *(rewritten(bundle, films, name, steps) for name, steps in STEPS.items()),
        *(rewritten(bundle, films, name, last, entries=entries) for name, entries in SETTINGS.items()),
        rewritten(bundle, films, "all, one thread", last, threads=1),
        ours(bundle, "openvino", films, "openvino", "fp32"),
        ours(bundle, "openvino:bf16", films, "openvino:bf16", "bf16"),
        rewritten(bundle, films, "statistics given", (to_float32, fold_small_constants, give)),
        openvino_with_given(bundle, films, "openvino:bf16, statistics given", give),
    ]


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Report to write (.json).")],
    content: Annotated[Path, typer.Option(help="Picture whose frames are stylised.")],
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    seconds: Annotated[float, typer.Option(help="Time for the calls of each step.")] = 20.0,
    least: Annotated[int, typer.Option(min=6, help="Rounds at least.")] = 10,
    load: LoadOption = 0.10,
) -> None:
    """Time the steps in turns; ratios are to the graph as exported."""
    bundle, picture = open_bundle(find_bundle()), load_image(content)
    films, runs = load_shipped_styles()[0].film[None], Runs(Plan(least=least, seconds=seconds, load=load))
    refuse_busy(load)
    for text in sizes:
        frame = resize(picture, *Size.parse(text).applied(0, 0))[None]
        beside = resize(picture[:, : -picture.shape[1] // MOVED], *frame.shape[2:0:-1])[None]
        runs.add(ladder(bundle, films, beside), frame, bundle)
    report = {**birth_certificate(), "model": bundle.manifest.name, **runs.facts(),
              "ceilings": asdict(measure_ceilings())}  # fmt: skip
    reports.write_report(output, report)
    print(table(report))


if __name__ == "__main__":
    run_alone(main)
