"""Tests of the encoder's initialization: styles are separated, and a teacher's FiLM vectors are matched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.model.networks import NetworkConfig, StyleEncoder
from mst_deploy.training.command import fresh_networks
from mst_deploy.training.config import TrainConfig
from mst_deploy.training.encoder_init import (
    distill_film,
    equalize_spectrum,
    gram_coordinates,
    gram_entries,
    pretrain_to_grams,
    whiten,
)
from mst_deploy.training.samples import View, style_crops
from mst_deploy.training.style_network import stack, to_tensor
from tests.training.toys import CONFIG, make_trainer

SMALL = NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=6)


def summaries(count: int, size: int) -> torch.Tensor:
    """Nearly parallel rows in units of their own, as pooled features of pictures are."""
    torch.manual_seed(0)
    return (9 + torch.randn(count, 6) @ torch.randn(6, size)) * torch.logspace(-3, 3, size)


def test_whitened_styles_point_into_many_directions() -> None:
    encoder = StyleEncoder(SMALL).eval()
    rows = summaries(40, encoder.summary_size)
    before = encoder.embed(rows)
    whiten(encoder, rows)
    after = encoder.embed(rows)
    assert torch.cosine_similarity(before[:1], before[1:]).mean() > 0.7
    assert torch.cosine_similarity(after[:1], after[1:]).abs().mean() < 0.5
    standard = (rows - encoder.centre) / encoder.spread
    torch.testing.assert_close(standard.std(dim=0), torch.ones(encoder.summary_size), rtol=1e-3, atol=1e-3)


def test_imitated_film_vectors_are_the_teachers() -> None:
    """Rows that are linear in the embedding are found again."""
    encoder = StyleEncoder(SMALL).eval()
    rows = summaries(200, encoder.summary_size)
    whiten(encoder, rows)
    wanted = encoder.embed(rows) @ torch.randn(6, SMALL.film_layout.size) + 3
    distill_film(encoder, rows, wanted)
    found = encoder.film_of(encoder.embed(rows))
    assert (found - wanted).square().mean() < 1e-3 * wanted.var()


def test_taken_over_generator_keeps_what_it_draws() -> None:
    trainer = make_trainer(
        replace(CONFIG, gram_pretraining_steps=0)
    )  # three toy styles are too few to predict well
    teacher = new_networks(CONFIG.network)
    assert teacher.encoder is not None
    networks = fresh_networks(CONFIG, None, teacher)
    for name, value in networks.generator.state_dict().items():
        torch.testing.assert_close(value, teacher.generator.state_dict()[name], rtol=0, atol=0)
    whiten(teacher.encoder, teacher.encoder.pooled(torch.rand(4, 3, 80, 80)).detach())
    trainer.initialize_encoder(teacher.encoder)
    crops = [style_crops(trainer.config, trainer.styles, View(index, 0), set())[0] for index in range(3)]
    views = [to_tensor(stack([crop]), trainer.device) for crop in crops]
    encoder = trainer.networks.encoder
    assert encoder is not None
    with torch.no_grad():
        found = torch.cat([encoder(view)[1] for view in views])
        wanted = torch.cat([teacher.encoder(view)[1] for view in views])
    spread = (wanted - wanted.mean(dim=0)).norm()
    assert (found - wanted).norm() < 0.05 * spread


def test_generator_of_another_size_is_refused() -> None:
    other = new_networks(NetworkConfig(widths=(2, 3, 4)))
    with pytest.raises(InvalidArgument, match="other widths"):
        fresh_networks(TrainConfig(network=SMALL), Path("never read"), other)


def readable(encoder: StyleEncoder, rows: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the variance of ``wanted`` that can be read linearly off the embeddings of other rows."""
    with torch.no_grad():
        seen = torch.cat([encoder.embed(rows), torch.ones(len(rows), 1)], dim=1)
    half = len(rows) // 2
    map_ = torch.linalg.lstsq(seen[:half], wanted[:half]).solution
    missed = wanted[half:] - seen[half:] @ map_
    return 1 - float(missed.square().sum() / (wanted[half:] - wanted[:half].mean(dim=0)).square().sum())


def test_gram_matrices_can_be_read_off_the_embedding_after_pretraining() -> None:
    """Gram matrices that are no linear function of the summaries, as real ones are not."""
    config = replace(SMALL, embedding_size=12, hidden_size=64)
    torch.manual_seed(0)
    encoder = StyleEncoder(config)
    causes = torch.randn(1200, 4)
    rows = torch.randn(1200, encoder.summary_size) * 0.1 + causes @ torch.randn(4, encoder.summary_size)
    wanted = causes.abs()
    matrices = wanted @ torch.rand(4, 49) + 1
    entries = torch.stack([gram_entries({"a": m[:9].view(3, 3), "b": m.view(7, 7)}) for m in matrices])
    assert entries.shape == (1200, 2, 9)
    whiten(encoder, rows)
    before = readable(encoder, rows, wanted)
    pretrain_to_grams(encoder, rows[:600], gram_coordinates(entries[:600]), 400)
    after = readable(encoder, rows, wanted)
    assert before < 0.3
    assert after > 0.6
    equalize_spectrum(encoder, rows)
    assert readable(encoder, rows, wanted) > 0.6
    with torch.no_grad():
        evened = encoder.unscaled(rows)
    variances = torch.linalg.eigvalsh(torch.cov(evened.T))
    assert variances[-1] / variances[0] < 100
    assert evened.norm(dim=1).mean().item() == pytest.approx(1000, rel=1e-3)


def test_film_vectors_are_learned_beside_the_matrices() -> None:
    """A linear layer cannot give rows that bend with the style; together with the embedding it can."""
    torch.manual_seed(0)
    encoder = StyleEncoder(
        NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=12, hidden_size=64)
    )
    causes = torch.randn(600, 3)
    rows = 0.1 * torch.randn(600, encoder.summary_size) + causes @ torch.randn(3, encoder.summary_size)
    wanted = causes.abs() @ torch.randn(3, SMALL.film_layout.size)
    whiten(encoder, rows)
    grams = gram_coordinates(wanted[:, None])
    spread = (wanted - wanted.mean(dim=0)).square().sum()

    def missed() -> float:
        with torch.no_grad():
            return float((encoder.film_of(encoder.embed(rows)) - wanted).square().sum() / spread)

    distill_film(encoder, rows, wanted)
    before = missed()
    pretrain_to_grams(encoder, rows, grams, 1500, wanted)
    assert missed() < 0.5 * before


def test_gram_coordinates_keep_distances() -> None:
    """As many components as there are directions: nothing is lost, and every layer counts alike."""
    torch.manual_seed(0)
    entries = torch.rand(20, 2, 9) * torch.tensor([1.0, 1000.0])[:, None]
    found = gram_coordinates(entries)
    scaled = (entries / entries.norm(dim=2).mean(dim=0)[:, None]).flatten(1)
    torch.testing.assert_close(
        torch.cdist(found.coordinates, found.coordinates), torch.cdist(scaled, scaled), rtol=1e-3, atol=1e-3
    )
    assert found.weights.shape == (20,)
