"""The mean of several models' weights: ``python -m mst_deploy.training.averaging A B -o CHECKPOINT``.

Models that were trained on from the same weights differ by what their last steps made of it, partly noise;
their mean is often better than each of them (Wortsman et al. 2022, "Model soups", arXiv 2203.05482) and costs
nothing. Models that never met give nothing of use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from mst_deploy.cli.options import run_alone
from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import Networks, save_checkpoint
from mst_deploy.training.command import open_weights


def averaged(models: Sequence[Networks]) -> Networks:
    """Networks whose every tensor is the mean of the models'; their recipes are kept under ``mean_of``.

    Raises InvalidArgument for fewer than two models, or of different shapes.
    """
    if len(models) < 2:
        raise InvalidArgument("a mean needs two models or more")
    first = models[0]
    if any(model.config != first.config for model in models):
        raise InvalidArgument("the models are of different shapes; only models of one shape have a mean")
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor)
        for name, tensor in states[0].items()
    }
    done = first.copy_with(mean)
    return Networks(done.generator, done.encoder, {"mean_of": [model.training for model in models]})


def main(
    models: Annotated[list[str], typer.Argument(help="Checkpoints, bundles or shipped models.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write (.safetensors).")],
) -> None:
    """Write the mean of several models' weights."""
    save_checkpoint(output, averaged([open_weights(model) for model in models]))
    print(f"{output}; export it with: mst export {output}")


if __name__ == "__main__":
    run_alone(main)
