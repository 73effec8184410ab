"""Tables of docs/benchmarks.md from the reports of ``python -m tools.gpu_report``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mst_deploy.benchmarks.reports import markdown

PYTORCH, ONNXRUNTIME = "gpu-h200-pytorch.json", "gpu-h200-onnxruntime.json"
MODELS = ("base", "lite")
HEAD = ("through", "size", "device ms p50", "p90", "end to end p50", "PSNR dB", "peak MiB")
THROUGH = {
    "fp32 as is": "PyTorch FP32 (TF32 convolutions)",
    "fp16 as is": "PyTorch FP16, contiguous",
    "fp16 contiguous, cuDNN benchmark": "PyTorch FP16, contiguous, cuDNN benchmark",
    "fp16 channels-last": "PyTorch FP16, channels-last",
    "fp16 channels-last, one-pass norm": "PyTorch FP16, channels-last, variance in one pass",
    "fp16 channels-last, graph replay": "PyTorch FP16, channels-last, graph replay",
    "fp16 channels-last, pipelined": "PyTorch FP16, channels-last, pipelined",
    "fp16 channels-last, compiled": "PyTorch FP16, channels-last, compiled",
    "as shipped": "ONNX Runtime, as exported",
    "as shipped, NHWC": "ONNX Runtime, as exported, NHWC",
    "film into norm": "ONNX Runtime, FiLM in the normalization",
    "all passes": "ONNX Runtime, all passes",
    "all passes, NHWC": "ONNX Runtime, all passes, NHWC",
    "all passes, NHWC, graph replay": "ONNX Runtime, all passes, NHWC, graph replay",
}
"""What a row of a report is called in the table, in the table's order."""
NUMBERS = {"fp16": "FP16", "fp32 with TF32": "FP32 with TF32", "bf16": "bfloat16"}
"""What a kind of numbers is called, in the table's order."""


def blocks(results: Path) -> dict[str, str]:
    """Return the text of each block, none unless both reports are there."""
    paths = results / PYTORCH, results / ONNXRUNTIME
    if not all(path.is_file() for path in paths):
        return {}
    torch, onnxruntime = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    makers: dict[str, Callable[[], str]] = {
        "gpu_latency": lambda: latency(torch, onnxruntime),
        "gpu_numerics": lambda: numerics(torch),
        "gpu_time": lambda: shares(torch, onnxruntime),
        "gpu_style": lambda: styles(torch),
    }
    return {name: make() for name, make in makers.items()}


def latency(torch: dict[str, Any], onnxruntime: dict[str, Any]) -> str:
    """Return one table for each model, small frames first, and the machine."""
    rows = [*measured(torch, "torch"), *measured(onnxruntime, "onnxruntime")]
    rows = [row for row in rows if row["what"] in THROUGH]
    order = list(THROUGH)
    rows.sort(key=lambda row: (row["size"][0] * row["size"][1], order.index(row["what"])))
    tables = [
        f"`{model}`:\n\n{markdown(HEAD, [line(row) for row in rows if row['model'] == model])}"
        for model in MODELS
    ]
    return "\n\n".join([*tables, machine(torch, onnxruntime)])


def line(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row, in the order of ``HEAD``.

    A pipelined row has the milliseconds a frame with two frames in flight in place of those of one frame.
    """
    device = times_of(row)
    whole = row["frame_ms"] if "frame_ms" in row else row["end_to_end"]["p50"]
    return [
        THROUGH[row["what"]],
        size_of(row),
        f"{device['p50']:.1f}" if device else "-",
        f"{device['p90']:.1f}" if device else "-",
        f"{whole:.1f}",
        f"{row['psnr_db']:.1f}",
        f"{row['peak_mib']:,}" if "peak_mib" in row else "-",
    ]


def numerics(torch: dict[str, Any]) -> str:
    """Return PSNR to float32 and the largest difference, one line for each kind of frame."""
    rows = measured(torch, "numerics")
    head = ("frame", *(f"`{model}`, {called}" for model in MODELS for called in NUMBERS.values()))
    lines = []
    for picture in dict.fromkeys(row["picture"] for row in rows):
        of = {row["model"]: row for row in rows if row["picture"] == picture}
        found = [of[model][numbers] for model in MODELS for numbers in NUMBERS]
        cells = [f"{one['psnr_db']:.1f} ({one['largest_difference']})" for one in found]
        lines.append([picture, *cells])
    return markdown(head, lines)


def shares(torch: dict[str, Any], onnxruntime: dict[str, Any]) -> str:
    """Return the milliseconds of each kind of kernel and layer, and the share of the roofline."""
    kernels, layers, roofline = (
        by_model(torch, "profile", what) for what in ("kernels", "layers", "roofline")
    )
    lines = [
        (kind, *(f"{kernels[model]['by_kind_ms'][kind]:.1f}" for model in MODELS))
        for kind in kernels[MODELS[0]]["by_kind_ms"]
    ]
    lines.append(("**all kernels**", *(f"{kernels[model]['kernels_ms_a_frame']:.1f}" for model in MODELS)))
    size = size_of(roofline[MODELS[0]])
    table = markdown((f"kernels, ms a frame of {size}", *(f"`{model}`" for model in MODELS)), lines)
    rows = [*measured(torch, "torch"), *measured(onnxruntime, "onnxruntime")]
    return "\n".join([table, "", *(share_line(model, kernels, layers, roofline, rows) for model in MODELS)])


def share_line(
    model: str,
    kernels: dict[str, dict[str, Any]],
    layers: dict[str, dict[str, Any]],
    roofline: dict[str, dict[str, Any]],
    rows: Iterable[dict[str, Any]],
) -> str:
    """Return the sums by layer of a model, and what the roofline allows over what each way takes."""
    sums, work = layers[model]["sums_ms"], roofline[model]
    least = work["least_ms"]
    ways = {
        THROUGH[row["what"]]: times["p50"]
        for row in rows
        if (row["model"], row["size"]) == (model, work["size"])
        and row["what"] in ("fp16 as is", "fp16 channels-last", "fp16 channels-last, compiled", "all passes")
        and (times := times_of(row))
    }
    reached = ", ".join(f"{least / taken:.1%} by {name}" for name, taken in ways.items())
    return (
        f"- `{model}`: normalization with FiLM (`FilmNorm`) {sums['FilmNorm']:.1f} ms, "
        f"convolutions with their padding {sums['PaddedConv']:.1f} ms, "
        f"{kernels[model]['launches_a_frame']:.0f} launches a frame. "
        f"The roofline allows {least:.2f} ms; share of it reached: {reached}"
    )


def styles(torch: dict[str, Any]) -> str:
    """Return the time of a frame in the same style and in a new one."""
    head = (
        "model, size",
        "same style, ms p50",
        "new style at every frame",
        "difference",
        "copy of FiLM parameters",
    )
    lines = [
        (
            f"`{row['model']}`, {size_of(row)}",
            *(f"{row[key]['p50']:.2f}" for key in ("same_style_ms", "new_style_ms")),
            f"{row['change_ms']:.2f}",
            f"{row['copy_ms']['p50']:.2f}",
        )
        for row in measured(torch, "torch")
        if row["what"] == "change of style"
    ]
    return markdown(head, lines)


def machine(torch: dict[str, Any], onnxruntime: dict[str, Any]) -> str:
    """Return GPU, processor, versions and the rates measured in the same run."""
    found, host, gpu = torch["steps"]["machine"], torch["machine"], torch["machine"]["gpu"]
    card, copies, library = found["card"], found["copies"], found["torch"]
    rates = ", ".join(
        f"{name} {rate / 1e12:.0f} TMAC/s" for name, rate in found["ceilings"]["multiply_adds"].items()
    )
    return "\n".join(
        [
            f"- {gpu['name']} (compute capability {card['capability']}, "
            f"{card['multiprocessors']} multiprocessors, up to {gpu['clocks.max.sm']}, "
            f"driver {gpu['driver_version']}); {host['cpu']}, {host['cores']} cores; "
            f"{torch['made']} and {onnxruntime['made']}, commit {torch['commit']}",
            f"- versions: torch {library['version']} (cuDNN {library['cudnn']}), onnxruntime-gpu "
            f"{onnxruntime['steps']['onnxruntime']['version']}, python {torch['versions']['python']}",
            f"- rates measured here: {rates}; copies {copies['within'] / 1e12:.1f} TB/s within the GPU, "
            f"{copies['to_device'] / 1e9:.0f} GB/s to it",
        ]
    )


def measured(report: dict[str, Any], step: str) -> list[dict[str, Any]]:
    """Return the rows of a step that hold figures."""
    unmeasured = {"skipped", "error", "failed"}
    rows: Sequence[dict[str, Any]] = report["steps"][step]["rows"]
    return [row for row in rows if not unmeasured & row.keys()]


def by_model(report: dict[str, Any], step: str, what: str) -> dict[str, dict[str, Any]]:
    """Return the rows of one kind by model."""
    return {row["model"]: row for row in measured(report, step) if row["what"] == what}


def times_of(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the times of a call with all tensors on the GPU: by CUDA events, or by the clock."""
    return row.get("device_ms") or row.get("bound_ms")


def size_of(row: dict[str, Any]) -> str:
    """Return the size of the frame as WxH."""
    return "x".join(map(str, row["size"]))
