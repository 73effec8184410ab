"""Implementation of ``mst export``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.export.int8 import export_int8
from mst_deploy.export.options import ExportOptions
from mst_deploy.export.to_onnx import PRECISIONS, export_bundle
from mst_deploy.files import require_writable
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.checkpoints import Networks, load_bundle, load_checkpoint
from mst_deploy.model.zoo import resolve_model
from mst_deploy.reporter import SILENT, Reporter

INT8 = "int8"


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
    """Read weights and export them; return the bundle, checked against PyTorch.

    With the precision int8 the generator is in the bundle twice: as in a bundle in fp16 (or in the bundle
    that is given), and in 8 bits, calibrated with styles.
    """
    precision = options.precision
    if precision not in (*PRECISIONS, INT8):
        raise InvalidArgument(
            field="precision",
            problem=f"unknown precision {precision!r}",
            hint=f"choose one of {', '.join((*PRECISIONS, INT8))}",
        )
    if options.styles and precision != INT8:
        raise InvalidArgument(
            field="style",
            problem=f"no styles are needed for {precision}",
            hint="leave out [option:style], or choose [option:precision] int8",
        )
    if options.engine is not None and precision == INT8:
        raise InvalidArgument(
            field="engine",
            problem="TensorRT engines are built in fp16, fp32 and bf16 only",
            hint="leave out [option:engine], or choose another [option:precision]",
        )
    source = resolve_model(options.source)
    target = options.output or Path(f"{source.stem}-{precision}")
    require_writable(target, source, force=options.force)
    if precision == INT8:
        return export_with_int8(source, target, options, reporter)
    with reporter.progress(f"exporting {source.name} and checking it against PyTorch", None):
        return export_bundle(read_networks(source), target, precision, name=target.name, opset=options.opset)


def export_with_int8(source: Path, target: Path, options: ExportOptions, reporter: Reporter) -> Bundle:
    """Copy a bundle, or export a checkpoint in fp16, and add the generator in 8 bits."""
    opset = options.opset
    if source.is_dir():
        found = open_bundle(source).manifest.opset
        if found != opset:
            raise InvalidArgument(
                field="opset",
                problem=f"the graphs of {source} have opset {found} and are copied as they are",
                hint=f"choose [option:opset] {found}, or export from the checkpoint",
            )
        return export_int8(source, target, options.styles, reporter=reporter)
    with TemporaryDirectory() as folder:
        with reporter.progress(f"exporting {source.name} and checking it against PyTorch", None):
            bundle = export_bundle(read_networks(source), Path(folder) / "fp16", "fp16", opset=opset)
        return export_int8(bundle.path, target, options.styles, reporter=reporter)
