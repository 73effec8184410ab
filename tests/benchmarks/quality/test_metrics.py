"""Formulas against closed forms, SciPy, the authors' packages (goldens) and published arithmetic."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

from mst_deploy.benchmarks.quality.metrics import (
    artfid,
    bootstrap_interval,
    cfsd,
    frechet_distance,
    frechet_infinity,
    frechet_of,
)
from mst_deploy.errors import InvalidArgument
from tests.conftest import ROOT
from tools.goldens.make_artfid_golden import features

GOLDEN = json.loads((ROOT / "tests" / "goldens" / "artfid.json").read_text())


def covariance(seed: int, size: int) -> Any:
    factor = np.random.default_rng(seed).normal(0, 1, (size, size))
    return factor @ factor.T


def test_frechet_of_gaussians_with_independent_parts() -> None:
    """|m - n|^2 + sum (sqrt(a) - sqrt(b))^2."""
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    found = frechet_distance(np.zeros(3), np.diag(a), np.array([1.0, 2.0, 2.0]), np.diag(b))
    assert found == pytest.approx(9 + 1 + 0 + 4)


def test_frechet_equals_scipy_for_covariances_that_do_not_commute() -> None:
    a, b = covariance(0, 12), covariance(1, 12)
    root = scipy.linalg.sqrtm(a @ b).real
    wanted = np.trace(a) + np.trace(b) - 2 * np.trace(root)
    assert frechet_distance(np.zeros(12), a, np.zeros(12), b) == pytest.approx(wanted, rel=1e-9)


def test_frechet_equals_the_authors_on_random_features() -> None:
    assert frechet_of(features(3, 300), features(4, 300)) == pytest.approx(GOLDEN["frechet"], rel=1e-6)


def test_frechet_of_few_pictures_is_zero_for_equal_sets() -> None:
    """Covariances of rank 9 in 64 dimensions: roots of rounding errors remain, 1e-8 each."""
    few = np.random.default_rng(0).normal(0, 1, (10, 64))
    assert frechet_of(few, few) == pytest.approx(0, abs=1e-4)


def test_infinity_equals_the_authors_within_the_spread_of_their_shuffles() -> None:
    wanted = GOLDEN["frechet_infinity"]
    found = frechet_infinity(features(3), features(4))
    assert abs(found - wanted["mean"]) < 4 * wanted["spread"]


def test_infinity_finds_the_distance_that_the_plain_one_overestimates() -> None:
    """Two samples of one Gaussian: the distance is 0, the plain estimate has a bias of order 1/n."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, (2, 4000, 32))
    plain = frechet_of(a, b)
    assert abs(frechet_infinity(a, b, start=300)) < 0.3 * plain


def test_infinity_refuses_few_pictures() -> None:
    with pytest.raises(InvalidArgument, match="needs 5000 results at least, found 800"):
        frechet_infinity(features(3, 800), features(4, 800))


@pytest.mark.parametrize(
    ("published", "fid", "lpips"),
    [(28.801, 18.131, 0.5055), (30.933, 18.242, 0.6076), (34.685, 20.395, 0.6212), (41.464, 20.903, 0.8931)],
)
def test_artfid_of_published_rows(published: float, fid: float, lpips: float) -> None:
    """StyleID's table 1: StyleID, AdaIN, CAST, DiffStyle. Their inputs are rounded to 3 and 4 digits."""
    assert artfid(lpips, fid) == pytest.approx(published, abs=0.0015)


def test_cfsd_is_zero_for_equal_maps_and_grows_with_noise() -> None:
    content = 20 * torch.rand(1, 16, 9, 7, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(1))
    values = [cfsd(content, content + amount * noise) for amount in (0.0, 1.0, 4.0)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


def test_cfsd_equals_the_published_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole matrices at once and positions in the authors' order; ours goes row by row."""
    monkeypatch.setattr("mst_deploy.benchmarks.quality.metrics.ROWS_AT_ONCE", 10)
    generator = torch.Generator().manual_seed(2)
    content, stylized = (30 * torch.rand(1, 8, 6, 5, generator=generator) for _ in range(2))

    def similarity(maps: torch.Tensor) -> torch.Tensor:
        rows = maps.transpose(1, 3).reshape(1, 30, 8) / 8
        return torch.bmm(rows, rows.transpose(1, 2))

    wanted = F.kl_div(
        F.log_softmax(similarity(stylized), -1).reshape(1, -1),
        F.softmax(similarity(content), -1).reshape(1, -1),
        reduction="batchmean",
    )
    assert cfsd(content, stylized) == pytest.approx(float(wanted), rel=1e-4)


def test_bootstrap_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap_interval(values.tolist())
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap_interval([2.0, 2.0]).low == bootstrap_interval([2.0, 2.0]).high == 2.0
