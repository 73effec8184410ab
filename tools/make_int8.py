"""Make the shipped generators in 8 bits: ``python -m tools.make_int8 [MODEL...]``.

Run it after a shipped model and its styles have changed (``tools.make_styles`` first): its bundle gets a new
``generator_int8.onnx`` and a manifest that states how it was made. Minutes for each model on two cores.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mst_deploy.cli.console import Terminal
from mst_deploy.cli.options import run_alone
from mst_deploy.export.int8 import export_int8, report
from mst_deploy.model.zoo import MODELS, bundle_path


def main(models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL...]")] = None) -> None:
    """Quantize shipped models in their folders."""
    for model in models or MODELS:
        folder = bundle_path(model)
        bundle = export_int8(folder, folder, name=model, reporter=Terminal(quiet=False))
        print("\n".join([f"{bundle.generator_int8}:", *report(bundle.manifest.int8)]), flush=True)


if __name__ == "__main__":
    run_alone(main)
