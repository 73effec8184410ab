"""Tests of the Python API against its documentation."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.backends import open_style_encoder
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images import mix
from mst_deploy.video.deflicker import Deflicker
from tests.clips import Clip, probe, write_clip
from tests.conftest import ROOT
from tests.pictures import picture


def test_five_lines(small_clip: Path, tmp_path: Path) -> None:
    """Inverted by the fake model; times and sound are those of the source."""
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        frames = stylizer.frames(clip, "starry-night")
        assert mst.write_video(tmp_path / "out.mkv", frames, clip, codec="ffv1") == 12
    before, after = probe(small_clip), probe(tmp_path / "out.mkv")
    assert (len(after.times), after.size) == (12, before.size)
    assert [content for _, _, content in after.audio] == [content for _, _, content in before.audio]
    with mst.open_video(small_clip) as source, mst.open_video(tmp_path / "out.mkv") as result:
        for first, second in zip(source, result, strict=True):
            assert np.abs(255 - first.image.astype(int) - second.image).mean() < 2


def test_frames_come_with_shape_type_and_time(small_clip: Path) -> None:
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        frames = list(stylizer.frames(clip, "zodiac", size="24", batch=5))
    assert [frame.pts for frame in frames] == [1001 * index for index in range(12)]
    assert {frame.image.shape for frame in frames} == {(24, 32, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}


def test_whatever_comes_between_is_a_plain_iterator(small_clip: Path, tmp_path: Path) -> None:
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        frames = (replace(frame, image=frame.image[::-1]) for frame in stylizer.frames(clip, "zodiac"))
        mst.write_video(tmp_path / "out.mp4", frames, clip)
    assert probe(tmp_path / "out.mp4").times == probe(small_clip).times


def test_a_timeline_does_for_videos_and_pictures(small_clip: Path) -> None:
    timeline = mst.Timeline(
        (mst.StyleKey("zodiac"), mst.StyleKey("udnie", Fraction(1))),
        (mst.StrengthKey(0.0), mst.StrengthKey(0.5, Fraction(1, 5))),
    )
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        with mst.open_video(small_clip) as again:
            for before, after in zip(again, stylizer.frames(clip, timeline), strict=True):
                share = min(1.0, before.pts / 6000)
                exact = (1 - share) * before.image.astype(float) + share * (255.0 - before.image)
                assert np.abs(after.image - exact).max() <= 0.5 + 1e-4
        image = picture(40, 30, 0)
        np.testing.assert_array_equal(stylizer.image(image, timeline), image)
        np.testing.assert_array_equal(stylizer.image(image, "zodiac"), 255 - image)


def test_steady_frames(small_clip: Path) -> None:
    """Averaged as painted (inverted by the fake model), and mixed with the source after that."""
    half = mst.Timeline((mst.StyleKey("zodiac"),), (mst.StrengthKey(0.25),))
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        found = list(stylizer.frames(clip, half, deflicker=True))
    deflicker_filter, changed = Deflicker(), 0
    with mst.open_video(small_clip) as clip:
        for frame, shown in zip(clip, found, strict=True):
            (painted,) = deflicker_filter(frame.image, [255 - frame.image])
            np.testing.assert_array_equal(shown.image, mix(frame.image, painted, 0.5))
            changed += int((painted != 255 - frame.image).any())
    assert changed == 11


def test_whole_files(small_clip: Path, tmp_path: Path) -> None:
    with mst.Stylizer(backend="fake") as stylizer:
        result = stylizer.file(small_clip, tmp_path / "out.mp4", "zodiac", mst.RenderOptions(batch=2))
    assert (result.frames, result.resumed) == (12, 0)
    assert probe(tmp_path / "out.mp4").times == probe(small_clip).times


def test_leaving_early_leaves_no_thread_and_no_file(clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / "early.mp4", Clip(frames=200, audio=0))
    before = set(threading.enumerate())
    with mst.Stylizer(backend="fake") as stylizer:
        with mst.open_video(source) as clip:
            frames = stylizer.frames(clip, "zodiac")
            next(frames)
            frames.close()
            assert set(threading.enumerate()) <= before
        with mst.open_video(source) as clip, pytest.raises(InvalidArgument, match="unknown video type"):
            mst.write_video(tmp_path / "out.xyz", stylizer.frames(clip, "zodiac"), clip)
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []


def test_errors_are_raised_before_the_first_frame(small_clip: Path) -> None:
    with mst.Stylizer(backend="fake") as stylizer, mst.open_video(small_clip) as clip:
        with pytest.raises(InvalidArgument, match="did you mean 'zodiac'"):
            stylizer.frames(clip, "zodiak")
        with pytest.raises(InvalidArgument, match="as a size"):
            stylizer.frames(clip, "zodiac", size="big")
        with pytest.raises(InvalidArgument, match="at least 1 picture"):
            stylizer.frames(clip, "zodiac", batch=0)
        with pytest.raises(InputError, match="no frames to write"):
            mst.write_video("out.mp4", iter(()), clip)


def test_exported_names_are_all_there_and_sorted() -> None:
    assert mst.__all__ == sorted(mst.__all__)
    for name in mst.__all__:
        assert getattr(mst, name).__doc__
    assert set(mst.__all__) == {name for names in mst._HOMES.values() for name in names}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mst.nothing  # noqa: B018
    assert set(dir(mst)) == {*mst.__all__, "__version__"}


def test_old_names_are_refused_with_the_new_ones() -> None:
    assert not {*mst._RENAMED} & {*mst.__all__}
    for old, new in mst._RENAMED.items():
        with pytest.raises(AttributeError, match=f"{old} is now called {new}"):
            getattr(mst, old)
        home, _, method = new.partition(".")
        assert hasattr(getattr(mst, home), method or "__init__")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import mst_deploy, sys; print(sorted({'numpy', 'av', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_style_encoder_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(*arguments: Any) -> Any:
        opened.append(str(arguments[1]))
        return open_style_encoder(*arguments)

    monkeypatch.setattr("mst_deploy.stylizer.open_style_encoder", counted)
    image = np.zeros((32, 32, 3), np.uint8)
    painting = str(ROOT / "examples" / "paintings" / "udnie.jpg")
    with mst.Stylizer(backend="fake") as stylizer:
        for _ in range(3):
            stylizer.image(image, painting)
    assert opened == ["fake"]
