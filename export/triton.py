"""A model repository for Triton Inference Server: the two graphs of a bundle with their configurations.

    DIR/mst_lite/config.pbtxt, 1/model.onnx          frames, film [, canvas] -> stylized
    DIR/mst_lite_style/config.pbtxt, 1/model.onnx    style -> embedding, film
    DIR/mst.json, README.md

A repository may hold several models. An exported model that is there already gets the next version: servers
that watch the folder load it, and requests under way end with the old one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mst_deploy import __version__
from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.export.options import ExportOptions
from mst_deploy.files import replacing, sha256_of
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.onnx_passes.cpu import for_cpu
from mst_deploy.size import Size

IMAGE = "nvcr.io/nvidia/tritonserver:26.08-py3"
DELAY = 2000
"""Microseconds that a request may wait for others to be batched with."""
QUEUE = 64
"""Requests that may wait; more are refused."""
PATIENCE = 2_000_000
"""Microseconds after which a request that still waits is refused."""
WARM = {"UINT8": "random", "FP32": "zero"}
"""What tensors of a warm-up are filled with."""
KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}


@dataclass(frozen=True)
class Repository:
    """What was written."""

    path: Path
    models: tuple[str, ...]
    version: int


@dataclass(frozen=True)
class Tensor:
    """Input or output of a model, without the batch."""

    name: str
    type: str
    dims: tuple[int, ...]


def export_repository(
    bundle: Bundle,
    folder: Path,
    *,
    device: str = "cuda",
    max_batch: int = 8,
    instances: int = 1,
    sizes: Sequence[tuple[int, int]] = (),
) -> Repository:
    """Add the graphs of a bundle to a model repository, which is made if it is not there.

    On a CPU the graphs are those that the backend onnxrt runs there, so that results have the same bytes.
    ``sizes`` (width, height) are stylized once before the server takes requests. Raises InvalidArgument,
    OutputError.
    """
    if device not in KINDS:
        raise InvalidArgument(
            field="triton_device", problem=f"unknown device {device!r}", hint="choose one of cpu, cuda"
        )
    if bundle.manifest.precision == "bf16":
        raise InvalidArgument(
            field="precision",
            problem="ONNX Runtime, which Triton runs the graphs with, cannot compute in bfloat16",
            hint="export the model in fp16",
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder for the model repository")
    name = f"mst_{bundle.manifest.name}"
    models = (name, f"{name}_style")
    version = 1 + max((_last_version(folder / model) for model in models), default=0)
    configs = config_texts(bundle, device=device, max_batch=max_batch, instances=instances, sizes=sizes)
    graphs = bundle.generator, bundle.style_encoder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hashes = {}
        for model, config, graph in zip(models, configs, graphs, strict=True):
            (folder / model).mkdir(exist_ok=True)
            with replacing(folder / model / str(version)) as made:
                made.mkdir()
                if device == "cpu":
                    (made / "model.onnx").write_bytes(for_cpu(graph))
                else:
                    shutil.copyfile(graph, made / "model.onnx")
            with replacing(folder / model / "config.pbtxt") as file:
                file.write_text(config, encoding="utf-8")
            hashes[model] = sha256_of(folder / model / str(version) / "model.onnx")
        _write_facts(folder, bundle, hashes, version)
        with replacing(folder / "README.md") as file:
            file.write_text(readme(bundle, device, sizes), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error
    return Repository(folder, models, version)


def _last_version(model: Path) -> int:
    return max((int(path.name) for path in model.glob("[0-9]*") if path.name.isdigit()), default=0)


def _write_facts(folder: Path, bundle: Bundle, hashes: dict[str, str], version: int) -> None:
    """Add what is known of the models to mst.json."""
    file = folder / "mst.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        facts = {}
    for model, digest in hashes.items():
        facts[model] = {
            "model_id": bundle.manifest.model_id,
            "version": version,
            "sha256": digest,
            "mst": __version__,
        }
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def config_texts(
    bundle: Bundle, *, device: str, max_batch: int, instances: int, sizes: Sequence[tuple[int, int]] = ()
) -> tuple[str, str]:
    """Return the configurations of generator and style encoder, as text of Triton's ModelConfig protobuf.

    Requests are batched only if their sizes agree.
    """
    manifest = bundle.manifest
    name = f"mst_{manifest.name}"
    inputs = [Tensor("frames", "UINT8", (-1, -1, 3)), Tensor("film", "FP32", (manifest.film_size,))]
    if manifest.canvas_bands:
        inputs.append(Tensor("canvas", "UINT8", (-1, -1, 1)))
    stylized = Tensor("stylized", "UINT8", (-1, -1, 3))
    style = Tensor("style", "UINT8", (-1, -1, 3))
    encoded = [
        Tensor("embedding", "FP32", (int(manifest.network["embedding_size"]),)),
        Tensor("film", "FP32", (manifest.film_size,)),
    ]
    config = partial(_config, device=device, instances=instances, model_id=manifest.model_id)
    return (
        config(name, inputs, [stylized], max_batch=max_batch, sizes=sizes),
        config(f"{name}_style", [style], encoded, max_batch=1, sizes=()),
    )


def _config(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    max_batch: int,
    device: str,
    instances: int,
    model_id: str,
    sizes: Sequence[tuple[int, int]],
) -> str:
    blocks = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch}",
        *(f"input {_tensor(tensor)}" for tensor in inputs),
        *(f"output {_tensor(tensor)}" for tensor in outputs),
        "version_policy { latest { num_versions: 1 } }",
        f"instance_group [ {{ count: {instances} kind: {KINDS[device]} }} ]",
        "response_cache { enable: false }",
        f'parameters {{ key: "model_id" value {{ string_value: "{model_id}" }} }}',
    ]
    if max_batch > 1:
        blocks.append(
            "dynamic_batching {\n"
            f"  max_queue_delay_microseconds: {DELAY}\n"
            "  default_queue_policy {\n"
            "    timeout_action: REJECT\n"
            f"    default_timeout_microseconds: {PATIENCE}\n"
            f"    max_queue_size: {QUEUE}\n"
            "  }\n"
            "}"
        )
    for width, height in sizes:
        warm = "\n".join(
            f'  inputs {{ key: "{tensor.name}" value {{ data_type: TYPE_{tensor.type} '
            f"dims: {_dims(tensor, width, height)} {WARM[tensor.type]}_data: true }} }}"
            for tensor in inputs
        )
        blocks.append(f'model_warmup {{\n  name: "{width}x{height}"\n  batch_size: 1\n{warm}\n}}')
    return "\n".join(blocks) + "\n"


def _tensor(tensor: Tensor) -> str:
    return f'[ {{ name: "{tensor.name}" data_type: TYPE_{tensor.type} dims: {list(tensor.dims)} }} ]'


def _dims(tensor: Tensor, width: int, height: int) -> list[int]:
    return [height, width, tensor.dims[2]] if len(tensor.dims) == 3 else list(tensor.dims)


def readme(bundle: Bundle, device: str, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the page that is put into the repository."""
    width, height = sizes[0] if sizes else (1280, 720)
    template = Path(__file__).with_name("triton_readme.md").read_text(encoding="utf-8")
    lines = template.splitlines(keepends=True)
    page = "".join(line for line in lines if bundle.manifest.canvas_bands or "canvas" not in line)
    values = {
        "NAME": f"mst_{bundle.manifest.name}",
        "IMAGE": IMAGE,
        "GPUS": "all" if device == "cuda" else "0",
        "WIDTH": str(width),
        "HEIGHT": str(height),
        "FILM": str(bundle.manifest.film_size),
    }
    for placeholder, value in values.items():
        page = page.replace(f"@{placeholder}@", value)
    return page


def export_options(options: ExportOptions) -> Repository:
    """Export what the options say. Raises BundleError, InvalidArgument, OutputError."""
    assert options.triton is not None
    source = resolve_model(options.source)
    if source.is_file():
        raise InvalidArgument(
            f"{source} is a checkpoint; export it without [option:triton] first, then the bundle with it"
        )
    sizes = [Size.parse(text) for text in options.sizes]
    if any(size.width is None or size.height is None for size in sizes):
        raise InvalidArgument(
            field="size", problem="a warm-up needs width and height", hint="write it like 1280x720"
        )
    return export_repository(
        open_bundle(source),
        options.triton,
        device=options.triton_device,
        max_batch=options.max_batch,
        instances=options.instances,
        sizes=[(size.width or 0, size.height or 0) for size in sizes],
    )
