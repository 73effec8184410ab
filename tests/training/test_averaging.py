"""Tests of model soups: the mean of weights, for one shape, with the recipes of all models."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import Networks, load_checkpoint, new_networks, save_checkpoint
from mst_deploy.model.networks import NetworkConfig
from mst_deploy.training.averaging import averaged, main

CONFIG = NetworkConfig(widths=(4, 5, 6), residual_blocks=1, embedding_size=6)


def networks(seed: int, config: NetworkConfig = CONFIG) -> Networks:
    torch.manual_seed(seed)
    made = new_networks(config)
    return Networks(made.generator, made.encoder, {"seed": seed})


def test_every_tensor_is_the_mean_and_the_models_stay() -> None:
    models = [networks(seed) for seed in (1, 2, 3)]
    mean = averaged(models)
    assert mean.training == {"mean_of": [{"seed": 1}, {"seed": 2}, {"seed": 3}]}
    for name, tensor in mean.state_dict().items():
        one, two, three = (model.state_dict()[name] for model in models)
        torch.testing.assert_close(tensor, (one + two + three) / 3, rtol=1e-5, atol=1e-6)
    again = networks(1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in models[0].state_dict().items())


def test_a_model_with_itself_is_itself() -> None:
    model = networks(1)
    for name, tensor in averaged([model, model]).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_what_has_no_mean_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="two models"):
        averaged([networks(1)])
    with pytest.raises(InvalidArgument, match="different shapes"):
        averaged([networks(1), networks(1, replace(CONFIG, residual_blocks=2))])


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    for seed in (1, 2):
        save_checkpoint(tmp_path / f"{seed}.safetensors", networks(seed))
    files = [str(tmp_path / name) for name in ("1.safetensors", "2.safetensors", "mean.safetensors")]
    command = typer.Typer()
    command.command()(main)
    done = CliRunner().invoke(command, [*files[:2], "-o", files[2]], catch_exceptions=False)
    assert done.exit_code == 0
    expected = averaged([networks(1), networks(2)]).state_dict()
    found = load_checkpoint(Path(files[2])).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    alone = subprocess.run(
        [sys.executable, "-m", "mst_deploy.training.averaging", files[0], "-o", files[2]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (alone.returncode, "Traceback" in alone.stderr) == (2, False)
