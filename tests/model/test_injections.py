"""Tests of every injection: it conditions the generator as documented, and has no effect where there can
be none."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.model.injections import INJECTIONS, patch
from mst_deploy.model.injections.base import Places, PlainNorms, as_map
from mst_deploy.model.networks import Generator, NetworkConfig
from mst_deploy.training.style_network import StyleNetwork

Array = NDArray[Any]
SMALL = {"widths": (4, 6, 8), "residual_blocks": 2, "embedding_size": 6, "embedding_norm": 2.5}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def generator_of(injection: str) -> Generator:
    torch.manual_seed(3)
    return Generator(NetworkConfig(injection=injection, **SMALL)).eval()  # type: ignore[arg-type]


def condition_of(injection: str, seed: int, count: int = 1) -> Any:
    """A condition of the right form for ``count`` pictures of 32x32."""
    noise = torch.Generator().manual_seed(seed)
    needs = INJECTIONS[injection].NEEDS
    if needs == "film":
        layout = NetworkConfig(**SMALL).film_layout  # type: ignore[arg-type]
        vector = torch.from_numpy(layout.identity()) + 0.3 * torch.randn(count, layout.size, generator=noise)
        return vector
    if needs == "embedding":
        return torch.randn(count, 6, generator=noise)
    if needs == "features":
        content = torch.rand(count, 256, 8, 8, generator=torch.Generator().manual_seed(0))
        return content, torch.rand(count, 256, 10, 9, generator=noise)
    return None


@pytest.mark.parametrize("injection", INJECTIONS)
@torch.no_grad()
def test_output_follows_the_condition_and_nothing_else(injection: str) -> None:
    generator, image = generator_of(injection), torch.rand(1, 3, 32, 32)
    first, again, other = (generator(image, condition_of(injection, seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    if injection == "johnson":
        torch.testing.assert_close(first, other, rtol=0, atol=0)
    else:
        assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize("injection", [name for name in INJECTIONS if name != "johnson"])
@torch.no_grad()
def test_each_picture_of_a_batch_has_its_own_condition(injection: str) -> None:
    generator, images = generator_of(injection), torch.rand(2, 3, 32, 32)
    both = condition_of(injection, 5, count=2)
    together = generator(images, both)
    for row in range(2):
        own = tuple(part[row : row + 1] for part in both) if isinstance(both, tuple) else both[row : row + 1]
        torch.testing.assert_close(together[row : row + 1], generator(images[row : row + 1], own))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_gradient_reaches_every_parameter_that_matters(injection: str) -> None:
    generator = generator_of(injection).train()
    condition = condition_of(injection, 1)
    target = torch.rand(1, 3, 32, 32)
    (generator(torch.rand(1, 3, 32, 32), condition) - target).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        if name == "injection.affine":
            dead = dead_places(generator)
            assert (parameter.grad[0, ~dead] != 0).float().mean() > 0.9
            assert parameter.grad[0, dead].abs().max() < 1e-5 * parameter.grad.abs().max()


def dead_places(generator: Generator) -> torch.Tensor:
    """Entries of a FiLM vector without effect: the shift of each block's second normalization.

    It goes down the skip path as a constant and the normalization after the trunk takes it away. Where
    the next block applies a ReLU to its input, that is true of the last block alone.
    """
    plain = generator.config.injection in ("film", "johnson")
    ending = "norm2" if plain else f"blocks.{generator.config.residual_blocks - 1}.norm2"
    dead = []
    for name, channels in generator.layout.layers:
        dead += [False] * channels + [name.endswith(ending)] * channels
    return torch.tensor(dead)


@torch.no_grad()
def test_shift_of_a_blocks_second_normalization_has_no_effect_with_film() -> None:
    generator, image = generator_of("film"), torch.rand(1, 3, 32, 32)
    vector = condition_of("film", 1)
    dead = dead_places(generator)
    moved = torch.where(dead, vector + 0.5, vector)
    torch.testing.assert_close(generator(image, vector), generator(image, moved), rtol=0, atol=1e-5)
    moved = torch.where(~dead, vector + 0.5, vector)
    assert (generator(image, vector) - generator(image, moved)).abs().max() > 1e-2


@torch.no_grad()
def test_constant_maps_before_a_normalized_convolution_are_lost() -> None:
    """Why the injections pass a ReLU: instance normalization takes away what is constant over the map."""
    x, z = torch.randn(1, 5, 12, 12), torch.randn(1, 5, 1, 1)
    weight = torch.randn(7, 5, 3, 3)

    def layer(features: torch.Tensor) -> torch.Tensor:
        return F.instance_norm(F.conv2d(F.pad(features, (1, 1, 1, 1), mode="reflect"), weight))

    torch.testing.assert_close(layer(x + z), layer(x), rtol=0, atol=1e-4)
    assert (layer(F.relu(x + z)) - layer(F.relu(x))).abs().max() > 0.1


def test_unknown_injection_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"'adain'.*film, concat"):
        NetworkConfig(injection="adain")


@pytest.mark.parametrize("injection", INJECTIONS)
def test_only_film_can_be_deployed(injection: str) -> None:
    networks = new_networks(NetworkConfig(injection=injection, **SMALL))  # type: ignore[arg-type]
    if injection == "film":
        assert networks.film_encoder is networks.encoder
    else:
        with pytest.raises(InvalidArgument, match=f"'{injection}'.*only film"):
            _ = networks.film_encoder


# --- patch matching --------------------------------------------------------------------------


def brute_force_match(content: Array, style: Array) -> Array:
    """Loops: for each content patch the number of the style patch with the largest cosine."""

    def all_patches(x: Array) -> list[Array]:
        rows, columns = range(x.shape[1] - 2), range(x.shape[2] - 2)
        return [x[:, i : i + 3, j : j + 3].ravel() for i in rows for j in columns]

    offered = all_patches(style)
    best = [
        int(np.argmax([wanted @ s / np.linalg.norm(s) / np.linalg.norm(wanted) for s in offered]))
        for wanted in all_patches(content)
    ]
    return np.array(best).reshape(content.shape[1] - 2, content.shape[2] - 2)


def test_match_equals_brute_force_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    content, style = torch.rand(4, 7, 6), torch.rand(4, 5, 8)
    expected = brute_force_match(content.double().numpy(), style.double().numpy())
    np.testing.assert_array_equal(patch.match(content, style).numpy(), expected)
    monkeypatch.setattr(patch, "SIMILARITIES", 40)
    np.testing.assert_array_equal(patch.match(content, style).numpy(), expected)


def test_swap_with_itself_gives_itself() -> None:
    features = torch.rand(8, 9, 11)
    torch.testing.assert_close(patch.swap(features, features), features)


def test_swap_takes_only_what_the_style_has() -> None:
    """From a constant style nothing but that constant can come."""
    style = torch.full((3, 6, 6), 0.25)
    torch.testing.assert_close(patch.swap(torch.rand(3, 8, 8), style), torch.full((3, 8, 8), 0.25))


class Scaled(PlainNorms):
    """F' = (1 + a z_0) F: an injection that the package does not have."""

    NEEDS: ClassVar[Literal["embedding"]] = "embedding"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.amount = torch.nn.Parameter(torch.ones(1))

    def prepare(self, condition: Any) -> Any:
        return 1 + self.amount * condition[:, :1]

    def enter(self, x: torch.Tensor, block: int, conv: int, condition: Any) -> torch.Tensor:
        return F.relu(x) if conv else F.relu(x * as_map(condition, x) + 0.1)


def test_an_injection_is_one_module_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks, the style network of training and its gradients take a new one without further change."""
    monkeypatch.setitem(INJECTIONS, "scaled", Scaled)
    networks = new_networks(NetworkConfig(injection="scaled", **SMALL))  # type: ignore[arg-type]
    assert networks.encoder is not None
    network, images = StyleNetwork(networks), torch.rand(2, 3, 32, 32)
    assert network.needs == "embedding"
    pooled = torch.randn(2, networks.encoder.summary_size)
    first = network(images, pooled)
    first.sum().backward()
    amount = networks.generator.injection.amount
    assert isinstance(amount, torch.nn.Parameter)
    assert amount.grad is not None
    assert amount.grad.abs().max() > 0
    assert (first - network(images, -pooled)).abs().max() > 1e-4
