"""Tests of pruned networks against invariants: identity, and the removal of channels without effect."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import Networks, new_networks
from mst_deploy.model.networks import NetworkConfig
from mst_deploy.training.config import RECIPES
from mst_deploy.training.pruning import head_gain, importance, kept_blocks, prune_channels, split_film, wiring
from tests.flops import multiply_adds_per_pixel

WIDE = NetworkConfig(widths=(6, 8, 10), residual_blocks=3, embedding_size=6)
NARROW = replace(WIDE, widths=(4, 5, 7))
ATOL = 1e-5  # outputs are 0..1; the same sums in another order


@torch.no_grad()
def wide_networks() -> Networks:
    """Random networks whose average style has no two equal gammas."""
    torch.manual_seed(0)
    networks = new_networks(WIDE)
    bias = networks.film_encoder.film.bias
    bias.add_(0.3 * torch.randn(len(bias)))
    return networks


def painted(networks: Networks, embedding: Tensor) -> Tensor:
    images = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        result: Tensor = networks.generator(images, networks.film_encoder.film_of(embedding))
    return result


def embeddings() -> Tensor:
    return torch.randn(2, WIDE.embedding_size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def kill(networks: Networks, dead: dict[str, list[int]]) -> None:
    """Make channels of each set add nothing: gamma and beta are 0 for every style, and nobody reads them."""
    film = networks.film_encoder.film
    weights = networks.generator.state_dict()
    for values in (film.weight, film.bias):
        for part in split_film(values, networks.config):
            for layer in wiring(range(networks.config.residual_blocks)):
                if layer.norm is not None:
                    part[layer.norm][dead.get(layer.writes, [])] = 0
    for layer in wiring(range(networks.config.residual_blocks)):
        weights[layer.weight][:, dead.get(layer.reads, [])] = 0


def test_the_same_configuration_is_the_same_network() -> None:
    wide = wide_networks()
    same = prune_channels(wide, WIDE)
    for name, tensor in wide.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    assert torch.equal(painted(same, embeddings()), painted(wide, embeddings()))


def test_dead_channels_are_the_ones_that_go_and_nobody_sees_it() -> None:
    wide = wide_networks()
    dead = {
        "stem": [0, 4],
        "down1": [1, 2, 7],
        "stream": [0, 5, 9],
        "up1": [3, 4, 6],
        "up2": [2, 5],
        **{f"inside block {i}": [i, i + 3, i + 5] for i in range(3)},
    }
    kill(wide, dead)
    prune_from = prune_channels(wide, NARROW)
    assert prune_from.config == NARROW
    torch.testing.assert_close(
        painted(prune_from, embeddings()), painted(wide, embeddings()), atol=ATOL, rtol=0
    )


def test_a_block_that_adds_nothing_is_not_missed() -> None:
    wide = wide_networks()
    film = wide.film_encoder.film
    with torch.no_grad():
        for values in (film.weight, film.bias):
            for part in split_film(values, WIDE):
                part["blocks.1.norm2"].zero_()
    shorter = prune_channels(wide, replace(WIDE, residual_blocks=2))
    torch.testing.assert_close(painted(shorter, embeddings()), painted(wide, embeddings()), atol=ATOL, rtol=0)


@pytest.mark.parametrize(
    ("old", "new", "kept"), [(5, 4, [0, 1, 2, 4]), (5, 1, [4]), (3, 3, [0, 1, 2]), (4, 0, [])]
)
def test_first_blocks_and_the_last_stay(old: int, new: int, kept: list[int]) -> None:
    assert kept_blocks(old, new) == kept


def test_film_vectors_are_parts_of_the_originals() -> None:
    """Gamma and beta of one channel stay together, in the order they had, and follow their convolution."""
    wide = wide_networks()
    config = replace(NARROW, residual_blocks=2)
    prune_from = prune_channels(wide, config)
    whole = split_film(wide.film_encoder.film_of(embeddings())[0], WIDE)
    part = split_film(prune_from.film_encoder.film_of(embeddings())[0], config)
    before, after = wide.generator.state_dict(), prune_from.generator.state_dict()
    pairs = zip(wiring([0, 2]), wiring([0, 1]), strict=True)
    for old, new in ((old, new) for old, new in pairs if old.norm and new.norm):
        gammas = whole[0][old.norm].tolist()  # type: ignore[index]
        places = [gammas.index(value) for value in part[0][new.norm].tolist()]  # type: ignore[index]
        assert places == sorted(set(places))
        torch.testing.assert_close(part[1][new.norm], whole[1][old.norm][places], rtol=0, atol=0)  # type: ignore[index]
        if old.reads == "pixels":
            assert torch.equal(after[new.weight], before[old.weight][places])


def test_encoder_keeps_what_it_sees() -> None:
    wide = wide_networks()
    prune_from = prune_channels(wide, NARROW).film_encoder.state_dict()
    for name, tensor in wide.film_encoder.state_dict().items():
        if not name.startswith("film."):
            assert torch.equal(prune_from[name], tensor), name


def test_importance_is_gamma_times_the_weights_that_read() -> None:
    wide = wide_networks()
    weights = wide.generator.state_dict()
    gammas, _ = split_film(wide.film_encoder.film.bias.detach(), WIDE)
    found = importance(wiring(range(3)), weights, gammas)
    down1 = gammas["down1.norm"].abs() * torch.stack(
        [w.norm() for w in weights["down2.conv.weight"].unbind(1)]
    )
    torch.testing.assert_close(found["down1"], down1)
    writers = ["down2.norm", *(f"blocks.{i}.norm2" for i in range(3))]
    readers = ["up1.conv.weight", *(f"blocks.{i}.first.conv.weight" for i in range(3))]
    norms = sum(torch.stack([w.norm() for w in weights[name].unbind(1)]) for name in readers)
    torch.testing.assert_close(found["stream"], sum(gammas[name].abs() for name in writers) * norms)


def test_the_head_regains_what_it_lost() -> None:
    """sqrt(old / new) for equal channels, nothing for dead ones."""
    assert head_gain(torch.full((32,), 3.0), torch.arange(16)) == pytest.approx(2**0.5)
    assert head_gain(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0, 2])) == 1.0
    assert head_gain(torch.zeros(4), torch.arange(2)) == 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(WIDE, widths=(6, 9, 10)), "widths (6, 9, 10) are more than the (6, 8, 10)"),
        (replace(WIDE, residual_blocks=4), "4 residual blocks are more than the 3"),
        (replace(WIDE, injection="add"), "keeps its injection: it is 'film', not 'add'"),
        (replace(WIDE, statistics="mean"), "keeps its statistics: it is 'moments', not 'mean'"),
        (replace(WIDE, hidden_size=8), "keeps its hidden_size: it is 512, not 8"),
        (replace(WIDE, embedding_size=5), "keeps its embedding_size: it is 6, not 5"),
    ],
)
def test_what_cannot_be_cut_out_is_refused(config: NetworkConfig, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        prune_channels(wide_networks(), config)


def test_only_film_models_are_narrowed() -> None:
    config = replace(WIDE, injection="add")
    with pytest.raises(
        InvalidArgument, match="only film models can be narrowed; this one brings the style in by 'add'"
    ):
        prune_channels(new_networks(config), config)


def test_the_lite_recipe_is_a_quarter_of_the_default() -> None:
    """37,728 multiply-adds a pixel without the canvas, 153,792 for the default."""
    lite, default = RECIPES["lite"], RECIPES["default"]
    assert multiply_adds_per_pixel(replace(lite.network, canvas_bands=0, oriented_canvas=False)) == 37_728
    assert multiply_adds_per_pixel(replace(default.network, canvas_bands=0, oriented_canvas=False)) == 153_792
    for recipe, plain in ((lite, 37_728), (default, 153_792)):
        assert plain < multiply_adds_per_pixel(recipe.network) <= 1.03 * plain
    assert replace(lite, network=default.network) == default
