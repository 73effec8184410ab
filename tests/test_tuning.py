"""Tuning moves the film row alone, towards the painting as other code measures it, and keeps what it made."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mst_deploy.backends import open_generator, open_style_encoder
from mst_deploy.benchmarks.quality.video import measure_flicker
from mst_deploy.cli.style import style_tune
from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.film import load_style, with_strength
from mst_deploy.halos import halo_loss
from mst_deploy.images import Image, centre_crop, load_image, save_image
from mst_deploy.manifest import Bundle
from mst_deploy.moments import FRAMES, SHIFT, SIZE, Moment, moments_of, photographs
from mst_deploy.perceptual import Distances, as_tensor
from mst_deploy.pipeline import stylize_image
from mst_deploy.shipped import shipped_photographs
from mst_deploy.styling import as_style, encode_film
from mst_deploy.tuning import FOR_ALL, Tuner, Tuning, limited, normalised_vgg, tune
from mst_deploy.vgg import Vgg19, load_vgg
from mst_deploy.video.info import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.spans import Span
from mst_deploy.weights import load_bundle
from tests.clips import NTSC, Clip, picture, write_clip
from tests.conftest import ROOT
from tests.test_cli import mst
from tests.test_vgg import REAL, SCALES

PAINTING = ROOT / "examples" / "paintings" / "great-wave.jpg"
NEEDS_VGG = pytest.mark.skipif(not REAL.exists(), reason="no pretrained weights beside the checkout")


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    torch.manual_seed(0)
    save_file(Vgg19().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def vgg(vgg_file: Path) -> Vgg19:
    return load_vgg(vgg_file)


def photo(size: int) -> Image:
    return centre_crop(moments_of(ROOT / "examples" / "bunny.mp4", 1, size)[0].frame, size)


def still(size: int) -> Moment:
    return Moment(photo(size))


def start(bundle: Bundle) -> tuple[Any, Image]:
    """The painting's film row and the painting as the encoder sees it."""
    painting = load_image(PAINTING)
    return encode_film(open_style_encoder(bundle, device="cpu"), painting), as_style(
        painting, bundle.manifest
    )


@NEEDS_VGG
def test_results_come_nearer_to_the_painting_as_the_deployed_model_paints_them(bundle: Bundle) -> None:
    """What is reported is what ``Distances`` finds in the pictures of ONNX Runtime, 8 bits a colour."""
    vgg = load_vgg(REAL, SCALES)
    film, painting = start(bundle)
    frame = photo(128)
    tuned = tune(load_bundle(bundle).generator, film, [Moment(frame)], painting, vgg, Tuning(steps=8))
    found = []
    with open_generator(bundle, device="cpu") as generator:
        for row, told in ((film, tuned.before), (tuned.film, tuned.after)):
            content, style, _ = Distances(vgg)(frame, painting, stylize_image(frame, generator, row))
            assert style == pytest.approx(told.style, rel=0.05)
            assert content == pytest.approx(told.content, rel=0.05)
            found.append((style, content))
    before, after = (Tuning.style_weight * style + content for style, content in found)
    assert after < 0.9 * before
    assert found[1][0] < found[0][0]


@pytest.mark.parametrize("weight", [0.0, 1e4])
def test_the_weight_says_which_distance_falls(bundle: Bundle, vgg: Vgg19, weight: float) -> None:
    film, painting = start(bundle)
    how = Tuning(steps=3, style_weight=weight, rate=0.02)
    tuned = tune(load_bundle(bundle).generator, film, [still(64)], painting, vgg, how)
    if weight:
        assert tuned.after.style < tuned.before.style
    else:
        assert tuned.after.content < tuned.before.content


def test_several_pictures_count_alike(bundle: Bundle, vgg: Vgg19) -> None:
    """Means over pictures of different sizes; the row that was given is left as it was."""
    film, painting = start(bundle)
    kept = film.copy()
    generator = load_bundle(bundle).generator
    first, second = still(64), still(96)
    how = Tuning(steps=1)
    one, two, both = (tune(generator, film, some, painting, vgg, how) for some in
                      ([first], [second], [first, second]))  # fmt: skip
    assert both.before.style == pytest.approx((one.before.style + two.before.style) / 2, rel=1e-3)
    assert both.before.content == pytest.approx((one.before.content + two.before.content) / 2, rel=1e-3)
    np.testing.assert_array_equal(film, kept)
    assert np.abs(both.film - film).max() == pytest.approx(how.rate, rel=0.01)  # Adam's first step


def test_the_networks_are_left_alone(bundle: Bundle, vgg: Vgg19) -> None:
    film, painting = start(bundle)
    generator = load_bundle(bundle).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    tune(generator, film, [still(64)], painting, vgg, Tuning(steps=1))
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in generator.parameters())


def test_without_factors_the_shipped_photographs_normalise(vgg_file: Path) -> None:
    """Every channel that responds has a mean of 1 over them; what the weights mean hangs on that."""
    pictures = [load_image(path) for path in shipped_photographs()]
    vgg = normalised_vgg(vgg_file, None)
    with torch.no_grad():
        means = torch.stack([vgg(as_tensor(picture))["relu2_1"].mean(dim=(0, 2, 3)) for picture in pictures])
        plain = torch.stack(
            [load_vgg(vgg_file)(as_tensor(p))["relu2_1"].mean(dim=(0, 2, 3)) for p in pictures]
        )
    alive = plain.mean(dim=0) > plain.mean() * 0.1
    assert alive.sum() > 10
    torch.testing.assert_close(means.mean(dim=0)[alive], torch.ones(int(alive.sum())), rtol=1e-3, atol=1e-3)


@NEEDS_VGG
def test_the_photographs_normalise_about_as_the_factors_that_are_published() -> None:
    """Those were taken over many more; figures are close, as those of a plain VGG are not."""
    frame, painting = photo(192), centre_crop(load_image(PAINTING), 256)
    other = centre_crop(load_image(PAINTING.with_name("joy-of-life.jpg")), 192)
    published, ours, plain = (
        np.array([Distances(vgg)(frame, painting, other), Distances(vgg)(other, painting, frame)])
        for vgg in (load_vgg(REAL, SCALES), normalised_vgg(REAL, None), load_vgg(REAL))
    )
    assert np.abs(np.log(ours / published)).mean() < 0.07
    assert np.abs(np.log(plain / published)).mean() > 0.1


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"at_once": 0}, {"style_weight": -1.0}, {"temporal_weight": -1.0},
     {"temporal_limit": math.nan}, {"rate": 0.0}, {"strengths": ()}, {"strengths": (1.0, 1.1)}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="tuning needs"):
        replace(Tuning(), **wrong)


def test_a_row_that_is_no_number_is_refused(bundle: Bundle, vgg: Vgg19, film: Any) -> None:
    with pytest.raises(InvalidArgument, match="no numbers"):
        tune(load_bundle(bundle).generator, film, [still(64)], photo(64), vgg, Tuning(2, style_weight=1e38))


def test_no_picture_is_refused(bundle: Bundle, vgg: Vgg19, film: Any) -> None:
    with pytest.raises(InvalidArgument, match="at least one picture"):
        tune(load_bundle(bundle).generator, film, [], photo(64), vgg)


def test_moments_are_spread_over_the_clip(tmp_path: Path) -> None:
    """The middles of equal parts, each with the frame that follows; the last frame has none."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=12))
    with VideoReader(clip) as reader:
        frames = [frame.image for frame in reader]
    found = moments_of(clip, 4, 48)
    assert len(found) == 4
    for index, moment in zip((2, 5, 8, 11), found, strict=True):  # 1.5, 4.5, ..: the first frame not before
        np.testing.assert_array_equal(moment.frame, frames[index])
        if index == 11:
            assert moment.following is None
        else:
            assert moment.following is not None
            np.testing.assert_array_equal(moment.following, frames[index + 1])
    assert [moment.frame.shape for moment in moments_of(clip, 2, 24)] == [(24, 32, 3)] * 2


def test_a_picture_is_no_clip_and_is_never_enlarged(tmp_path: Path) -> None:
    save_image(tmp_path / "small.png", np.ascontiguousarray(picture(40, 30, 1)))
    (moment,) = moments_of(tmp_path / "small.png", 4, 320)
    assert moment.frame.shape == (30, 40, 3)
    assert moment.following is None
    (tmp_path / "words.txt").write_text("no pictures")
    with pytest.raises(InputError, match=r"words\.txt"):
        moments_of(tmp_path / "words.txt", 4, 320)


def test_one_colour_is_left_out_or_refused(bundle: Bundle, vgg: Vgg19, tmp_path: Path) -> None:
    """A black frame's gradients overflow on their way through fifteen normalisations: the row became NaN."""
    film, painting = start(bundle)
    black = Moment(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InvalidArgument, match="one colour"):
        tune(load_bundle(bundle).generator, film, [still(64), black], painting, vgg)
    save_image(tmp_path / "black.png", black.frame)
    with pytest.raises(InputError, match=r"black\.png"):
        moments_of(tmp_path / "black.png", 1, 320)
    for number, frame in enumerate([black.frame] * 6 + [photo(64)] * 6):
        save_image(tmp_path / f"faded{number:02d}.png", frame)
    found = moments_of(tmp_path / "faded%02d.png", 4, 64)
    assert len(found) == 2
    assert min(moment.frame.std() for moment in found) > 20


def test_flicker_is_the_warping_error_of_the_evaluation(bundle: Bundle, vgg: Vgg19) -> None:
    """On a pan by 4 pixels, but for half a grey level: there the results are rounded to 8 bits."""
    film, painting = start(bundle)
    wide = photo(128)
    moment = Moment(np.ascontiguousarray(wide[:, :-4]), np.ascontiguousarray(wide[:, 4:]))
    tuned = tune(load_bundle(bundle).generator, film, [moment], painting, vgg, Tuning(steps=1))
    with open_generator(bundle, device="cpu") as generator:
        results = [stylize_image(picture, generator, film) for picture in moment.pictures]
    (flicker,) = measure_flicker(zip(moment.pictures, results, strict=True), [1])
    assert tuned.before.flicker == pytest.approx(flicker.result[0], abs=0.5 / 255)
    difference = (results[0].astype(float) - results[1]) / 255
    assert np.sqrt(np.square(difference).sum(axis=2)).mean() > 3 * flicker.result[0]  # it did move


def test_photographs_are_windows_that_moved_a_little() -> None:
    """Sixteen files of the package; what both windows show is the same."""
    found = photographs()
    assert len(found) == len(shipped_photographs()) == 16
    down, right = SHIFT
    for moment in found:
        assert moment.following is not None
        assert moment.frame.shape == moment.following.shape == (256 - down, 256 - right, 3)
        np.testing.assert_array_equal(moment.frame[:-down, :-right], moment.following[down:, right:])
    assert len(photographs(2)) == 2


def test_many_moments_take_turns(bundle: Bundle, vgg: Vgg19, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of five in each step, all before any again; what is told is of all five."""
    film, painting = start(bundle)
    moments = [still(side) for side in (48, 52, 56, 60, 64)]
    generator, seen = load_bundle(bundle).generator, list[int]()
    paint = generator.forward

    def watched(images: Any, row: Any) -> Any:
        if row.requires_grad and torch.is_grad_enabled():
            seen.append(images.shape[-1])
        return paint(images, row)

    monkeypatch.setattr(generator, "forward", watched)
    turns = tune(generator, film, moments, painting, vgg, Tuning(steps=3, at_once=3))
    assert seen == [48, 52, 56, 60, 64, 48, 52, 56, 60]
    whole = tune(generator, film, moments, painting, vgg, Tuning(steps=1, at_once=5))
    assert astuple(turns.before) == pytest.approx(astuple(whole.before), rel=1e-3)


def test_strengths_take_turns_on_the_way_from_the_pictures_own_row(
    bundle: Bundle, vgg: Vgg19, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Painted with the rows that ``mst`` paints with at those strengths; what is told is of strength 1."""
    film, painting = start(bundle)
    own = partial(encode_film, open_style_encoder(bundle, device="cpu"))
    moments = [still(side) for side in (80, 96, 88)]
    generator, seen = load_bundle(bundle).generator, list[Any]()
    paint = generator.forward

    def watched(images: Any, row: Any) -> Any:
        if row.requires_grad and torch.is_grad_enabled():
            seen.append(row.detach()[0].numpy().copy())
        return paint(images, row)

    monkeypatch.setattr(generator, "forward", watched)
    how = Tuning(steps=1, style_weight=8.0, strengths=(1.0, 0.9, 0.5))
    tuned = tune(generator, film, moments, painting, vgg, how, own=own)
    wanted = [with_strength(own(moment.frame), film, strength)
              for moment, strength in zip(moments, how.strengths, strict=True)]  # fmt: skip
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    plain = tune(generator, film, moments, painting, vgg, replace(how, strengths=(1.0,)))
    assert astuple(tuned.before) == pytest.approx(astuple(plain.before), rel=1e-3)
    with pytest.raises(InvalidArgument, match="own film rows"):
        tune(generator, film, moments, painting, vgg, how)


def test_at_a_strength_the_style_weighs_its_cube(bundle: Bundle, vgg: Vgg19) -> None:
    """Where the row begins as the picture's own, strengths differ in the weight alone, and Adam's first step
    knows directions only."""
    film, painting = start(bundle)
    some = [still(64)]
    half, weaker, full = (
        tune(load_bundle(bundle).generator, film, some, painting, vgg,
             Tuning(steps=1, style_weight=weight, strengths=(strength,)), own=lambda _: film).film - film
        for weight, strength in ((8.0, 0.5), (1.0, 1.0), (8.0, 1.0))
    )  # fmt: skip
    assert np.mean(np.sign(half) == np.sign(weaker)) > 0.98
    assert np.mean(np.sign(half) == np.sign(full)) < 0.95


def test_the_halo_weight_keeps_flat_areas_even(bundle: Bundle, vgg: Vgg19) -> None:
    """A dark roof before an even sky; nothing but the term itself, so it must fall."""
    film, painting = start(bundle)
    frame = np.full((96, 96, 3), (120, 160, 210), np.uint8)
    frame[60:, 20:70] = photo(96)[60:, 20:70] // 3
    generator = load_bundle(bundle).generator
    how = Tuning(steps=4, style_weight=0.0, halo_weight=1e7)
    tuned = tune(generator, film, [Moment(frame)], painting, vgg, how)
    with torch.inference_mode():
        before, after = (
            halo_loss(generator(as_tensor(frame), torch.from_numpy(row)[None]), as_tensor(frame)).item()
            for row in (film, tuned.film)
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


def test_the_temporal_weight_calms_and_the_limit_holds_it_back(bundle: Bundle, vgg: Vgg19) -> None:
    film, painting = start(bundle)
    (moment,) = moments_of(ROOT / "examples" / "bunny.mp4", 1, 96)
    loose, calm, calmest = (
        tune(load_bundle(bundle).generator, film, [moment], painting, vgg,
             Tuning(6, style_weight=1.0, temporal_weight=weight, temporal_limit=limit))
        for weight, limit in ((0.0, 0.5), (100.0, 0.5), (100.0, math.inf))
    )  # fmt: skip
    assert calm.after.flicker < 0.9 * calm.before.flicker
    assert calmest.after.flicker < calm.after.flicker < loose.after.flicker
    assert calmest.after.content + calmest.after.style > calm.after.content + calm.after.style


def without_generator(tuner: Tuner) -> Tuner:
    """One that can only read what was kept."""
    tuner.generator = None  # type: ignore[assignment]
    return tuner


def test_kept_rows_are_not_made_again(bundle: Bundle, vgg: Vgg19, tmp_path: Path) -> None:
    film, painting = start(bundle)
    how = Tuning(steps=1)
    first = Tuner(bundle, vgg, "cpu", how, tmp_path)(film, [still(64)], painting)
    again = without_generator(Tuner(bundle, vgg, "cpu", how, tmp_path))
    second = again(film, [still(64)], painting)
    np.testing.assert_array_equal(second.film, first.film)
    assert (second.before, second.after) == (first.before, first.after)
    other = Vgg19()
    with pytest.raises(AttributeError):
        without_generator(Tuner(bundle, other, "cpu", how, tmp_path))(film, [still(64)], painting)
    for changed in (replace(how, steps=2), replace(how, style_weight=1.0)):
        again.how = changed
        with pytest.raises(AttributeError):
            again(film, [still(64)], painting)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no zip"]
)
def test_a_damaged_row_is_made_again(bundle: Bundle, vgg: Vgg19, tmp_path: Path, damage: Any) -> None:
    film, painting = start(bundle)
    tuner = Tuner(bundle, vgg, "cpu", Tuning(steps=1), tmp_path)
    first = tuner(film, [still(64)], painting)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    np.testing.assert_allclose(tuner(film, [still(64)], painting).film, first.film, atol=1e-6)
    np.testing.assert_array_equal(without_generator(tuner)(film, [still(64)], painting).film, first.film)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_told(bundle: Bundle, vgg: Vgg19) -> None:
    with pytest.raises(BackendError, match="--device cpu"):
        Tuner(bundle, vgg, "cuda")


def test_the_command_writes_a_style_for_the_model(tmp_path: Path, vgg_file: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=6))
    output = tmp_path / "tuned.safetensors"
    made = mst("style", "tune", PAINTING, "--for", clip, "--steps", 1, "--frames", 2, "--model", "lite",
               "--vgg", vgg_file, "--device", "cpu", "-o", output, "--json")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["output"] == str(output)
    style = load_style(output)
    assert style.name == "tuned"
    plain = mst("style", "make", PAINTING, "--model", "lite", "-o", tmp_path / "plain.safetensors")
    assert plain.returncode == 0, plain.stderr
    moved = np.abs(style.film - load_style(tmp_path / "plain.safetensors").film)
    assert moved.max() == pytest.approx(Tuning().rate, rel=0.01)
    for_all = mst("style", "tune", PAINTING, "--steps", 1, "--model", "lite", "--vgg", vgg_file,
                  "--device", "cpu", "-o", tmp_path / "all.safetensors")  # fmt: skip
    assert for_all.returncode == 0, for_all.stderr
    assert "flicker" in for_all.stdout  # of the photographs' two windows
    painted = mst("video", clip, "--style", output, "--model", "lite", "-o", tmp_path / "painted.mp4", "-q")
    assert painted.returncode == 0, painted.stderr
    twice = mst("style", "tune", PAINTING, "--for", clip, "-o", output, "--vgg", vgg_file)
    assert twice.returncode == 1
    assert "--force" in twice.stderr
    from_style = mst("style", "tune", output, "--for", clip)
    assert from_style.returncode == 1
    assert "holds no picture any more" in from_style.stderr
    nothing = mst("style", "tune", PAINTING, "--for", tmp_path / "none.mp4", "--vgg", vgg_file,
                  "-o", tmp_path / "x.safetensors")  # fmt: skip
    assert nothing.returncode == 1
    assert "none.mp4" in nothing.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_the_command_and_the_values_have_the_same_defaults() -> None:
    """They are written twice, because a help text must not import PyTorch."""
    parameters = inspect.signature(style_tune, eval_str=True).parameters
    given = {name: value.default for name, value in parameters.items()}
    for name in ("steps", "temporal_weight", "temporal_limit"):
        assert given[name] == getattr(Tuning(), name) == getattr(FOR_ALL, name), name
    (option,) = (part for part in get_args(parameters["style_weight"].annotation) if hasattr(part, "help"))
    weights = Tuning().style_weight, FOR_ALL.style_weight
    assert "Default: {:g}, or {:g} for everyday photographs".format(*weights) in option.help
    assert (given["frames"], given["size"]) == (FRAMES, SIZE)


def test_models_are_measured_tuned(tmp_path: Path, vgg_file: Path) -> None:
    for folder, seed in (("photos", 1), ("art", 40)):
        (tmp_path / folder).mkdir()
        save_image(tmp_path / folder / "a.png", np.ascontiguousarray(picture(80, 80, seed)))
    sets = ["--content", tmp_path / "photos", "--style", tmp_path / "art", "--size", 80, "--each", 1]
    how = ["--vgg", vgg_file, "--metrics", "style", "--device", "cpu"]
    common = ["eval", "model", "lite", *sets, *how]
    made = mst(*common, "--tune", tmp_path / "rows", "-o", tmp_path / "tuned", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["system"] == "lite, tuned"
    assert len(list((tmp_path / "rows").iterdir())) == 1
    alone = mst(*common, "--tune-once", "-o", tmp_path / "alone")
    assert alone.returncode == 1
    assert "give --tune and a folder" in alone.stderr
    weaker = mst(*common, "--tune", tmp_path / "rows", "--strength", 0.7, "-o", tmp_path / "weaker")
    assert weaker.returncode == 0, weaker.stderr
    assert len(list((tmp_path / "rows").iterdir())) == 1


def test_moments_lie_in_the_part_that_is_painted(tmp_path: Path) -> None:
    """Frames 4 to 9 are wanted; the middles of their halves are 5.5 and 8.5."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=12))
    with VideoReader(clip) as reader:
        frames = [frame.image for frame in reader]
    read = ReadOptions(Span(4 / NTSC, 10 / NTSC))
    found = moments_of(clip, 2, 48, read)
    for index, moment in zip((6, 9), found, strict=True):  # the first frames not before
        np.testing.assert_array_equal(moment.frame, frames[index])
    assert found[0].following is not None
    assert found[1].following is None  # the part ends there


def command_with_cache(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """``mst`` in a process of its own that keeps tuned rows in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "mst_deploy", *map(str, arguments)], capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )  # fmt: skip


def test_videos_are_tuned_on_the_way_as_beforehand(tmp_path: Path, vgg_file: Path) -> None:
    """``mst video --tune`` paints what ``mst style tune`` and ``mst video`` paint, and waits only once."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=3))
    how = ["--model", "lite", "--device", "cpu"]
    beforehand = mst("style", "tune", PAINTING, "--for", clip, "--vgg", vgg_file, *how,
                     "-o", tmp_path / "tuned.safetensors")  # fmt: skip
    assert beforehand.returncode == 0, beforehand.stderr
    for style, output in (("tuned.safetensors", "one.mkv"), (PAINTING, "plain.mkv")):
        done = mst(
            "video", clip, "--style", tmp_path / style, *how, "--codec", "ffv1", "-o", tmp_path / output
        )
        assert done.returncode == 0, done.stderr
    told = []
    for output in ("two.mkv", "three.mkv"):
        done = command_with_cache(
            tmp_path / "cache", "video", clip, "--style", PAINTING, "--tune", "--vgg", vgg_file, *how,
            "--codec", "ffv1", "-o", tmp_path / output, "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout)["tuned"][str(PAINTING)])
        kept = list((tmp_path / "cache" / "mst" / "tuned").iterdir())
        assert len(kept) == 1
    assert told[0] == told[1]  # to the last digit: read, not made again
    one, two, plain = (frames_of(tmp_path / name) for name in ("one.mkv", "two.mkv", "plain.mkv"))
    assert np.abs(one - two).max() <= 1  # threads may add up in another order
    assert np.abs(one - plain).mean() > 1
    np.testing.assert_array_equal(two, frames_of(tmp_path / "three.mkv"))


def frames_of(clip: Path) -> Any:
    """All frames of a video, (N, H, W, 3) float."""
    with VideoReader(clip) as reader:
        return np.stack([frame.image for frame in reader]).astype(float)


def test_pictures_are_tuned_one_by_one(tmp_path: Path, vgg_file: Path) -> None:
    names = []
    for seed in (1, 2):
        names.append(tmp_path / f"{seed}.png")
        save_image(names[-1], np.ascontiguousarray(picture(96, 80, seed)))
    (tmp_path / "out").mkdir()
    done = command_with_cache(
        tmp_path / "cache", "image", *names, "--style", PAINTING, "--tune", "--vgg", vgg_file,
        "--model", "lite", "--device", "cpu", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert list(facts["tuned"]) == facts["outputs"]
    first, second = (facts["tuned"][output][str(PAINTING)]["before"] for output in facts["outputs"])
    assert first != second
    assert len(list((tmp_path / "cache" / "mst" / "tuned").iterdir())) == 2


def test_what_cannot_be_tuned_is_told(tmp_path: Path, vgg_file: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=2))
    common = ["--model", "lite", "--device", "cpu", "-o", tmp_path / "x.mp4"]
    for style, more, message in (
        ("udnie", ["--tune"], "needs the picture itself"),
        (PAINTING, ["--vgg", vgg_file], "give both or neither"),
    ):
        done = mst("video", clip, "--style", style, *more, *common)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    piped = mst("video", "-", "--style", PAINTING, "--tune", "--vgg", vgg_file, *common)
    assert piped.returncode == 1
    assert "a pipe can be read only once" in piped.stderr
    assert not (tmp_path / "x.mp4").exists()
