"""``mst export``."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.console import answer, progress
from mst_deploy.errors import InvalidArgument
from mst_deploy.export.to_onnx import PRECISIONS, export_bundle
from mst_deploy.manifest import open_bundle
from mst_deploy.options import free_to_write
from mst_deploy.shipped import DEFAULT_BUNDLE
from mst_deploy.weights import load_bundle, load_checkpoint


def export(
    source: Path | None,
    precision: str,
    output: Path | None,
    *,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Read weights, export, print what was checked."""
    if precision not in PRECISIONS:
        raise InvalidArgument(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    source = source or DEFAULT_BUNDLE
    target = output or Path(f"{source.stem}-{precision}")
    free_to_write(target, source, force=force)
    with progress(f"exporting {source.name} and checking it against PyTorch", None, quiet=quiet or as_json):
        networks = load_checkpoint(source) if source.is_file() else load_bundle(open_bundle(source))
        bundle = export_bundle(networks, target, precision, name=target.name)
    checks = bundle.manifest.checks
    lines = [
        f"  {check['size']}: largest pixel difference {check['max_pixel_difference']}, "
        f"PSNR {check['psnr_db']} dB"
        for check in checks
        if "size" in check
    ]
    answer(
        "\n".join([f"{target} ({precision}), checked against PyTorch:", *lines]),
        {"output": str(target), "precision": precision, "checks": list(checks)},
        as_json=as_json,
        quiet=quiet,
    )
