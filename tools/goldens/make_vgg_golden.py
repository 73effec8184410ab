"""Make goldens of VGG-19's features with an independent implementation: NumPy loops over taps.

Run from the repository: python -m tools.goldens.make_vgg_golden [WEIGHTS.safetensors]

Writes vgg_random.json (weights from a seed, whole network) and, given the real weights up to conv4_1 with
torchvision's names, vgg_real.json.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tools.goldens import GOLDENS

Array = NDArray[np.float64]
# (index in torchvision's features, outputs, name of the activation kept); None is a 2x2 maximum
LAYERS: list[tuple[int, int, str] | None] = [
    (0, 64, "relu1_1"),
    (2, 64, ""),
    None,
    (5, 128, "relu2_1"),
    (7, 128, ""),
    None,
    (10, 256, "relu3_1"),
    (12, 256, ""),
    (14, 256, ""),
    (16, 256, ""),
    None,
    (19, 512, "relu4_1"),
    (21, 512, "relu4_2"),
    (23, 512, ""),
    (25, 512, ""),
    None,
    (28, 512, "relu5_1"),
]


def random_weights() -> dict[str, NDArray[np.float32]]:
    """Return He-initialized weights of the whole network from a seed."""
    rng = np.random.default_rng(19)
    weights, inputs = {}, 3
    for layer in LAYERS:
        if layer is not None:
            index, outputs, _ = layer
            scale = (2 / (9 * inputs)) ** 0.5
            weights[f"features.{index}.weight"] = rng.normal(0, scale, (outputs, inputs, 3, 3))
            weights[f"features.{index}.bias"] = rng.normal(0, 0.1, outputs)
            inputs = outputs
    return {name: value.astype(np.float32) for name, value in weights.items()}


def picture(size: int) -> Array:
    """Return a picture (3, size, size) in 0..1: waves, a ramp and noise."""
    y, x = np.mgrid[0:size, 0:size] / size
    noise = np.random.default_rng(7).random((3, size, size))
    waves = [np.sin(20 * x + 3 * y), np.cos(9 * y * x), x - y]
    return np.clip(0.5 + 0.35 * np.stack(waves) + 0.15 * (noise - 0.5), 0, 1)


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Convolve with 3x3 taps and reflected borders: (C, H, W) -> (O, H, W)."""
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    total = np.zeros((len(bias), height, width)) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + height, column : column + width]
            total += np.tensordot(weight[:, :, row, column], window, axes=1)
    return total


def features(weights: dict[str, NDArray[np.float32]], image: Array) -> dict[str, Array]:
    """Return activations by name, float64."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (image - mean[:, None, None]) / std[:, None, None]
    kept = {}
    for layer in LAYERS:
        if layer is None:
            channels, height, width = x.shape
            x = x.reshape(channels, height // 2, 2, width // 2, 2).max(axis=(2, 4))
            continue
        index, _, name = layer
        if f"features.{index}.weight" not in weights:
            break
        weight, bias = (weights[f"features.{index}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        x = np.maximum(convolve(x, weight, bias), 0)
        if name:
            kept[name] = x
    return kept


def key(values: Array) -> dict[str, Any]:
    """Return the golden of an activation: shape, moments and some values."""
    flat = values.ravel()
    return {
        "shape": list(values.shape),
        "mean": float(flat.mean()),
        "norm": float(np.linalg.norm(flat)),
        "some": [float(value) for value in flat[:: max(1, flat.size // 12)]],
    }


def main() -> None:
    goldens = {"vgg_random.json": random_weights()}
    if len(sys.argv) > 1:
        goldens["vgg_real.json"] = load_file(sys.argv[1])
    for name, weights in goldens.items():
        kept = {tap: key(values) for tap, values in features(weights, picture(64)).items()}
        (GOLDENS / name).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
