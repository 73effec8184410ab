"""Tests of the style optimization: it changes the FiLM vector alone, reduces an independently computed
style distance, and caches its results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mst_deploy.backends import open_generator, open_style_encoder
from mst_deploy.benchmarks.quality.video import measure_flicker
from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.images import Image, center_crop, load_image, save_image
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.canvas import still_canvas
from mst_deploy.model.canvas_bands import white
from mst_deploy.model.checkpoints import load_bundle
from mst_deploy.model.film import with_strength
from mst_deploy.model.zoo import resolve_model, shipped_photographs
from mst_deploy.perceptual.artifacts import edge_fringe_loss, low_frequency_bleed_loss
from mst_deploy.perceptual.distances import Distances, as_tensor
from mst_deploy.perceptual.vgg import Vgg19, load_vgg
from mst_deploy.pipeline.still import stylize_image
from mst_deploy.styles import optimize
from mst_deploy.styles.optimize import CANVAS_CELLS, StyleOptimizer, limited, normalized_vgg, optimize_style
from mst_deploy.styles.options import OptimizeOptions
from mst_deploy.styles.resolve import as_style, encode_film
from mst_deploy.styles.tuning_data import FramePair, sample_frames
from mst_deploy.video.canvas import MovingCanvas
from tests.conftest import ROOT
from tests.perceptual.test_vgg import REAL, SCALES

PAINTING = ROOT / "examples" / "paintings" / "great-wave.jpg"
NEEDS_VGG = pytest.mark.skipif(not REAL.exists(), reason="no pretrained weights beside the checkout")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The small model: most of these tests are about the optimization, whatever is optimized."""
    return open_bundle(resolve_model("lite"))


@pytest.fixture(scope="module")
def film(bundle: Bundle) -> Any:
    return bundle.manifest.layout.identity()


@pytest.fixture(scope="module")
def vgg(vgg_file: Path) -> Vgg19:
    return load_vgg(vgg_file)


def photo(size: int) -> Image:
    return center_crop(sample_frames(ROOT / "examples" / "bunny.mp4", 1, size)[0].frame, size)


def still(size: int) -> FramePair:
    return FramePair(photo(size))


def start(bundle: Bundle) -> tuple[Any, Image]:
    """The painting's FiLM vector and the painting as the encoder sees it."""
    film, painting = started(bundle.path)
    return film.copy(), painting


@cache
def started(path: Path) -> tuple[Any, Image]:
    bundle, painting = open_bundle(path), load_image(PAINTING)
    return encode_film(open_style_encoder(bundle, device="cpu"), painting), as_style(
        painting, bundle.manifest
    )


@NEEDS_VGG
def test_results_come_nearer_to_the_painting_as_the_deployed_model_paints_them(bundle: Bundle) -> None:
    """What is reported is what ``Distances`` finds in the pictures of ONNX Runtime, 8 bits a color."""
    vgg = load_vgg(REAL, SCALES)
    film, painting = start(bundle)
    frame = photo(128)
    optimized = optimize_style(
        load_bundle(bundle).generator, film, [FramePair(frame)], painting, vgg, OptimizeOptions(steps=8)
    )
    found = []
    with open_generator(bundle, device="cpu") as generator:
        for vector, reported in ((film, optimized.before), (optimized.film, optimized.after)):
            content, style, _ = Distances(vgg)(frame, painting, stylize_image(frame, generator, vector))
            assert style == pytest.approx(reported.style, rel=0.05)
            assert content == pytest.approx(reported.content, rel=0.05)
            found.append((style, content))
    before, after = (OptimizeOptions.style_weight * style + content for style, content in found)
    assert after < 0.9 * before
    assert found[1][0] < found[0][0]


@pytest.mark.parametrize("weight", [0.0, 1e4])
def test_the_weight_says_which_distance_falls(bundle: Bundle, vgg: Vgg19, weight: float) -> None:
    film, painting = start(bundle)
    how = OptimizeOptions(steps=3, style_weight=weight, rate=0.02)
    optimized = optimize_style(load_bundle(bundle).generator, film, [still(64)], painting, vgg, how)
    if weight:
        assert optimized.after.style < optimized.before.style
    else:
        assert optimized.after.content < optimized.before.content


def test_several_pictures_count_alike(bundle: Bundle, vgg: Vgg19) -> None:
    """Means over pictures of different sizes; the given vector is unchanged."""
    film, painting = start(bundle)
    kept = film.copy()
    generator = load_bundle(bundle).generator
    first, second = still(64), still(96)
    how = OptimizeOptions(steps=1)
    one, two, both = (
        optimize_style(generator, film, some, painting, vgg, how)
        for some in ([first], [second], [first, second])
    )
    assert both.before.style == pytest.approx((one.before.style + two.before.style) / 2, rel=1e-3)
    assert both.before.content == pytest.approx((one.before.content + two.before.content) / 2, rel=1e-3)
    np.testing.assert_array_equal(film, kept)
    assert np.abs(both.film - film).max() == pytest.approx(how.rate, rel=0.01)  # Adam's first step


def test_the_networks_are_left_alone(bundle: Bundle, vgg: Vgg19) -> None:
    film, painting = start(bundle)
    generator = load_bundle(bundle).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    optimize_style(generator, film, [still(64)], painting, vgg, OptimizeOptions(steps=1))
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in generator.parameters())


def test_without_factors_the_shipped_photographs_normalize(
    vgg_file: Path, vgg: Vgg19, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every channel that responds has a mean of 1 over them; what the weights mean hangs on that."""
    monkeypatch.setattr(optimize, "load_image", lambda path: center_crop(load_image(path), 96))
    pictures = [as_tensor(center_crop(load_image(path), 96)) for path in shipped_photographs()]
    normalized = normalized_vgg(vgg_file, None)
    with torch.no_grad():
        means, plain = (
            torch.stack([network(picture)["relu2_1"].mean(dim=(0, 2, 3)) for picture in pictures])
            for network in (normalized, vgg)
        )
    alive = plain.mean(dim=0) > plain.mean() * 0.1
    assert alive.sum() > 10
    torch.testing.assert_close(means.mean(dim=0)[alive], torch.ones(int(alive.sum())), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@NEEDS_VGG
def test_the_photographs_normalize_about_as_the_factors_that_are_published() -> None:
    """Those were taken over many more; figures are close, as those of a plain VGG are not."""
    frame, painting = photo(192), center_crop(load_image(PAINTING), 256)
    other = center_crop(load_image(PAINTING.with_name("joy-of-life.jpg")), 192)
    published, ours, plain = (
        np.array([Distances(vgg)(frame, painting, other), Distances(vgg)(other, painting, frame)])
        for vgg in (load_vgg(REAL, SCALES), normalized_vgg(REAL, None), load_vgg(REAL))
    )
    assert np.abs(np.log(ours / published)).mean() < 0.07
    assert np.abs(np.log(plain / published)).mean() > 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"at_once": 0},
        {"style_weight": -1.0},
        {"temporal_weight": -1.0},
        {"temporal_limit": math.nan},
        {"rate": 0.0},
        {"strengths": ()},
        {"strengths": (1.0, 1.1)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="optimization needs steps"):
        replace(OptimizeOptions(), **wrong)


def test_a_vector_that_is_no_number_is_refused(bundle: Bundle, vgg: Vgg19, film: Any) -> None:
    with pytest.raises(InvalidArgument, match="diverged"):
        optimize_style(
            load_bundle(bundle).generator,
            film,
            [still(64)],
            photo(64),
            vgg,
            OptimizeOptions(2, style_weight=1e38),
        )


def test_no_picture_is_refused(bundle: Bundle, vgg: Vgg19, film: Any) -> None:
    with pytest.raises(InvalidArgument, match="at least one picture"):
        optimize_style(load_bundle(bundle).generator, film, [], photo(64), vgg)


def test_one_color_is_left_out_or_refused(bundle: Bundle, vgg: Vgg19, tmp_path: Path) -> None:
    """A black frame's gradients overflow in fifteen normalizations: the FiLM vector became NaN."""
    film, painting = start(bundle)
    black = FramePair(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InvalidArgument, match="one color"):
        optimize_style(load_bundle(bundle).generator, film, [still(64), black], painting, vgg)
    save_image(tmp_path / "black.png", black.frame)
    with pytest.raises(InputError, match=r"black\.png"):
        sample_frames(tmp_path / "black.png", 1, 320)
    for number, frame in enumerate([black.frame] * 6 + [photo(64)] * 6):
        save_image(tmp_path / f"faded{number:02d}.png", frame)
    found = sample_frames(tmp_path / "faded%02d.png", 4, 64)
    assert len(found) == 2
    assert min(moment.frame.std() for moment in found) > 20


def test_flicker_is_the_warping_error_of_the_evaluation(bundle: Bundle, vgg: Vgg19) -> None:
    """On a pan by 4 pixels, but for half a gray level: there the results are rounded to 8 bits."""
    film, painting = start(bundle)
    wide = photo(128)
    moment = FramePair(np.ascontiguousarray(wide[:, :-4]), np.ascontiguousarray(wide[:, 4:]))
    optimized = optimize_style(
        load_bundle(bundle).generator, film, [moment], painting, vgg, OptimizeOptions(steps=1)
    )
    with open_generator(bundle, device="cpu") as generator:
        moving = MovingCanvas(*moment.frame.shape[:2])
        results = [stylize_image(picture, generator, film, moving(picture)) for picture in moment.pictures]
    (flicker,) = measure_flicker(zip(moment.pictures, results, strict=True), [1])
    assert optimized.before.flicker == pytest.approx(flicker.result[0], abs=0.5 / 255)
    difference = (results[0].astype(float) - results[1]) / 255
    assert np.sqrt(np.square(difference).sum(axis=2)).mean() > 3 * flicker.result[0]  # it did move


def test_many_moments_take_turns(bundle: Bundle, vgg: Vgg19, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of five in each step, all before any again; the report is of all five."""
    film, painting = start(bundle)
    moments = [still(side) for side in (48, 52, 56, 60, 64)]
    generator, seen = load_bundle(bundle).generator, list[int]()
    paint = generator.forward

    def watched(images: Any, vector: Any, canvas: Any) -> Any:
        if vector.requires_grad and torch.is_grad_enabled():
            seen.append(images.shape[-1])
        return paint(images, vector, canvas)

    monkeypatch.setattr(generator, "forward", watched)
    turns = optimize_style(generator, film, moments, painting, vgg, OptimizeOptions(steps=3, at_once=3))
    assert seen == [48, 52, 56, 60, 64, 48, 52, 56, 60]
    whole = optimize_style(generator, film, moments, painting, vgg, OptimizeOptions(steps=1, at_once=5))
    assert astuple(turns.before) == pytest.approx(astuple(whole.before), rel=1e-3)


def test_strengths_take_turns_on_the_way_from_the_pictures_own_vector(
    bundle: Bundle, vgg: Vgg19, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Painted with the vectors that ``mst`` paints with at those strengths; the report is of strength 1."""
    film, painting = start(bundle)
    own = partial(encode_film, open_style_encoder(bundle, device="cpu"))
    moments = [still(side) for side in (80, 96, 88)]
    generator, seen = load_bundle(bundle).generator, list[Any]()
    paint = generator.forward

    def watched(images: Any, vector: Any, canvas: Any) -> Any:
        if vector.requires_grad and torch.is_grad_enabled():
            seen.append(vector.detach()[0].numpy().copy())
        return paint(images, vector, canvas)

    monkeypatch.setattr(generator, "forward", watched)
    how = OptimizeOptions(steps=1, style_weight=8.0, strengths=(1.0, 0.9, 0.5))
    optimized = optimize_style(generator, film, moments, painting, vgg, how, own=own)
    layout = bundle.manifest.layout
    wanted = [
        with_strength(layout.without_canvas(own(moment.frame)), film, strength)
        for moment, strength in zip(moments, how.strengths, strict=True)
    ]
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    plain = optimize_style(generator, film, moments, painting, vgg, replace(how, strengths=(1.0,)))
    assert astuple(optimized.before) == pytest.approx(astuple(plain.before), rel=1e-3)
    with pytest.raises(InvalidArgument, match="own FiLM vectors"):
        optimize_style(generator, film, moments, painting, vgg, how)


def test_at_a_strength_the_style_weighs_its_cube(bundle: Bundle, vgg: Vgg19) -> None:
    """Where the vector begins as the picture's own, strengths differ in the weight alone, and Adam's first
    step depends on directions only."""
    film, painting = start(bundle)
    film = bundle.manifest.layout.without_canvas(film)  # as the pictures' own vectors are
    some = [still(64)]
    half, weaker, full = (
        optimize_style(
            load_bundle(bundle).generator,
            film,
            some,
            painting,
            vgg,
            OptimizeOptions(steps=1, style_weight=weight, strengths=(strength,)),
            own=lambda _: film,
        ).film
        - film
        for weight, strength in ((8.0, 0.5), (1.0, 1.0), (8.0, 1.0))
    )
    assert np.mean(np.sign(half) == np.sign(weaker)) > 0.98
    assert np.mean(np.sign(half) == np.sign(full)) < 0.95


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        (
            partial(low_frequency_bleed_loss, cells=CANVAS_CELLS),
            OptimizeOptions(steps=4, style_weight=0.0, halo_weight=1e7),
        ),
        (edge_fringe_loss, OptimizeOptions(steps=4, style_weight=0.0, fringe_weight=1e6)),
    ],
)
def test_terms_against_faults_lessen_them(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    how: OptimizeOptions,
    bundle: Bundle,
    vgg: Vgg19,
) -> None:
    """A dark roof before an even sky; nothing but the term itself, so it must fall."""
    film, painting = start(bundle)
    frame = np.full((96, 96, 3), (120, 160, 210), np.uint8)
    frame[60:, 20:70] = photo(96)[60:, 20:70] // 3
    generator = load_bundle(bundle).generator
    optimized = optimize_style(generator, film, [FramePair(frame)], painting, vgg, how)
    canvas = white(torch.from_numpy(still_canvas(96, 96))[None], torch.float32)
    with torch.inference_mode():
        before, after = (
            loss(generator(as_tensor(frame), torch.from_numpy(vector)[None], canvas), as_tensor(frame)).item()
            for vector in (film, optimized.film)
        )
    assert after < 0.7 * before


def test_a_gradient_is_shortened_and_never_turned() -> None:
    long, none = torch.tensor([3.0, 4.0]), torch.zeros(2)
    torch.testing.assert_close(limited(long, torch.tensor(2.5)), torch.tensor([1.5, 2.0]))
    for most in (9.0, math.inf):
        torch.testing.assert_close(limited(long, torch.tensor(most)), long)
    assert (
        limited(none, torch.tensor(1.0)).tolist() == limited(long, torch.tensor(0.0)).tolist() == [0.0, 0.0]
    )


@pytest.mark.slow
def test_the_temporal_weight_calms_and_the_limit_holds_it_back(bundle: Bundle, vgg: Vgg19) -> None:
    film, painting = start(bundle)
    (moment,) = sample_frames(ROOT / "examples" / "bunny.mp4", 1, 96)
    loose, calm, calmest = (
        optimize_style(
            load_bundle(bundle).generator,
            film,
            [moment],
            painting,
            vgg,
            OptimizeOptions(6, style_weight=1.0, temporal_weight=weight, temporal_limit=limit),
        )
        for weight, limit in ((0.0, 0.5), (100.0, 0.5), (100.0, math.inf))
    )
    assert calm.after.flicker < 0.9 * calm.before.flicker
    assert calmest.after.flicker < calm.after.flicker < loose.after.flicker
    assert calmest.after.content + calmest.after.style > calm.after.content + calm.after.style


def without_generator(optimizer: StyleOptimizer) -> StyleOptimizer:
    """One that can only read what was kept."""
    optimizer.generator = None  # type: ignore[assignment]
    return optimizer


def test_cached_vectors_are_not_made_again(bundle: Bundle, vgg: Vgg19, tmp_path: Path) -> None:
    film, painting = start(bundle)
    how = OptimizeOptions(steps=1)
    first = StyleOptimizer(bundle, vgg, "cpu", how, tmp_path)(film, [still(64)], painting)
    again = without_generator(StyleOptimizer(bundle, vgg, "cpu", how, tmp_path))
    second = again(film, [still(64)], painting)
    np.testing.assert_array_equal(second.film, first.film)
    assert (second.before, second.after) == (first.before, first.after)
    other = Vgg19()
    with pytest.raises(AttributeError):
        without_generator(StyleOptimizer(bundle, other, "cpu", how, tmp_path))(film, [still(64)], painting)
    for changed in (replace(how, steps=2), replace(how, style_weight=1.0)):
        again.how = changed
        with pytest.raises(AttributeError):
            again(film, [still(64)], painting)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no zip"]
)
def test_a_damaged_vector_is_made_again(bundle: Bundle, vgg: Vgg19, tmp_path: Path, damage: Any) -> None:
    film, painting = start(bundle)
    optimizer = StyleOptimizer(bundle, vgg, "cpu", OptimizeOptions(steps=1), tmp_path)
    first = optimizer(film, [still(64)], painting)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    np.testing.assert_allclose(optimizer(film, [still(64)], painting).film, first.film, atol=1e-6)
    np.testing.assert_array_equal(without_generator(optimizer)(film, [still(64)], painting).film, first.film)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_missing_is_reported(bundle: Bundle, vgg: Vgg19) -> None:
    with pytest.raises(BackendError, match=r"(run with|use) device cpu"):
        StyleOptimizer(bundle, vgg, "cuda")
