"""Model bundles and their manifests.

A bundle is a folder: ``generator.onnx``, ``style_encoder.onnx`` and ``manifest.json``; it may also hold the
generator in 8 bits, ``generator_int8.onnx``. The manifest holds the SHA-256 of all graphs, so a stale or
foreign file is refused by name, and all that a backend or a user needs to know without opening the graphs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mst_deploy.errors import BundleError
from mst_deploy.files import sha256_of
from mst_deploy.model.film import FilmLayout

SCHEMA = 1
MANIFEST = "manifest.json"
GENERATOR = "generator.onnx"
STYLE_ENCODER = "style_encoder.onnx"
GENERATOR_INT8 = "generator_int8.onnx"


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json."""

    name: str
    model_id: str
    """Hash of the weights (rounded to float16), the same for every precision of one model."""
    precision: str
    """Type of the convolutions: fp16, fp32 or bf16."""
    network: dict[str, Any]
    """Configuration of the networks: widths, blocks, embedding size, injection."""
    film_layers: tuple[tuple[str, int], ...]
    """Layer name and channels, in order; a FiLM vector is gamma then beta of each."""
    min_size: int
    """Smallest height or width of a frame, in pixels. Any larger size works, odd ones too."""
    style_min_size: int
    """Smallest height or width of a style image."""
    style_size: int
    """Short side to which style images are resized before they are encoded."""
    files: dict[str, str]
    """SHA-256 of each file of the bundle, by name."""
    opset: int = 20
    kept_fp32: tuple[str, ...] = ()
    """Parts that stay in float32 inside an fp16 or bf16 graph."""
    checks: tuple[dict[str, Any], ...] = ()
    """Differences to PyTorch measured at export, per size."""
    training: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    """Versions of the programs that wrote the bundle."""
    int8: dict[str, Any] = field(default_factory=dict)
    """Calibration, layers and checks of the generator in 8 bits; empty for a bundle without one."""
    license: str = "Apache-2.0"
    schema: int = SCHEMA

    @property
    def layout(self) -> FilmLayout:
        """Layout of a FiLM vector."""
        return FilmLayout(self.film_layers, self.canvas_bands)

    @property
    def canvas_bands(self) -> int:
        """Number of bands of the canvas, the third input of the generator; 0 for a model without one."""
        return int(self.network.get("canvas_bands", 0))

    @property
    def film_size(self) -> int:
        """P, the length of a FiLM vector."""
        return self.layout.size

    def to_json(self) -> str:
        """Serialize the manifest in the form of manifest.json."""
        values = asdict(self)
        values["licence"] = values.pop("license")  # as schema 1 spells it
        if not self.int8:  # absent for bundles without, so that older programs read them
            del values["int8"]
        return json.dumps({**values, "film_size": self.film_size}, indent=2) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files match its manifest."""

    path: Path
    manifest: Manifest

    @property
    def generator(self) -> Path:
        """Path of the generator's graph."""
        return self.path / GENERATOR

    @property
    def style_encoder(self) -> Path:
        """Path of the style encoder's graph."""
        return self.path / STYLE_ENCODER

    @property
    def generator_int8(self) -> Path:
        """Path of the generator's graph in 8 bits. Raises BundleError for a bundle without one."""
        if GENERATOR_INT8 not in self.manifest.files:
            raise BundleError(
                f"the model bundle {self.path} has no generator in int8; make a bundle with one: mst export "
                f"{self.path} [option:precision] int8"
            )
        return self.path / GENERATOR_INT8


def open_bundle(path: Path) -> Bundle:
    """Read and verify a bundle folder. Raises BundleError, naming the file at fault."""
    manifest = read_manifest(path)
    for name in (GENERATOR, STYLE_ENCODER, *({GENERATOR_INT8} & manifest.files.keys())):
        file = path / name
        if not file.is_file():
            raise BundleError(f"the model bundle {path} is incomplete: {name} is missing; export it again")
        wanted, found = manifest.files.get(name), sha256_of(file)
        if wanted != found:
            raise BundleError(
                f"{file} is not the file this bundle was made with (SHA-256 {found[:12]}..., the "
                f"manifest says {str(wanted)[:12]}...); it is damaged or from another model: "
                "copy or export the whole bundle again"
            )
    return Bundle(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """Parse ``path``/manifest.json. Raises BundleError."""
    if not path.is_dir():
        raise BundleError(f"{path} is not a model bundle: give the folder written by mst export")
    file = path / MANIFEST
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is not a model bundle: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {file}: {error}; export the bundle again") from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{file} has schema {schema}, this program reads {SCHEMA}; "
            "use the version of mst that made it or export the bundle again"
        )
    values.pop("film_size", None)
    if "licence" in values:  # as schema 1 spells it
        values["license"] = values.pop("licence")
    try:
        values["film_layers"] = tuple((str(name), int(width)) for name, width in values["film_layers"])
        for listed in ("kept_fp32", "checks"):
            values[listed] = tuple(values.get(listed, ()))
        return Manifest(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{file} is incomplete or has unknown entries: {error}") from error
