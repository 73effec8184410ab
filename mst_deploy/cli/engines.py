"""The commands ``mst build`` and ``mst engines ...``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mst_deploy.cli.options import (
    JsonOption,
    ModelArgument,
    ModelOption,
    QuietOption,
    requires,
    terminal,
)

engines_app = typer.Typer(help="Manage the TensorRT engines that were built.", no_args_is_help=True)


def build(
    model: ModelArgument = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of all frames: the fastest engine.")] = None,
    flavor: Annotated[
        str | None,
        typer.Option(help="rtx (TensorRT for RTX) or tensorrt. Default: rtx where it is installed."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Compute capabilities for rtx, such as 8.6,8.9. Default: 8.0,8.6,8.9,12.0,12.1."),
    ] = None,
    smallest: Annotated[str | None, typer.Option("--min", help="Smallest frames, with --opt, --max.")] = None,
    typical: Annotated[str | None, typer.Option("--opt", help="Frames to be fastest at.")] = None,
    largest: Annotated[str | None, typer.Option("--max", help="Largest frames.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 1,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="Most scratch memory of a layer, MiB. Default: TensorRT's.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0 builds fast, 5 runs fast. Default: 3.")
    ] = None,
    timing_cache: Annotated[bool, typer.Option(help="Reuse what earlier builds have measured.")] = True,
    rewrite: Annotated[
        bool, typer.Option(help="Replace operators by cheaper ones that compute the same.")
    ] = True,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs with later TensorRT of the same major too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Built for any GPU from Ampere on; slower.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="Leave the weights out of the engine.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Build even if the engine exists.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a TensorRT engine and keep it for --backend trt.

    With TensorRT for RTX it is built without a GPU for all that have one of the compute capabilities, and
    verified by the first GPU that opens it; with TensorRT for this machine's GPU, and verified at once.
    """
    from mst_deploy.cli.console import print_result
    from mst_deploy.model.zoo import resolve_model

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
        from mst_deploy.engines.build import BuildOptions
    request = command.Request(
        resolve_model(model),
        size,
        smallest,
        typical,
        largest,
        batch,
        BuildOptions(workspace, optimization_level, version_compatible, hardware_compatible, strip_weights),
        rewrite,
        timing_cache,
        force,
        terminal(quiet=quiet or as_json),
        flavor,
        tuple(target or ()),
    )
    engine, fresh = command.build(request)
    text = f"{engine.path}: {'built' if fresh else 'already there'}, {command.state_of(engine)}"
    values = {
        "engine": str(engine.path),
        "built_now": fresh,
        "flavor": engine.identity.flavor,
        "targets": list(engine.identity.targets),
        "verified": [asdict(verification) for verification in engine.verifications],
        **engine.built,
    }
    print_result(text, values, as_json=as_json, quiet=quiet)


@engines_app.command("list")
def engines_list(as_json: JsonOption = False) -> None:
    """List all engines: what they run on, where they were verified, and which this machine cannot use."""
    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    _show(command.list_engines(), as_json)


@engines_app.command("explain")
def engines_explain(
    name: Annotated[str, typer.Argument(help="File name, from mst engines list.")],
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the details of one engine: what it requires, how it was verified, what it contains."""
    from mst_deploy.model.zoo import resolve_model

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    _show([command.explain(name, resolve_model(model))], as_json)


@engines_app.command("verify")
def engines_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="File names. Default: all.")
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read engines against their checksums; run those that fit this machine and model."""
    from mst_deploy.model.zoo import resolve_model

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    found = command.verify_engines(names or [], resolve_model(model))
    _show(found, as_json)
    if any("error" in record for record in found):
        raise typer.Exit(1)


@engines_app.command("prune")
def engines_prune(
    everything: Annotated[bool, typer.Option("--all", help="Remove every engine and timing cache.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove engines that this machine cannot use, and damaged ones."""
    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    removed = command.prune(everything=everything, dry_run=dry_run)
    _show([{"name": name, "removed": not dry_run} for name in removed], as_json)


def _show(records: list[dict[str, Any]], as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(records, ensure_ascii=False))
        return
    for record in records:
        name = record.get("name") or record.get("error")
        print(name)
        for key, value in record.items():
            if key not in ("name", "error") or value != name:
                print(f"  {key}: {value}")
    if not records:
        print("no engines")
