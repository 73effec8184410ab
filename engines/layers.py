"""Layers of an engine, from TensorRT's inspector or the builder's messages."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HALVES = ("half", "fp16", "float16")
FULLS = ("float", "fp32", "float32")
CONVOLUTIONS = ("conv", "correlation")
"""Parts of the layer type of convolutions; the second is that of TensorRT for RTX."""
FUSION, FUSED_CONVOLUTION = "runtime_fusion", "_Corr"
"""Layer type and part of the name of a convolution that TensorRT for RTX fuses with the next operator."""
LAYER = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<rest>.*)")
TENSOR = re.compile(r"\{ Name: (?P<name>[^,]*), Dimensions: \[(?P<dims>[-\d,]*)\],.*?Datatype: (?P<type>\w+)")
MEMORY = re.compile(r"Total Activation Memory: (\d+) bytes")


def layers_of(trt: Any, engine: Any) -> list[dict[str, Any]]:
    """Return the inspector's layers; [] if the engine was built without details."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", []) if text else []
    return [layer for layer in layers if isinstance(layer, dict)]


def layers_in(message: str) -> list[dict[str, Any]]:
    """Parse the builder's message that begins with "Layers:" into layers as the inspector returns them.

    TensorRT for RTX logs it during the build; its inspector needs a GPU.
    """
    found = []
    for line in message.splitlines():
        match = LAYER.match(line)
        if match is None:
            continue
        inputs, _, outputs = match["rest"].partition("Outputs: [")
        inputs = inputs.partition("Constants: [")[0]
        found.append(
            {
                "Name": match["name"],
                "LayerType": match["kind"],
                "Inputs": tensors_in(inputs),
                "Outputs": tensors_in(outputs),
            }
        )
    return found


def tensors_in(text: str) -> list[dict[str, Any]]:
    """Parse ``{ Name: x, Dimensions: [1,3], ... Datatype: Half, ... }, ...`` into the tensors of a layer."""
    return [
        {
            "Name": match["name"],
            "Dimensions": [int(size) for size in match["dims"].split(",") if size],
            "Datatype": match["type"],
        }
        for match in TENSOR.finditer(text)
    ]


def facts_of(details: Iterable[str]) -> dict[str, Any]:
    """Return number of layers, share of convolutions in float16 and device memory from the messages."""
    layers: list[dict[str, Any]] = []
    memory = 0
    for message in details:
        match = MEMORY.match(message)
        memory = int(match[1]) if match else memory
        layers = layers_in(message) or layers
    return {**summary(layers), "device_memory_mib": round(memory / 2**20, 1) if memory else None}


def summary(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return number of layers and share of the convolutions in float16, None without convolutions."""
    share = half_share(layers)
    return {"layers": len(layers), "convolutions_in_fp16": None if share is None else round(share, 3)}


def convolution_types(layers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the convolutions by type: fp16, fp32, int8, other; the type is that of their input."""
    counts = Counter(
        type_of(layer["Inputs"][0]) for layer in layers if is_convolution(layer) and layer.get("Inputs")
    )
    return dict(counts)


def is_convolution(layer: Mapping[str, Any]) -> bool:
    """Return whether a layer is a convolution, alone or fused with others, in any version."""
    kind = str(layer.get("LayerType", "")).lower()
    fused = kind == FUSION and FUSED_CONVOLUTION in str(layer.get("Name", ""))
    return fused or any(word in kind for word in CONVOLUTIONS)


def type_of(tensor: Mapping[str, Any]) -> str:
    """Return fp16, fp32, int8 or other. Version 10 has the type in "Format/Datatype", 11 in "Datatype"."""
    words = (
        str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "").lower().replace("-", " ").split()
    )
    if any(word in HALVES for word in words):
        return "fp16"
    if "int8" in words:
        return "int8"
    return "fp32" if any(word in FULLS for word in words) else "other"


def half_share(layers: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of the convolutions that run in float16; None if the inspector shows none."""
    counts = convolution_types(layers)
    total = sum(counts.values())
    return counts.get("fp16", 0) / total if total else None
