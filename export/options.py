"""Options of the command ``mst export``. Nothing here loads PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mst_deploy.backends.options import MODEL_HELP
from mst_deploy.options import INPUT_OUTPUT, Option

GRAPHS, TRITON = "Graphs and engines", "Triton"


@dataclass(frozen=True)
class ExportOptions:
    """A model to export, and how."""

    source: Annotated[
        str | None,
        Option(f"Checkpoint (.safetensors) or model. {MODEL_HELP}", metavar="MODEL", positional=True),
    ] = None
    precision: Annotated[
        str,
        Option("Type of the convolutions: fp16, fp32 or bf16; or int8, beside the graph in fp16.", GRAPHS),
    ] = "fp16"
    styles: Annotated[
        tuple[str, ...],
        Option(
            "Style to calibrate int8 with: a name, style file or picture; may be repeated. Default: all "
            "ready ones.",
            GRAPHS,
            letter="s",
            name="style",
        ),
    ] = ()
    opset: Annotated[
        int, Option("ONNX operator set: 20, or 17 for parsers such as TensorRT 8.6's.", GRAPHS)
    ] = 20
    engine: Annotated[
        str | None, Option("Also build a TensorRT engine for frames of this size.", GRAPHS, metavar="WxH")
    ] = None
    output: Annotated[
        Path | None, Option("Bundle folder to write. Default: NAME-PRECISION here.", INPUT_OUTPUT)
    ] = None
    triton: Annotated[
        Path | None,
        Option(
            "Write MODEL, which must be a bundle, into this model repository of a Triton server.",
            TRITON,
            metavar="DIR",
        ),
    ] = None
    triton_device: Annotated[str, Option("What that server runs it on: cuda or cpu.", TRITON)] = "cuda"
    max_batch: Annotated[int, Option("Most frames that it stylizes in one call.", TRITON, minimum=1)] = 8
    instances: Annotated[int, Option("Copies of the model on each of its devices.", TRITON, minimum=1)] = 1
    sizes: Annotated[
        tuple[str, ...],
        Option(
            "Size of frames that it is warmed up with; may be repeated.", TRITON, metavar="WxH", name="size"
        ),
    ] = ()
    force: Annotated[bool, Option("Overwrite existing files.", INPUT_OUTPUT, letter="f")] = False
