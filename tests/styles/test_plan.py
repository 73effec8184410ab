"""Tests of style plans, from timeline to pictures: strength, colors, masks, against the formulas."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import masked, mix, save_image, with_colors_of
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.film import at_strength
from mst_deploy.pipeline.render import stylize_frames
from mst_deploy.pipeline.stages import FramePreparer, batches
from mst_deploy.pipeline.still import stylize_picture
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan, constant_plan
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.video.info import Frame
from tests.clips import Clip, write_clip
from tests.pictures import picture

LUMA = np.array([0.299, 0.587, 0.114])  # BT.601


def noise(seed: int, height: int = 40, width: int = 48) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_strength_zero_shows_the_source_and_half_shows_only_paint() -> None:
    own, style = np.zeros(4, np.float32), np.ones(4, np.float32)
    shares = [at_strength(own, style, strength).opacity for strength in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    assert shares == [0, 0.2, 0.5, 1, 1, 1]
    for strength in (0.0, 0.25, 0.5, 1.0):
        np.testing.assert_allclose(at_strength(own, style, strength).film, strength, atol=1e-7)
    assert at_strength(None, style, 1.0).film is style
    with pytest.raises(InvalidArgument, match="FiLM vector of the content"):
        at_strength(None, style, 0.5)


def test_mixing_rounds_to_the_nearest_level() -> None:
    first, second = noise(1), noise(2)
    for share in (0.1, 0.3, 0.5, 0.77):
        exact = (1 - share) * first.astype(np.float64) + share * second
        assert np.abs(mix(first, second, share) - exact).max() <= 0.5 + 1e-4
    assert mix(first, second, 0.0) is first
    assert mix(first, second, 1.0) is second


def test_masks_mix_exactly_at_the_ends_and_round_between() -> None:
    first, second = noise(1), noise(2)
    mask = np.random.default_rng(3).integers(0, 256, first.shape[:2], np.uint8)
    exact = (first * (mask[..., None] / 255) + second * (1 - mask[..., None] / 255)).astype(np.float64)
    assert np.abs(masked(first, second, mask) - exact).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(masked(first, second, np.full_like(mask, 255)), first)
    np.testing.assert_array_equal(masked(first, second, np.zeros_like(mask)), second)


def test_preserved_colors_have_the_luma_of_the_paint_and_the_chroma_of_the_source() -> None:
    """Where nothing is clipped: red - luma and blue - luma (the chroma axes) stay the source's."""
    source = noise(4) // 4 + 96
    painted = noise(5) // 4 + 96
    found = with_colors_of(painted, source).astype(np.float64)
    assert np.abs(found @ LUMA - painted @ LUMA).max() <= 1.01
    for channel in (0, 2):
        before = source[..., channel] - source @ LUMA
        assert np.abs(found[..., channel] - found @ LUMA - before).max() <= 1.01
    np.testing.assert_array_equal(with_colors_of(source, source), source)
    extreme = with_colors_of(np.full((2, 2, 3), 255, np.uint8), np.array([[[255, 0, 0]] * 2] * 2, np.uint8))
    assert (extreme == [255, 179, 179]).all()  # 255 - luma 76 = 179, red cannot rise


def inverted(bundle: Bundle) -> FakeGenerator:
    return FakeGenerator(bundle)


def style_plan(film: Any, *strength: StrengthKey, **others: Any) -> StylePlan:
    timeline = Timeline((StyleKey("a"),), strength or (StrengthKey(1.0),), **others)
    return StylePlan(timeline, {"a": film, "b": film}, read=lambda image: film)


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_picture_at_a_strength(strength: float, bundle: Bundle, film: Any) -> None:
    """The fake generator inverts, so the mixture is known in closed form."""
    image = noise(6)
    found = stylize_picture(image, inverted(bundle), style_plan(film, StrengthKey(strength)))
    share = min(1, 2 * strength)
    exact = (1 - share) * image.astype(np.float64) + share * (255.0 - image)
    assert np.abs(found - exact).max() <= 0.5 + 1e-4
    if strength == 0:
        np.testing.assert_array_equal(found, image)


def frames(count: int, width: int = 16, height: int = 12) -> list[Frame]:
    return [Frame(picture(width, height, index), 1000 + 500 * index, 500) for index in range(count)]


def shown(source: list[Frame], generator: Any, wanted: StylePlan, **options: Any) -> list[Any]:
    mask = options.pop("mask", None)
    height, width = source[0].image.shape[:2]
    preparer = FramePreparer(wanted, width, height, Fraction(1, 1000), mask)
    found = [item.compose() for item in stylize_frames(iter(source), generator, preparer, **options)]
    assert [(frame.pts, frame.duration) for frame in found] == [
        (frame.pts, frame.duration) for frame in source[options.get("skip", 0) :]
    ]
    return [frame.image for frame in found]


class Counting(FakeGenerator):
    """Remembers the batches it was given; mixes the film's first number into the picture."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.sizes: list[int] = []

    def __call__(self, images: Any, film_params: Any, canvas: Any = None) -> Any:
        super().__call__(images, film_params)
        self.sizes.append(len(images))
        return images + film_params[:, :1, None, None].astype(np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 20])
def test_batches_keep_order_and_are_always_full(batch: int, bundle: Bundle, film: Any) -> None:
    source = frames(10)
    generator = Counting(bundle)
    found = shown(source, generator, constant_plan(film), batch=batch)
    for frame, image in zip(source, found, strict=True):
        np.testing.assert_array_equal(image, frame.image + np.uint8(film[0]))
    assert generator.sizes == [batch] * -(-10 // batch)


def test_batches_are_filled_up_with_the_last_item() -> None:
    assert list(batches(iter("abcde"), 3)) == [["a", "b", "c"], ["d", "e", "e"]]
    assert list(batches(iter("abcd"), 2)) == [["a", "b"], ["c", "d"]]
    assert list(batches(iter(""), 2)) == []


def test_every_frame_has_the_film_of_its_time(bundle: Bundle, film: Any) -> None:
    """A fade of 0 to 200 over two seconds, half a second a frame, counted from the first frame."""
    vectors = {"a": film * 0, "b": film * 0 + 200}
    timeline = Timeline((StyleKey("a"), StyleKey("b", Fraction(2))))
    image = np.zeros((12, 16, 3), np.uint8)
    image[:, 8:] = 40  # a frame without contrast would be shown as it is
    source = [Frame(image, 1000 + 500 * index, 500) for index in range(6)]
    found = shown(source, Counting(bundle), StylePlan(timeline, vectors))
    assert [int(image.min()) for image in found] == [0, 50, 100, 150, 200, 200]


def test_strength_over_time_and_frames_that_need_no_network(bundle: Bundle, film: Any) -> None:
    """0 until 1 s, then up to 1 at 2 s: the first three frames are the source and are never painted."""
    keys = (StrengthKey(0.0, Fraction(1)), StrengthKey(1.0, Fraction(2)))
    source = frames(6)
    generator = Counting(bundle)
    found = shown(source, generator, style_plan(film * 0 + 40, *keys))
    assert len(generator.sizes) == 3
    for frame, image in zip(source[:3], found[:3], strict=True):
        np.testing.assert_array_equal(image, frame.image)
    for frame, image in zip(source[3:], found[3:], strict=True):  # 0.5, 1, 1: painted only
        np.testing.assert_array_equal(image, frame.image + np.uint8(40))


def test_frames_that_pass_by_do_not_pile_up(bundle: Bundle, film: Any) -> None:
    """The reader is never far ahead of the consumer, even where nothing is painted."""
    read = 0

    def source() -> Iterator[Frame]:
        nonlocal read
        for index in range(500):
            read += 1
            yield Frame(np.zeros((8, 8, 3), np.uint8), index, 1)

    preparer = FramePreparer(style_plan(film, StrengthKey(0.0)), 8, 8, Fraction(1, 1000))
    prefetch = 0
    for taken, _ in enumerate(stylize_frames(source(), inverted(bundle), preparer), start=1):
        prefetch = max(prefetch, read - taken)
    assert taken == 500
    assert prefetch < 40


def test_the_contents_own_film_is_read_once_from_the_first_frame(bundle: Bundle, film: Any) -> None:
    seen: list[Any] = []

    def read(image: Any) -> Any:
        seen.append(image)
        return film

    wanted = StylePlan(Timeline((StyleKey("a"),), (StrengthKey(0.7),)), {"a": film}, read=read)
    source = frames(8)
    shown(source, inverted(bundle), wanted)
    shown(source, inverted(bundle), wanted, skip=5)  # a job that goes on reads it off the same frame
    assert len(seen) == 2
    for image in seen:
        np.testing.assert_array_equal(image, source[0].image)


@pytest.mark.parametrize("background_style", [None, "b"])
def test_a_still_mask(background_style: str | None, bundle: Bundle, film: Any, tmp_path: Path) -> None:
    """Left half inside, right half outside; the mask is of twice the size."""
    white = np.zeros((24, 32, 3), np.uint8)
    white[:, :16] = 255
    save_image(tmp_path / "mask.png", white)
    timeline = Timeline((StyleKey("a"),), mask=tmp_path / "mask.png", background_style=background_style)
    wanted = StylePlan(timeline, {"a": film * 0 + 40, "b": film * 0 + 90})
    source = frames(3)
    generator = Counting(bundle)
    with open_mask(timeline.mask) as mask:
        found = shown(source, generator, wanted, mask=mask, batch=2)
    for frame, image in zip(source, found, strict=True):
        np.testing.assert_array_equal(image[:, :8], frame.image[:, :8] + np.uint8(40))
        expected = frame.image[:, 8:] + np.uint8(90 if background_style else 0)
        np.testing.assert_array_equal(image[:, 8:], expected)
    assert sum(generator.sizes) == (6 if background_style else 4)  # three pictures or six, in twos


def test_a_moving_mask_is_shown_at_its_times(tmp_path: Path) -> None:
    """Frames of 0, 50, 100, ... gray at 0, 1, 3, 3.5 s; asked for in between."""
    import av

    path = tmp_path / "mask.mkv"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "gray"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.color_range = 2
        for level, time in ((0, 0), (50, 1000), (100, 3000), (150, 3500)):
            frame = av.VideoFrame.from_ndarray(np.full((12, 16), level, np.uint8), format="gray")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_mask(path) as mask:
        assert mask is not None
        moments = ("0", "0.99", "1", "2.5", "3.2", "3.5", "60")
        levels = [mask.at(Fraction(moment), 32, 24) for moment in moments]
    assert all(level.shape == (24, 32) for level in levels)
    assert np.abs([int(level[5, 5]) for level in levels] - np.array([0, 0, 50, 50, 100, 150, 150])).max() <= 1


def test_a_mask_video_may_be_any_clip(tmp_path: Path) -> None:
    with open_mask(write_clip(tmp_path / "mask.mp4", Clip(frames=3, audio=0))) as mask:
        assert mask is not None
        assert mask.at(Fraction(0), 16, 12).shape == (12, 16)
