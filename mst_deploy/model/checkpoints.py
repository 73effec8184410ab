"""Weights in files: our checkpoints, and the pretrained trunks they start from.

A checkpoint is one safetensors file with ``generator.*`` and ``encoder.*`` tensors; its metadata holds
the network configuration and the training summary as JSON.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.networks import Generator, NetworkConfig, StyleEncoder

FORMAT = "mst-checkpoint-1"
StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """Both networks of one model, in evaluation mode, float32."""

    generator: Generator
    encoder: StyleEncoder | None
    """None where the injection needs no embedding (patch, johnson)."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the weights were made: recipe, data, figures."""

    @property
    def config(self) -> NetworkConfig:
        return self.generator.config

    @property
    def parts(self) -> dict[str, nn.Module]:
        encoder = {} if self.encoder is None else {"encoder": self.encoder}
        return {"generator": self.generator, **encoder}

    @property
    def film_encoder(self) -> StyleEncoder:
        """The encoder of a model that can be deployed. Raises InvalidArgument for any other injection."""
        if self.encoder is None or self.config.injection != "film":
            raise InvalidArgument(
                f"this model brings the style in by {self.config.injection!r}; only film models can be "
                "exported and run: train one with [mst train joint: injection=film]"
            )
        return self.encoder

    def copy_with(self, values: StateDict) -> Networks:
        """A copy on the CPU, in evaluation mode, with some of its tensors replaced."""
        state = {name: tensor.cpu() for name, tensor in self.state_dict().items()}
        return build_networks(self.config, {**state, **values}, self.training, Path("this model"))

    def state_dict(self) -> StateDict:
        return {
            f"{part}.{name}": tensor.detach()
            for part, module in self.parts.items()
            for name, tensor in module.state_dict().items()
        }

    def state_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters under the names of state_dict."""
        return {
            f"{part}.{name}": parameter
            for part, module in self.parts.items()
            for name, parameter in module.named_parameters()
        }


def new_networks(config: NetworkConfig, training: dict[str, Any] | None = None) -> Networks:
    """Both networks with random weights, in evaluation mode."""
    encoder = StyleEncoder(config).eval() if config.has_encoder else None
    return Networks(Generator(config).eval(), encoder, training or {})


def build_networks(
    config: NetworkConfig, state: StateDict, training: dict[str, Any], source: Path
) -> Networks:
    """Networks with the tensors of ``state``. Raises InputError, naming ``source``, on any mismatch."""
    networks = new_networks(config, training)
    wanted = networks.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise InputError(f"{source} is not a complete model: {missing[0]} is missing")
    for name, target in wanted.items():
        if state[name].shape != target.shape:
            raise InputError(
                f"{source} does not fit its own configuration: {name} has shape "
                f"{tuple(state[name].shape)}, expected {tuple(target.shape)}"
            )
        target.copy_(state[name])
    return networks


def save_checkpoint(path: Path, networks: Networks) -> None:
    """Write both networks, their configuration and their training summary."""
    metadata = {
        "format": FORMAT,
        "config": json.dumps(networks.config.to_dict()),
        "training": json.dumps(networks.training),
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in networks.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path) -> Networks:
    """Read what save_checkpoint wrote. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a checkpoint written by mst train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {path} as safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} is not a checkpoint of this program (format {metadata.get('format')!r}, "
            f"expected {FORMAT!r})"
        )
    config = NetworkConfig.from_dict(json.loads(metadata["config"]))
    return build_networks(config, state, json.loads(metadata["training"]), path)


def read_tensors(path: Path) -> StateDict:
    """All tensors of a .safetensors file or a PyTorch .pth state dict. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a weights file (.safetensors or .pth)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"cannot read weights from {path}: {error}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}, expected a state dict")
    return state


def fold_batch_norm(state: StateDict, eps: float = 1e-3) -> StateDict:
    """Fold ``X.bn.*`` into ``X.conv.weight`` and ``X.conv.bias``; states without bn pass unchanged.

    y = gamma (Wx - mean) / sqrt(var + eps) + beta. The default eps is Inception's.
    """
    folded: StateDict = {}
    for name, tensor in state.items():
        if not name.endswith(".conv.weight"):
            continue
        prefix = name.removesuffix(".conv.weight")
        if f"{prefix}.bn.weight" in state:
            scale = state[f"{prefix}.bn.weight"] / (state[f"{prefix}.bn.running_var"] + eps).sqrt()
            folded[name] = tensor * scale[:, None, None, None]
            shift = state[f"{prefix}.bn.running_mean"] * scale
            folded[f"{prefix}.conv.bias"] = state[f"{prefix}.bn.bias"] - shift
        else:
            folded[name] = tensor
            folded[f"{prefix}.conv.bias"] = state[f"{prefix}.conv.bias"]
    return folded


def load_trunk(module: nn.Module, state: StateDict, source: Path) -> None:
    """Copy the tensors that ``module`` has from a larger state. Raises InputError on what is missing."""
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise InputError(
            f"{source} lacks {missing[0]} and {len(missing) - 1} more tensors; "
            "give weights with torchvision's names"
        )
    module.load_state_dict({name: state[name].to(torch.float32) for name in wanted})


def load_inception(encoder: StyleEncoder, path: Path) -> None:
    """Fill the encoder's trunk from torchvision's Inception-v3 (.pth) or a folded safetensors file."""
    load_trunk(encoder.trunk, fold_batch_norm(read_tensors(path)), path)


def load_bundle(bundle: Bundle) -> Networks:
    """Both networks with the weights stored in a bundle's ONNX files, as float32.

    The exporter keeps parameter names as initializer names. Raises BundleError.
    """
    state: StateDict = {}
    for path in (bundle.generator, bundle.style_encoder):
        for initializer in onnx.load(path).graph.initializer:
            values = onnx.numpy_helper.to_array(initializer)
            if (
                initializer.data_type == onnx.TensorProto.BFLOAT16
            ):  # a type that torch.from_numpy does not know
                values = values.astype(np.float32)
            state[initializer.name] = torch.from_numpy(values.copy())
    config = NetworkConfig.from_dict(bundle.manifest.network)
    return build_networks(config, state, bundle.manifest.training, bundle.path)


def model_id(networks: Networks) -> str:
    """Identity of a model: 16 hexadecimal digits over its configuration and float16 weights.

    Rounding first makes the float16 and float32 exports of one model share their styles.
    """
    digest = hashlib.sha256(json.dumps(networks.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(networks.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def digest(module: nn.Module) -> str:
    """SHA-256 over a module's tensors rounded to float16, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.half().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
