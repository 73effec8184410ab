"""Implementation of ``mst export``."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.export.options import ExportOptions
from mst_deploy.export.to_onnx import PRECISIONS, export_bundle
from mst_deploy.files import require_writable
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.checkpoints import Networks, load_bundle, load_checkpoint
from mst_deploy.model.zoo import resolve_model
from mst_deploy.reporter import SILENT, Reporter


def read_networks(source: Path) -> Networks:
    """Return the networks of a checkpoint or a bundle. Raises InputError, BundleError."""
    if source.is_file():
        return load_checkpoint(source)
    bundle = open_bundle(source)
    if bundle.manifest.precision == "bf16":
        raise InputError(
            f"the weights in {source} are rounded to bfloat16; export from the checkpoint, or from a bundle "
            "in fp16 or fp32"
        )
    return load_bundle(bundle)


def export(options: ExportOptions, reporter: Reporter = SILENT) -> Bundle:
    """Read weights and export them; return the bundle, checked against PyTorch."""
    precision = options.precision
    if precision not in PRECISIONS:
        raise InvalidArgument(
            field="precision",
            problem=f"unknown precision {precision!r}",
            hint=f"choose one of {', '.join(PRECISIONS)}",
        )
    source = resolve_model(options.source)
    target = options.output or Path(f"{source.stem}-{precision}")
    require_writable(target, source, force=options.force)
    with reporter.progress(f"exporting {source.name} and checking it against PyTorch", None):
        return export_bundle(read_networks(source), target, precision, name=target.name, opset=options.opset)
