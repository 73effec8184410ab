"""Tests of the networks against closed forms and second implementations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import fold_batch_norm
from mst_deploy.model.inception import Conv, InceptionTrunk
from mst_deploy.model.io_wrappers import Uint8Generator
from mst_deploy.model.networks import (
    FilmNorm,
    Generator,
    NetworkConfig,
    StyleEncoder,
    upsample_by_two,
)
from tests.flops import multiply_adds_per_pixel

SMALL = NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=5)


def film_vector(config: NetworkConfig, seed: int = 0) -> torch.Tensor:
    vector = torch.from_numpy(config.film_layout.identity())
    return (vector + 0.3 * torch.randn(len(vector), generator=torch.Generator().manual_seed(seed)))[None]


def test_default_generator_is_johnsons_net() -> None:
    """1,679,235 parameters counting affine norms and the biases left out before them."""
    config = NetworkConfig()
    parameters = sum(p.numel() for p in Generator(config).parameters())
    affine = config.film_layout.size
    assert parameters + affine + affine // 2 == 1_679_235
    assert multiply_adds_per_pixel(config) == 153_792
    assert config.film_layout.size == 3200


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (31, 9), (64, 48)])
@pytest.mark.parametrize("padding", ["reflect", "edge", "zero"])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], padding: str) -> None:
    config = NetworkConfig(widths=(4, 6, 8), residual_blocks=1, padding=padding)
    with torch.no_grad():
        images = Generator(config)(torch.rand(2, 3, *size), film_vector(config).repeat(2, 1))
    assert images.shape == (2, 3, *size)
    assert 0 <= images.min() <= images.max() <= 1


def test_film_norm_formula() -> None:
    """gamma (x - mean) / sqrt(var + eps) + beta, written out with NumPy in float64."""
    x = torch.randn(2, 3, 5, 7) * 4 + 2
    gamma, beta = torch.randn(2, 3), torch.randn(2, 3)
    found = FilmNorm()(x, gamma, beta).numpy()
    wide = x.double().numpy()
    mean, var = wide.mean(axis=(2, 3), keepdims=True), wide.var(axis=(2, 3), keepdims=True)
    expected = gamma.numpy()[..., None, None] * (wide - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(found, expected + beta.numpy()[..., None, None], atol=1e-5)


def test_half_precision_statistics_do_not_overflow() -> None:
    """The sum over this map is 262,144 x 3 and far beyond float16; the normalized map is not."""
    x = torch.full((1, 1, 512, 512), 3.0, dtype=torch.float16)
    x[..., ::2] = 5.0
    y = FilmNorm()(x, torch.ones(1, 1), torch.zeros(1, 1))
    assert y.dtype == torch.float16
    torch.testing.assert_close(y[0, 0, 0, :2].float(), torch.tensor([1.0, -1.0]), atol=2e-3, rtol=0)


def test_film_vectors_of_a_batch_are_independent() -> None:
    generator = Generator(SMALL).eval()
    images = torch.rand(1, 3, 16, 16).repeat(2, 1, 1, 1)
    vectors = torch.cat([film_vector(SMALL, 1), film_vector(SMALL, 2)])
    with torch.no_grad():
        both = generator(images, vectors)
        alone = generator(images[:1], vectors[1:])
    torch.testing.assert_close(both[1:], alone)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_layout_order_is_gamma_then_beta_of_each_layer() -> None:
    """Setting gamma = 0 and beta = b of one layer makes its output constant b."""
    generator = Generator(SMALL).eval()
    seen: dict[str, torch.Tensor] = {}
    for name, module in generator.named_modules():
        if isinstance(module, FilmNorm):
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    film = film_vector(SMALL)
    start = 0
    for layer, (_, channels) in enumerate(SMALL.film_layout.layers):
        film[:, start : start + channels] = 0
        film[:, start + channels : start + 2 * channels] = layer + 1
        start += 2 * channels
    with torch.no_grad():
        generator(torch.rand(1, 3, 16, 16), film)
    for layer, out in enumerate(seen.values()):
        torch.testing.assert_close(out, torch.full_like(out, layer + 1.0))
    assert len(seen) == len(SMALL.film_layout.layers)


def test_nearest_upsampling_repeats_pixels() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert upsample_by_two(x)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_embedding_has_length_alpha_and_gamma_starts_at_one() -> None:
    encoder = StyleEncoder(SMALL).eval()
    embedding = encoder.embed(torch.rand(3, encoder.summary_size))
    torch.testing.assert_close(embedding.norm(dim=1), torch.full((3,), SMALL.embedding_norm))
    torch.testing.assert_close(
        encoder.film_of(torch.zeros(1, 5))[0], torch.from_numpy(SMALL.film_layout.identity())
    )


def test_moments_are_means_deviations_and_covariances() -> None:
    """Against NumPy; 9 numbers of the colors, then two for each of 64 + 192 + 288 channels."""
    encoder = StyleEncoder(replace(SMALL, statistics="moments")).eval()
    pictures = torch.rand(2, 3, 80, 96) ** 2
    with torch.no_grad():
        found = encoder.pooled(pictures).numpy()
        stages = [stage.numpy() for stage in encoder.trunk.stages(pictures * 2 - 1)]
    assert [stage.shape[1] for stage in stages] == [64, 192, 288]
    assert found.shape == (2, encoder.summary_size) == (2, 1097)
    for row, colors in zip(found, pictures.numpy().reshape(2, 3, -1), strict=True):
        np.testing.assert_allclose(row[:3], colors.mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(row[3:6], colors.std(axis=1), rtol=1e-3)
        covariances = np.cov(colors, bias=True)[[0, 0, 1], [1, 2, 2]]
        np.testing.assert_allclose(row[6:9], covariances, rtol=1e-3, atol=1e-5)
    flat = stages[-1].reshape(2, 288, -1)
    np.testing.assert_allclose(found[:, -576:-288], flat.mean(axis=2), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[:, -288:], flat.std(axis=2), rtol=1e-2, atol=1e-3)


def test_models_older_than_the_statistics_are_read_as_what_they_were() -> None:
    old = {
        name: value for name, value in SMALL.to_dict().items() if name not in ("statistics", "hidden_size")
    }
    config = NetworkConfig.from_dict(old)
    assert (config.statistics, config.hidden_size) == ("mean", 0)
    assert StyleEncoder(config).state_dict().keys().isdisjoint({"centre", "spread", "hidden.weight"})


def test_inception_shapes() -> None:
    """17 x 17 x 768 at 299 x 299, as in table 1 of the paper; 75 is the smallest side."""
    trunk = InceptionTrunk().eval()
    with torch.no_grad():
        assert trunk(torch.zeros(1, 3, 299, 299)).shape == (1, 768, 17, 17)
        assert trunk(torch.zeros(1, 3, 75, 75)).shape[1] == 768


def test_folded_batch_norm_equals_batch_norm() -> None:
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.1
    state = {"conv.weight": conv.weight.data}
    state |= {f"bn.{name}": tensor for name, tensor in norm.state_dict().items()}
    folded = fold_batch_norm({f"X.{name}": tensor for name, tensor in state.items()})
    ours = Conv(3, 4, 3)
    ours.load_state_dict({name.removeprefix("X."): tensor for name, tensor in folded.items()})
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(x), F.relu(norm.eval()(conv(x))))


def test_pixels_are_rounded_not_truncated() -> None:
    graph = Uint8Generator(Generator(SMALL)).eval()
    frames = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        inside = graph.generator(frames.permute(0, 3, 1, 2) / 255, film_vector(SMALL))
        found = graph(frames, film_vector(SMALL))
    expected = np.rint(inside.permute(0, 2, 3, 1).numpy() * 255)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "bad", [{"padding": "mirror"}, {"injection": "attention"}, {"widths": (1, 2)}, {"embedding_size": 0}]
)
def test_impossible_configurations_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        NetworkConfig.from_dict({**NetworkConfig().to_dict(), **bad})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalization_and_its_gradients_are_the_same_in_training(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = (torch.randn(3, 8, 20, 18) * 2 + 1).to(dtype).to(memory_format=torch.channels_last)
    inputs = [part.requires_grad_() for part in (values, torch.randn(3, 8), torch.randn(3, 8))]
    weights = torch.randn(3, 8, 20, 18)
    results = []
    for training in (False, True):
        y = FilmNorm().train(training)(*inputs)
        results.append([y, *torch.autograd.grad((y.float() * weights).sum(), inputs)])
        assert y.dtype == dtype
    for deployed, trained in zip(*results, strict=True):
        torch.testing.assert_close(
            trained, deployed, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4
        )
