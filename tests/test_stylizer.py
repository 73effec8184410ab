"""One session for many pictures, videos and threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.errors import InvalidArgument
from mst_deploy.images import load_image, save_image
from mst_deploy.stylizer import STYLES_KEPT
from tests.conftest import ROOT
from tests.pictures import picture

ARTWORK = ROOT / "examples" / "paintings" / "udnie.jpg"


def test_every_kind_of_style_gives_the_same_picture(tmp_path: Path) -> None:
    """A file, the array of its pixels, the style read off it, and a style file of it."""
    with mst.Stylizer(backend="onnxrt") as stylizer:
        style = stylizer.style(ARTWORK)
        image = picture(48, 40, 0)
        first = stylizer.image(image, style)
        np.testing.assert_array_equal(stylizer.image(image, ARTWORK), first)
        np.testing.assert_array_equal(stylizer.image(image, load_image(ARTWORK)), first)
        np.testing.assert_array_equal(stylizer.image(image, stylizer.plan(str(ARTWORK))), first)
        assert np.abs(first.astype(int) - image).mean() > 5


def test_a_picture_that_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "art.png"
    save_image(file, picture(80, 80, 1))
    with mst.Stylizer(backend="fake") as stylizer:
        first = stylizer.style(file)
        assert stylizer.style(file) is first
        save_image(file, picture(90, 80, 2))
        assert stylizer.style(file).source_sha256 != first.source_sha256


def test_no_more_styles_are_kept_than_stated() -> None:
    with mst.Stylizer(backend="fake") as stylizer:
        styles = [stylizer.style(np.full((76, 76, 3), index, np.uint8)) for index in range(STYLES_KEPT + 2)]
        assert stylizer.style(np.full((76, 76, 3), STYLES_KEPT + 1, np.uint8)) is styles[-1]
        assert stylizer.style(np.full((76, 76, 3), 0, np.uint8)) is not styles[0]


def test_styles_of_the_model() -> None:
    with mst.Stylizer("lite", backend="fake") as stylizer:
        assert {style.model_id for style in stylizer.styles()} == {stylizer.manifest.model_id}
        assert "starry-night" in {style.name for style in stylizer.styles()}


def test_a_style_of_another_model_is_refused() -> None:
    with (
        mst.Stylizer("lite", backend="fake") as lite,
        mst.Stylizer(backend="fake") as base,
        pytest.raises(mst.BundleError, match="made by model"),
    ):
        base.image(picture(16, 16, 0), lite.styles()[0])


WRONG = pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 0, 3), np.uint8), "no pixels"),
        (np.zeros((8, 8), np.uint8), r"got \(8, 8\) uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\) uint8"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        ([[1, 2, 3]], "got list"),
        (None, "got NoneType"),
    ],
)


@WRONG
def test_what_is_no_picture_is_refused(image: Any, found: str) -> None:
    with mst.Stylizer(backend="fake") as stylizer, pytest.raises(mst.InvalidArgument, match=found):
        stylizer.image(image, "zodiac")


@pytest.mark.parametrize("style", [None, 3, ["zodiac"], b"zodiac"])
def test_what_is_no_style_is_refused(style: Any) -> None:
    with mst.Stylizer(backend="fake") as stylizer, pytest.raises(mst.InvalidArgument, match="as a style"):
        stylizer.image(picture(16, 16, 0), style)


@WRONG
def test_what_is_no_picture_is_refused_as_a_frame(
    image: Any, found: str, small_clip: Path, tmp_path: Path
) -> None:
    """By what writes frames and by what stylizes those of any source; and as a style."""

    class Wrong:
        def __init__(self, clip: Any) -> None:
            self.info = clip.info

        def __iter__(self) -> Iterator[mst.Frame]:
            yield mst.Frame(image, 0, 1001)

        def problems(self) -> tuple[str, ...]:
            return ()

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    with mst.open_video(small_clip) as clip, mst.Stylizer(backend="fake") as stylizer:
        with pytest.raises(mst.InvalidArgument, match=found):
            mst.write_video(tmp_path / "a.mp4", Wrong(clip), clip)
        with pytest.raises(mst.InvalidArgument, match=found):
            list(stylizer.frames(Wrong(clip), "zodiac"))
        if isinstance(image, np.ndarray):
            with pytest.raises(mst.InvalidArgument, match=found):
                stylizer.image(picture(16, 16, 0), image)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_two_sizes_are_refused(small_clip: Path, tmp_path: Path) -> None:
    frames = [mst.Frame(picture(width, 48, 0), 1001 * number, 1001) for number, width in enumerate((64, 32))]
    with mst.open_video(small_clip) as clip, pytest.raises(mst.InvalidArgument, match="one size"):
        mst.write_video(tmp_path / "a.mp4", frames, clip)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "film", [[1.0], np.ones((2, 2), np.float32), np.ones(4), np.full(4, np.nan, np.float32)]
)
def test_what_is_no_film_vector_is_refused(film: Any) -> None:
    with pytest.raises(mst.InvalidArgument):
        mst.Style("a", film, "model")


def test_a_read_only_picture_is_stylized() -> None:
    image = picture(16, 16, 0)
    image.flags.writeable = False
    with mst.Stylizer(backend="fake") as stylizer:
        np.testing.assert_array_equal(stylizer.image(image, "zodiac"), 255 - image)


class Alone(FakeGenerator):
    """Fails when two threads are in it at once."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        assert self.gate.acquire(blocking=False), "two calls at once"
        try:
            threading.Event().wait(0.002)
            return super().__call__(*arguments, **named)
        finally:
            self.gate.release()

    gate = threading.Lock()


class Overlapping(Alone):
    """A backend with a stream of its own, as TensorRT's."""

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            yield self(*batch)


@pytest.mark.parametrize("kind", [Alone, Overlapping])
def test_threads_share_a_session(
    kind: type[Alone], small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures and two videos at once; each result is its own, and no two calls of the model overlap."""
    monkeypatch.setattr("mst_deploy.backends.fake.FakeGenerator", kind)

    def video() -> list[int]:
        with mst.open_video(small_clip) as clip:
            return [int(frame.image.mean()) for frame in stylizer.frames(clip, "zodiac", size="16")]

    with mst.Stylizer(backend="fake") as stylizer, ThreadPoolExecutor(4) as pool:
        assert isinstance(stylizer.backend.backend, kind)  # type: ignore[attr-defined]
        images = [picture(16, 16, index) for index in range(12)]
        videos = [pool.submit(video) for _ in range(2)]
        results = list(pool.map(lambda image: stylizer.image(image, "zodiac"), images))
        assert videos[0].result() == videos[1].result()
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, 255 - image)


@pytest.mark.parametrize("threads", [None, 1])
def test_the_threads_of_the_model_can_be_limited(threads: int | None) -> None:
    """As ONNX Runtime has it; 0 leaves the number to it."""
    with mst.Stylizer("lite", backend="onnxrt", device="cpu", threads=threads) as stylizer:
        backend: Any = stylizer.backend
        assert backend.backend.session.get_session_options().intra_op_num_threads == (threads or 0)


def test_no_threads_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="must be 1 or more"):
        mst.Stylizer("lite", backend="onnxrt", threads=0)
    with pytest.raises(InvalidArgument, match="no effect on fake; it is for onnxrt, openvino"):
        mst.Stylizer("lite", backend="fake", threads=1)


def test_a_session_in_the_middle_of_a_stream_says_so(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a backend works on two batches at a time; elsewhere calls may come between."""
    monkeypatch.setattr("mst_deploy.backends.fake.FakeGenerator", Overlapping)
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        frames = stylizer.frames(clip, "zodiac")
        next(frames)
        with pytest.raises(mst.BackendError, match="in the middle of a video"):
            stylizer.image(picture(16, 16, 0), "zodiac")
        frames.close()
        stylizer.image(picture(16, 16, 0), "zodiac")
