"""The command ``mst doctor``: packages, providers, GPU; and the command that installs what is missing."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import Any

from mst_deploy.backends.registry import BACKENDS
from mst_deploy.cli.errors import one_line, worded
from mst_deploy.cli.options import JsonOptions
from mst_deploy.environment import gpu_name, version

COMMANDS = {
    "export": "mst export",
    "train": "mst train",
    "eval": "mst eval",
    "serve": "mst serve",
    "rtx": "mst build",
    "batch": "mst batch --address",
}
"""Commands that need an extra, by extra."""
PACKAGES = {
    **dict.fromkeys(
        ("numpy", "opencv-python-headless", "opencv-python", "pillow", "av", "onnx", "filelock"), ""
    ),
    **{
        distribution: spec.extra
        for spec in BACKENDS.values()
        for distributions in spec.packages.values()
        for distribution in distributions
    },
    "onnxscript": "export",
    "lightning": "train",
    "tensorboard": "train",
    "tensorrt": "tensorrt",
    **dict.fromkeys(("fastapi", "uvicorn", "python-multipart", "websockets"), "serve"),
    "torchmetrics": "eval",
    "matplotlib": "eval",
    "ray": "batch",
    "fsspec": "batch",
}
"""Distributions and the extra that installs them; the two forms of OpenCV and ONNX Runtime exclude each
other."""


def purposes() -> dict[str, str]:
    """Return the purposes of each extra: commands and backends."""
    found: dict[str, list[str]] = {extra: [command] for extra, command in COMMANDS.items()}
    found["tensorrt"] = ["mst build --flavor tensorrt, for H100, H200 and Jetson"]
    for spec in BACKENDS.values():
        if spec.extra:
            found.setdefault(spec.extra, []).append(f"--backend {spec.name}")
    return {extra: " and ".join(uses) for extra, uses in found.items()}


def doctor(messages: JsonOptions) -> None:
    """Show what this machine can run, and the exact command that installs what is missing."""
    from mst_deploy.cli.console import print_result

    findings = examine()
    print_result(report(findings), findings, as_json=messages.as_json)


def examine() -> dict[str, Any]:
    """Return the facts for programs; :func:`report` formats them for people."""
    import onnxruntime

    from mst_deploy.backends.onnxrt import PROVIDERS, open_session
    from mst_deploy.errors import MstError
    from mst_deploy.model.zoo import MODELS, resolve_model

    graph = resolve_model() / "generator.onnx"
    devices: dict[str, str] = {}
    for device in PROVIDERS:
        try:
            open_session(graph, device)
            devices[device] = "works"
        except MstError as error:
            devices[device] = one_line(error)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": gpu_name(),
        "packages": {name: version(name) for name in PACKAGES},
        "onnxruntime_providers": onnxruntime.get_available_providers(),
        "devices": devices,
        "tensorrt": tensorrt_state(),
        "auto": auto_state(),
        "models": {model: model_state(model) for model in MODELS},
    }


def model_state(name: str) -> dict[str, Any]:
    """Return the path of a shipped model, whether its files are undamaged, its styles and precisions."""
    from mst_deploy.errors import MstError
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.zoo import bundle_path, styles_for

    folder = bundle_path(name)
    try:
        manifest = open_bundle(folder).manifest
    except MstError as error:
        return {"folder": str(folder), "state": one_line(error), "styles": [], "precisions": []}
    precisions = [manifest.precision, *(["int8"] if manifest.int8 else [])]
    styles = list(styles_for(manifest.model_id))
    return {"folder": str(folder), "state": "works", "styles": styles, "precisions": precisions}


def auto_state() -> dict[str, Any]:
    """Return what ``--backend auto`` takes for the default model, why, and why nothing else; TensorRT
    engines depend on the size of the frames."""
    from mst_deploy.backends.auto import resolve
    from mst_deploy.backends.registry import AUTO
    from mst_deploy.errors import MstError
    from mst_deploy.model.bundle import open_bundle
    from mst_deploy.model.zoo import resolve_model

    try:
        choice = resolve(open_bundle(resolve_model()), AUTO, "auto")
    except MstError as error:
        return {"error": one_line(error)}
    return {**asdict(choice), "not_taken": [worded(line) for line in choice.not_taken]}


def auto_lines(state: dict[str, Any]) -> list[str]:
    """Format the choice and what was not chosen as lines."""
    if "error" in state:
        return [f"--backend auto: {state['error']}"]
    if not state["reason"]:
        return [f"--backend auto takes {state['backend']}: the environment variable MST_BACKEND names it"]
    return [
        f"--backend auto takes {state['backend']} on {state['device']}: {state['reason']}",
        *(f"  not {line}" for line in state["not_taken"]),
    ]


def tensorrt_state() -> str:
    """Return ``works`` with versions and GPU, or the reason why it does not work."""
    from mst_deploy.backends.trt import compat
    from mst_deploy.backends.trt.runner import machine, open_cuda
    from mst_deploy.errors import MstError

    try:
        runtimes = compat.installed()
    except MstError as error:
        return one_line(error)
    products = " and ".join(compat.product(trt) for trt in runtimes)
    try:
        cuda = open_cuda()
    except MstError as error:
        builds = "builds engines, runs none: " if any(map(compat.portable, runtimes)) else ""
        return f"{products}: {builds}{one_line(error)}"
    try:
        return f"works: {products}, {machine(runtimes, cuda).gpu}"
    finally:
        cuda.close()


def report(findings: dict[str, Any]) -> str:
    """Format the facts as lines, ending with the commands that install missing packages."""
    packages = findings["packages"]
    lines = [
        f"Python {findings['python']} on {findings['platform']}, {findings['cpus']} CPUs",
        f"GPU: {findings['gpu'] or 'none found (nvidia-smi is absent or does not answer)'}",
        "",
        *(f"  {name:24} {found}" for name, found in packages.items() if found),
        "",
    ]
    for device, state in findings["devices"].items():
        lines.append(f"ONNX Runtime on {device}: {state}")
    lines += [f"TensorRT: {findings['tensorrt']}", *auto_lines(findings["auto"]), ""]
    for model, found in findings["models"].items():
        kinds = "".join(f", {precision}" for precision in found["precisions"])
        lines.append(f"model {model}: {found['state']}{kinds}, {len(found['styles'])} styles")
    lines.append("")
    for extra, purpose in purposes().items():
        missing = [name for name, needs in PACKAGES.items() if needs == extra and not packages[name]]
        if missing:
            lines.append(f"{purpose}: missing {', '.join(missing)}; pip install 'mst-deploy[{extra}]'")
        else:
            lines.append(f"{purpose}: installed")
    return "\n".join(lines)
