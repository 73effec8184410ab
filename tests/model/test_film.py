"""Tests of FiLM vectors and style files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mst_deploy.errors import BundleError, InvalidArgument
from mst_deploy.model.film import FilmLayout, Style, blend, load_style, save_style, with_strength

LAYOUT = FilmLayout((("a", 2), ("b", 1)))


def vector(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_identity_vector() -> None:
    assert LAYOUT.size == 6
    assert LAYOUT.identity().tolist() == [1, 1, 0, 0, 1, 0]


def test_blend_is_a_weighted_sum() -> None:
    assert blend([vector(1, 2), vector(3, 6)], [0.25, 0.75]).tolist() == [2.5, 5.0]


def test_strength_interpolates_from_content_to_style() -> None:
    content, style = vector(0, 10), vector(1, 20)
    assert with_strength(content, style, 0.0).tolist() == [0, 10]
    assert with_strength(content, style, 0.5).tolist() == [0.5, 15]
    assert with_strength(content, style, 1.0).tolist() == [1, 20]


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(InvalidArgument, match="between 0 and 1"):
        with_strength(vector(0), vector(1), strength)


def test_blend_refuses_what_does_not_match() -> None:
    with pytest.raises(InvalidArgument):
        blend([vector(1)], [0.5, 0.5])
    with pytest.raises(InvalidArgument):
        blend([vector(1), vector(1, 2)], [0.5, 0.5])


def test_style_file_round_trip(tmp_path: Path) -> None:
    style = Style("wave", vector(1, 2, 3), "0123", "abcd", {"artist": "葛飾北斎", "year": "c. 1831"})
    save_style(tmp_path / "wave.safetensors", style)
    loaded = load_style(tmp_path / "wave.safetensors")
    np.testing.assert_array_equal(loaded.film, style.film)
    assert (loaded.name, loaded.model_id, loaded.source_sha256) == ("wave", "0123", "abcd")
    assert loaded.credit == style.credit
    assert list(load_file(tmp_path / "wave.safetensors")) == ["film"]


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_style_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="style"):
        load_style(tmp_path / "bad.safetensors")


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"film": vector(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BundleError, match="not a style"):
        load_style(tmp_path / "other.safetensors")


def test_vectors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="not numbers"):
        Style("x", vector(float("nan")), "0")
    with pytest.raises(InvalidArgument, match="float32 vector"):
        Style("x", np.zeros(3), "0")  # type: ignore[arg-type]
