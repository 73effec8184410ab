"""The commands ``mst build`` and ``mst engines ...``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import typer

from mst_deploy.cli.options import JsonOptions, MessageOptions, requires
from mst_deploy.engines.options import ExplainOptions, PruneOptions, Request, VerifyOptions


def build(request: Request, messages: MessageOptions) -> None:
    """Build a TensorRT engine and keep it for --backend trt.

    With TensorRT for RTX it is built without a GPU, for every GPU with one of the compute capabilities, and
    verified when such a GPU first opens it. With TensorRT it is for the GPU of this machine.
    """
    build_engine(request, messages)


def build_engine(request: Request, messages: MessageOptions) -> None:
    """Build the engine and print where it is."""
    from mst_deploy.cli.console import print_result

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    request = replace(request, reporter=messages.reporter())
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
    print_result(text, values, as_json=messages.as_json, quiet=messages.quiet)


def engines_list(messages: JsonOptions) -> None:
    """List all engines: what they run on, where they were verified, and which this machine cannot use."""
    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    _show(command.list_engines(), messages)


def engines_explain(engine: ExplainOptions, messages: JsonOptions) -> None:
    """Show the details of one engine: what it requires, how it was verified, what it contains."""
    from mst_deploy.model.zoo import resolve_model

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    _show([command.explain(engine.name, resolve_model(engine.model))], messages)


def engines_verify(engines: VerifyOptions, messages: JsonOptions) -> None:
    """Read engines against their checksums; run those that fit this machine and model."""
    from mst_deploy.model.zoo import resolve_model

    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    found = command.verify_engines(engines.names, resolve_model(engines.model))
    _show(found, messages)
    if any("error" in record for record in found):
        raise typer.Exit(1)


def engines_prune(engines: PruneOptions, messages: JsonOptions) -> None:
    """Remove engines that this machine cannot use, and damaged ones."""
    with requires("rtx", "mst build"):
        from mst_deploy.engines import command
    removed = command.prune(everything=engines.everything, dry_run=engines.dry_run)
    _show([{"name": name, "removed": not engines.dry_run} for name in removed], messages)


def _show(records: list[dict[str, Any]], messages: JsonOptions) -> None:
    import json

    if messages.as_json:
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
