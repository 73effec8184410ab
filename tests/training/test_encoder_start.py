"""The encoder's start against what it promises: styles apart, and a teacher's film rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mst_deploy.errors import InvalidArgument
from mst_deploy.networks import NetworkConfig, StyleEncoder
from mst_deploy.training.command import fresh_networks
from mst_deploy.training.config import TrainConfig
from mst_deploy.training.encoder_start import imitate, whiten
from mst_deploy.weights import new_networks
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


def test_imitated_film_rows_are_the_teachers() -> None:
    """Rows that are linear in the embedding are found again."""
    encoder = StyleEncoder(SMALL).eval()
    rows = summaries(200, encoder.summary_size)
    whiten(encoder, rows)
    wanted = encoder.embed(rows) @ torch.randn(6, SMALL.film_layout.size) + 3
    imitate(encoder, rows, wanted)
    found = encoder.film_of(encoder.embed(rows))
    assert (found - wanted).square().mean() < 1e-3 * wanted.var()


def test_taken_over_generator_keeps_what_it_draws() -> None:
    trainer = make_trainer()
    teacher = new_networks(CONFIG.network)
    assert teacher.encoder is not None
    networks = fresh_networks(CONFIG, None, teacher)
    for name, value in networks.generator.state_dict().items():
        torch.testing.assert_close(value, teacher.generator.state_dict()[name], rtol=0, atol=0)
    whiten(teacher.encoder, teacher.encoder.pooled(torch.rand(4, 3, 80, 80)).detach())
    trainer.initialise_encoder(teacher.encoder)
    views = [trainer._first_view(index) for index in range(3)]
    encoder = trainer.networks.encoder
    assert encoder is not None
    with torch.no_grad():
        found = torch.cat([encoder(view)[1] for view in views])
        wanted = torch.cat([teacher.encoder(view)[1] for view in views])
    spread = (wanted - wanted.mean(dim=0)).norm()
    assert (found - wanted).norm() < 0.2 * spread


def test_generator_of_another_size_is_refused() -> None:
    other = new_networks(NetworkConfig(widths=(2, 3, 4)))
    with pytest.raises(InvalidArgument, match="other widths"):
        fresh_networks(TrainConfig(network=SMALL), Path("never read"), other)
