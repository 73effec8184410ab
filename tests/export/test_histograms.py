"""Ranges of 8-bit integers against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mst_deploy.export.calibration import left_in_float, psnr_of_error
from mst_deploy.export.histograms import Histogram, best_affine, squared_error
from mst_deploy.onnx_passes.int8 import LEVELS, Affine

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(0, 0.3, 200_000).astype(np.float32)


def of(values: NDArray[np.float32], parts: int = 1) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(values, parts):
        histogram.add(part)
    return histogram


def rounded(values: NDArray[np.float32], affine: Affine) -> NDArray[np.float64]:
    integers = (np.rint(values / affine.scale) + affine.zero_point).clip(0, LEVELS)
    return np.asarray((integers - affine.zero_point) * affine.scale, np.float64)


def test_counts_do_not_depend_on_the_order_in_which_the_range_grows() -> None:
    one, many = of(LAPLACE), of(np.sort(np.abs(LAPLACE)) * np.sign(LAPLACE), 50)
    assert one.limit == many.limit
    assert one.counts.sum() == many.counts.sum() == np.count_nonzero(LAPLACE)
    moment = (many.counts * many.centers**2).sum()
    assert moment == pytest.approx((np.sort(np.abs(LAPLACE)).astype(np.float64) ** 2).sum(), rel=1e-4)
    assert (many.lowest, many.highest) == (
        (np.sort(np.abs(LAPLACE)) * np.sign(LAPLACE)).min(),
        (np.sort(np.abs(LAPLACE)) * np.sign(LAPLACE)).max(),
    )


def test_expected_error_is_that_of_rounding_the_values() -> None:
    histogram = of(LAPLACE)
    for end in (0.5, 1.5, 3.0):
        affine = Affine.over(-end, end)
        found = squared_error(histogram.centers, histogram.counts, affine)
        wanted = float(np.square(rounded(LAPLACE, affine) - LAPLACE).sum())
        assert found == pytest.approx(wanted, rel=0.03)


def test_a_laplace_distribution_is_clipped_where_the_closed_form_says() -> None:
    """2 b^2 exp(-a / b) + a^2 / (3 4^8) for clipping at a: Banner et al. 2019 (arXiv 1810.05723), 9.9 b."""
    ends = np.linspace(1, 20, 2000)
    wanted = ends[np.argmin(2 * np.exp(-ends) + ends**2 / (3 * 4**8))]
    assert wanted == pytest.approx(9.9, abs=0.1)
    quantiles = (np.arange(1, 1_000_001) - 0.5) / 1_000_000
    one_side = -np.log(1 - quantiles)
    affine = best_affine(of(np.concatenate([-one_side, one_side]).astype(np.float32)))
    assert affine.scale * LEVELS / 2 == pytest.approx(wanted, rel=0.05)


def test_even_values_of_one_sign_are_not_clipped() -> None:
    affine = best_affine(of(np.linspace(0, 3, 100_000, dtype=np.float32)))
    assert affine.zero_point == 0
    assert affine.scale * LEVELS == pytest.approx(3, rel=0.02)


def test_zeros_do_not_count() -> None:
    with_zeros = np.concatenate([LAPLACE.clip(0), np.zeros(10**6, np.float32)])
    assert best_affine(of(with_zeros)) == best_affine(of(LAPLACE[LAPLACE > 0]))


def test_the_fewest_and_most_sensitive_layers_stay_in_float() -> None:
    errors = {"a": 1.0, "b": 4.0, "c": 0.5}
    assert psnr_of_error(255.0**2) == 0
    assert left_in_float(errors, psnr_of_error(5.6)) == ()
    assert left_in_float(errors, psnr_of_error(5.4)) == ("b",)
    assert left_in_float(errors, psnr_of_error(1.4)) == ("b", "a")
    assert left_in_float(errors, 200) == ("b", "a", "c")
