"""Layers of an engine, as reported by TensorRT's inspector."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

HALVES = ("half", "fp16", "float16")
FULLS = ("float", "fp32", "float32")


def layers_of(trt: Any, engine: Any) -> list[dict[str, Any]]:
    """Return the inspector's layers; [] if the engine was built without details."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", []) if text else []
    return [layer for layer in layers if isinstance(layer, dict)]


def convolution_types(layers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the convolutions by type: fp16, fp32, other; the type is that of their input."""
    counts = Counter(
        type_of(layer["Inputs"][0])
        for layer in layers
        if "conv" in str(layer.get("LayerType", "")).lower() and layer.get("Inputs")
    )
    return dict(counts)


def type_of(tensor: Mapping[str, Any]) -> str:
    """Return fp16, fp32 or other. Up to version 10 the type is in "Format/Datatype", in 11 in "Datatype"."""
    words = (
        str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "").lower().replace("-", " ").split()
    )
    if any(word in HALVES for word in words):
        return "fp16"
    return "fp32" if any(word in FULLS for word in words) else "other"


def half_share(layers: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of the convolutions that run in float16; None if the inspector shows none."""
    counts = convolution_types(layers)
    total = sum(counts.values())
    return counts.get("fp16", 0) / total if total else None
