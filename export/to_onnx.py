"""Export of weights to two ONNX graphs with symbolic batch, height and width."""

from __future__ import annotations

import copy
import logging
import platform
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxruntime
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from mst_deploy import __version__
from mst_deploy.errors import InvalidArgument, VerificationError
from mst_deploy.export.check import check_bundle
from mst_deploy.files import replacing, sha256_of
from mst_deploy.model.bundle import GENERATOR, MANIFEST, STYLE_ENCODER, Bundle, Manifest
from mst_deploy.model.checkpoints import Networks, load_bundle, model_id
from mst_deploy.model.io_wrappers import KEPT_FP32, Uint8Generator, Uint8StyleEncoder
from mst_deploy.model.networks import Generator, StyleEncoder
from mst_deploy.onnx_passes.passes import to_opset17

OPSET = 20
OPSETS = (17, OPSET)
"""Opsets to choose from: 17 is for parsers without a later one, such as TensorRT 8.6's."""
BF16_OPSET = 22
"""First opset in which convolutions may be bfloat16."""
PRECISIONS = {"fp16": torch.float16, "fp32": torch.float32, "bf16": torch.bfloat16}
ENCODER_PRECISIONS = {**PRECISIONS, "bf16": torch.float16}
"""Precision of the encoder: it runs once per style, on ONNX Runtime, which has no bfloat16 on a CPU."""
STYLE_SIZE = 256
"""Short side in pixels at which styles are encoded; the crops of the training had this size."""


def export_bundle(
    networks: Networks, path: Path, precision: str = "fp16", name: str = "", opset: int = OPSET
) -> Bundle:
    """Write the bundle ``path`` (a folder) from float32 networks on the CPU.

    Raises VerificationError, and writes nothing, if the graphs differ from PyTorch by more than
    ``check.TOLERANCES``; InvalidArgument for an unknown precision or opset; OutputError.
    """
    if precision not in PRECISIONS:
        raise InvalidArgument(
            field="precision",
            problem=f"unknown precision {precision!r}",
            hint=f"choose one of {', '.join(PRECISIONS)}",
        )
    if opset not in OPSETS:
        raise InvalidArgument(
            field="opset",
            problem=f"unknown opset {opset}",
            hint=f"choose one of {', '.join(map(str, OPSETS))}",
        )
    if precision == "bf16" and opset != OPSET:
        raise InvalidArgument(
            field="opset", problem=f"bf16 needs opset {BF16_OPSET}", hint=f"leave out [option:opset] {opset}"
        )
    with replacing(path) as temporary:
        temporary.mkdir()
        used = BF16_OPSET if precision == "bf16" else opset
        write_graphs(networks, temporary, precision, used)
        bundle = Bundle(temporary, describe(networks, temporary, precision, name or path.name, used))
        if model_id(load_bundle(bundle)) != model_id(rounded(networks, precision)):
            raise VerificationError("the weights in the ONNX files are not those that were exported")
        checks = check_bundle(networks, bundle)
        manifest = Manifest(**{**vars(bundle.manifest), "checks": tuple(checks)})
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(path, manifest)


def rounded(networks: Networks, precision: str) -> Networks:
    """Return the networks in float32, with weights rounded as a bundle of that precision stores them."""
    generator = copy.deepcopy(networks.generator).to(PRECISIONS[precision]).float()
    encoder = copy.deepcopy(networks.film_encoder).to(ENCODER_PRECISIONS[precision]).float()
    return Networks(generator, encoder, networks.training)


def write_graphs(networks: Networks, folder: Path, precision: str, opset: int) -> None:
    """Trace both graphs into ``folder``."""
    dtype = PRECISIONS[precision]
    encoder = copy.deepcopy(networks.film_encoder).to(ENCODER_PRECISIONS[precision])
    film = torch.from_numpy(networks.config.film_layout.identity()).repeat(2, 1)  # (2, P)
    pictures = ("N", "H", "W", 3)
    axes = {0: "N", 1: "H", 2: "W"}
    inputs = {"frames": torch.zeros(2, 64, 96, 3, dtype=torch.uint8), "film": film}
    dynamic: tuple[dict[int, str], ...] = (axes, {0: "N"})
    if networks.config.canvas_bands:
        inputs["canvas"] = torch.zeros(2, 64, 96, 1, dtype=torch.uint8)
        dynamic = (*dynamic, axes)
    trace(
        Uint8Generator(copy.deepcopy(networks.generator).to(dtype)),
        inputs,
        {"stylized": pictures},
        dynamic,
        folder / GENERATOR,
        opset,
    )
    trace(
        Uint8StyleEncoder(encoder),
        {"style": torch.zeros(2, 128, 160, 3, dtype=torch.uint8)},
        {"embedding": ("N", networks.config.embedding_size), "film": ("N", film.shape[1])},
        ({0: "N", 1: "H", 2: "W"},),
        folder / STYLE_ENCODER,
        min(opset, OPSET),
    )


def trace(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: dict[str, tuple[str | int, ...]],
    dynamic: Any,
    path: Path,
    opset: int,
) -> None:
    """Export one module with named symbolic axes; ``outputs`` maps names to shapes.

    The exporter's own progress and notices are suppressed.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=max(opset, OPSET),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=dynamic,
                optimize=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    if program is None:
        raise VerificationError(f"PyTorch exported nothing for {path.name}")
    # The exporter's default would fold casts of float16 weights into float32 copies of them.
    onnxscript.optimizer.optimize_ir(
        program.model, should_fold=lambda node: False if node.op_type == "Cast" else None
    )
    # It also writes the output size as an expression of H and W that is always equal to them.
    for value, shape in zip(program.model.graph.outputs, outputs.values(), strict=True):
        value.shape = onnx_ir.Shape(shape)
    forget_sources(program.model)
    program.save(path)
    if opset < OPSET:
        model = onnx.load(path)
        to_opset17(model)
        onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def forget_sources(model: onnx_ir.Model) -> None:
    """Delete what the exporter notes of the code it traced: stack traces with file names of this machine."""
    for graph in (model.graph, *model.graph.subgraphs()):
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()


def describe(networks: Networks, folder: Path, precision: str, name: str, opset: int) -> Manifest:
    """Return the manifest of the graphs in ``folder``, still without checks."""
    return Manifest(
        name=name,
        model_id=model_id(networks),
        precision=precision,
        network=networks.config.to_dict(),
        film_layers=networks.config.film_layout.layers,
        min_size=Generator.MIN_SIZE,
        style_min_size=StyleEncoder.MIN_SIZE,
        style_size=STYLE_SIZE,
        files={file: sha256_of(folder / file) for file in (GENERATOR, STYLE_ENCODER)},
        opset=opset,
        kept_fp32=KEPT_FP32 if precision != "fp32" else (),
        training=networks.training,
        tools={
            "mst-deploy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )
