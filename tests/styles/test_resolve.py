"""Tests of shipped styles and of the values of --style."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mst_deploy.backends import open_generator, open_style_encoder
from mst_deploy.errors import BundleError, InvalidArgument
from mst_deploy.images import load_image
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.film import Style, load_style, save_style
from mst_deploy.model.zoo import MODELS, bundle_path, load_shipped_styles, shipped_styles
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles.options import FOR_ALL
from mst_deploy.styles.plan import load_plan
from mst_deploy.styles.resolve import encode_film, make_style, resolve_style
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from tests.conftest import ROOT
from tests.pictures import picture

PAINTINGS = ROOT / "examples" / "paintings"


@pytest.mark.parametrize("model", MODELS)
def test_shipped_styles_are_of_their_paintings_and_model(model: str) -> None:
    """None is stale: each lies nearer to what the encoder reads off its painting now than any other does."""
    bundle = open_bundle(bundle_path(model))
    encoder = open_style_encoder(bundle, device="cpu")
    with (PAINTINGS / "paintings.csv").open(encoding="utf-8", newline="") as file:
        credits = {row.pop("name"): row for row in csv.DictReader(file)}
    assert sorted(credits) == list(shipped_styles(model))
    styles = load_shipped_styles(model)
    for style in styles:
        source = PAINTINGS / f"{style.name}.jpg"
        again = make_style(encoder, source, style.name)
        assert style.model_id == again.model_id == bundle.manifest.model_id
        assert style.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert style.credit == credits[style.name]
        away = {other.name: float(np.linalg.norm(other.film - again.film)) for other in styles}
        assert min(away, key=lambda name: away[name]) == style.name
        assert np.abs(style.film - again.film).max() < FOR_ALL.steps * FOR_ALL.rate  # Adam goes no further


@pytest.mark.parametrize("model", MODELS)
def test_shipped_styles_are_what_the_encoder_reads_off_their_paintings(model: str) -> None:
    bundle = open_bundle(bundle_path(model))
    encoder = open_style_encoder(bundle, device="cpu")
    for style in load_shipped_styles(model):
        vector = encode_film(encoder, load_image(PAINTINGS / f"{style.name}.jpg"))
        np.testing.assert_allclose(style.film, vector, atol=1e-3 * np.abs(vector).max())


@pytest.mark.parametrize("model", MODELS)
def test_between_eight_and_twelve_styles_are_shipped_with_full_credits(model: str) -> None:
    styles = load_shipped_styles(model)
    assert 8 <= len(styles) <= 12
    for style in styles:
        assert all(style.credit[key] for key in ("title", "artist", "year", "source", "licence"))


@pytest.mark.parametrize("model", MODELS)
def test_shipped_styles_differ(model: str) -> None:
    """Mean colors of one picture in all styles are spread out, pictures differ pairwise."""
    content = load_image(PAINTINGS / "impression-sunrise.jpg")[100:228, 100:228]
    with open_generator(bundle_path(model), device="cpu") as generator:
        results = [stylize_image(content, generator, style.film) for style in load_shipped_styles(model)]
    for index, first in enumerate(results):
        for second in results[:index]:
            assert np.abs(first.astype(int) - second.astype(int)).mean() > 5


def test_find_style_knows_names_files_and_images(bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest
    named = resolve_style("starry-night", manifest)
    assert isinstance(named, Style)
    save_style(tmp_path / "own.safetensors", named)
    assert isinstance(resolve_style(str(tmp_path / "own.safetensors"), manifest), Style)
    assert resolve_style(str(PAINTINGS / "zodiac.jpg"), manifest) == PAINTINGS / "zodiac.jpg"


def test_unknown_styles_get_a_hint(bundle: Bundle) -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'starry-night'"):
        resolve_style("stary-night", bundle.manifest)


def test_style_of_another_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    external = Style("foreign", bundle.manifest.layout.identity(), "feedfeedfeedfeed")
    save_style(tmp_path / "foreign.safetensors", external)
    with pytest.raises(BundleError, match="made by model feedfeedfeedfeed"):
        resolve_style(str(tmp_path / "foreign.safetensors"), bundle.manifest)


def test_a_name_means_the_style_of_the_model_in_use(bundle: Bundle) -> None:
    lite = open_bundle(bundle_path("lite"))
    for model, opened in (("base", bundle), ("lite", lite)):
        found = resolve_style("udnie", opened.manifest)
        assert isinstance(found, Style)
        np.testing.assert_array_equal(found.film, load_style(shipped_styles(model)["udnie"]).film)


def test_shipped_style_file_of_the_other_model_names_it(bundle: Bundle) -> None:
    with pytest.raises(
        BundleError, match=r"'udnie' was made by model \w+ \(lite\), .* with model lite, or make it"
    ):
        resolve_style(str(shipped_styles("lite")["udnie"]), bundle.manifest)


def test_a_model_of_ones_own_has_no_shipped_styles(bundle: Bundle) -> None:
    own = replace(bundle.manifest, name="mine", model_id="feedfeedfeedfeed")
    with pytest.raises(
        InvalidArgument, match="shipped styles are for the models base and lite, not for mine; give an"
    ):
        resolve_style("udnie", own)


def test_an_export_in_another_precision_shares_the_styles(bundle: Bundle) -> None:
    assert isinstance(resolve_style("udnie", replace(bundle.manifest, precision="fp32", name="mine")), Style)


def test_strength_mixes_with_the_contents_own_vector(bundle: Bundle) -> None:
    encoder = open_style_encoder(bundle, device="cpu")
    style = load_shipped_styles()[0]
    content = picture(128, 128, 0)
    own = encode_film(encoder, content)
    timeline = Timeline((StyleKey(style.name),), (StrengthKey(0.25),))
    frame_plan = load_plan(timeline, bundle.manifest, lambda: encoder).started_with(content).at(Fraction(0))
    own = bundle.manifest.layout.without_canvas(own)  # a photograph has no strokes
    np.testing.assert_allclose(frame_plan.inside.film, 0.75 * own + 0.25 * style.film, atol=1e-4)
    assert frame_plan.inside.opacity == 0.5


@pytest.mark.parametrize("shape", [(1, 1), (3, 4000), (2000, 5), (74, 76)])
def test_styles_of_any_shape_are_read(bundle: Bundle, shape: tuple[int, int]) -> None:
    film = encode_film(open_style_encoder(bundle, device="cpu"), picture(shape[1], shape[0], 0))
    assert film.shape == (bundle.manifest.film_size,)
    assert np.isfinite(film).all()


def test_pictures_below_the_minimum_are_padded_and_cropped(bundle: Bundle) -> None:
    style = load_shipped_styles()[0]
    with open_generator(bundle, device="cpu") as generator:
        for size in ((1, 1), (7, 3), (17, 23)):
            image = picture(size[0], size[1], 0)
            assert stylize_image(image, generator, style.film).shape == image.shape
