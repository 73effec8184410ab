"""The command ``mst export``."""

from __future__ import annotations

from mst_deploy.cli.engines import build_engine
from mst_deploy.cli.options import MessageOptions, requires
from mst_deploy.engines.options import Request as BuildRequest
from mst_deploy.export.options import ExportOptions


def export(options: ExportOptions, messages: MessageOptions) -> None:
    """Write a model as two ONNX graphs with a manifest, verified against PyTorch."""
    from mst_deploy.cli.console import print_result

    if options.triton is not None:
        from mst_deploy.export.triton import export_options

        made = export_options(options)
        print_result(
            f"{made.path}: {' and '.join(made.models)}, version {made.version}",
            {"output": str(made.path), "models": list(made.models), "version": made.version},
            as_json=messages.as_json,
            quiet=messages.quiet,
        )
        return
    with requires("export", "mst export"):
        from mst_deploy.export import command
    bundle = command.export(options, messages.reporter())
    target, checks, precision = bundle.path, bundle.manifest.checks, options.precision
    if precision == "int8":
        from mst_deploy.export.int8 import report

        facts = bundle.manifest.int8
        lines = [
            f"{target} (int8, and the graph it was made of), checked against float32:",
            *report(facts),
            "  run it with: --backend openvino:int8",
        ]
        result = {"output": str(target), "precision": precision, **facts}
        print_result("\n".join(lines), result, as_json=messages.as_json, quiet=messages.quiet)
        return
    lines = [
        f"  {check['size']}: largest pixel difference {check['max_pixel_difference']}, "
        f"PSNR {check['psnr_db']} dB"
        for check in checks
        if "size" in check
    ]
    print_result(
        "\n".join([f"{target} ({precision}), checked against PyTorch:", *lines]),
        {"output": str(target), "precision": precision, "checks": list(checks)},
        as_json=messages.as_json,
        quiet=messages.quiet,
    )
    if options.engine is not None:
        build_engine(BuildRequest(str(target.absolute()), size=options.engine), messages)
