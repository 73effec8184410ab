"""``mst export``."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.console import print_result, progress
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.export.to_onnx import PRECISIONS, export_bundle
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.checkpoints import Networks, load_bundle, load_checkpoint
from mst_deploy.model.zoo import resolve_model
from mst_deploy.options import require_writable


def read_networks(source: Path) -> Networks:
    """Of a checkpoint or a bundle. Raises InputError."""
    if source.is_file():
        return load_checkpoint(source)
    bundle = open_bundle(source)
    if bundle.manifest.precision == "bf16":
        raise InputError(
            f"the weights in {source} are rounded to bfloat16; export from the checkpoint, or from a bundle "
            "in fp16 or fp32"
        )
    return load_bundle(bundle)


def export(
    model: str | Path | None,
    precision: str,
    output: Path | None,
    *,
    opset: int,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> Path:
    """Read weights, export, print what was checked -> the bundle written."""
    if precision not in PRECISIONS:
        raise InvalidArgument(field="precision", problem=f"unknown precision {precision!r}", hint=f"choose one of {', '.join(PRECISIONS)}")
    source = resolve_model(model)
    target = output or Path(f"{source.stem}-{precision}")
    require_writable(target, source, force=force)
    with progress(f"exporting {source.name} and checking it against PyTorch", None, quiet=quiet or as_json):
        bundle = export_bundle(read_networks(source), target, precision, name=target.name, opset=opset)
    checks = bundle.manifest.checks
    lines = [
        f"  {check['size']}: largest pixel difference {check['max_pixel_difference']}, "
        f"PSNR {check['psnr_db']} dB"
        for check in checks
        if "size" in check
    ]
    print_result(
        "\n".join([f"{target} ({precision}), checked against PyTorch:", *lines]),
        {"output": str(target), "precision": precision, "checks": list(checks)},
        as_json=as_json,
        quiet=quiet,
    )
    return target
