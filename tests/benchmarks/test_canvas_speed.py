"""Test of the canvas benchmark: it reports sizes and times."""

from __future__ import annotations

from mst_deploy.benchmarks.canvas_speed import measure


def test_a_row_has_the_size_and_times_in_order() -> None:
    row = measure(64, 48, 4)
    assert (row["size"], row["frames"]) == ("64x48", 4)
    assert 0 < row["median_ms"] <= row["p90_ms"]
