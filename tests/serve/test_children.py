"""Processes that decode: real files, hostile files, and what happens when such a process dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images.files import encode_picture
from mst_deploy.serve.children import Canceled, Child, ChildDied, ClipOrder, Parent, PictureDecoders
from mst_deploy.serve.limits import Limits
from tests.clips import Clip, write_clip
from tests.pictures import picture

LIMITS = Limits(decode_seconds=60, stuck_seconds=60)

pytestmark = pytest.mark.slow  # each starts a process


def order(stylizer: mst.Stylizer) -> tuple[ClipOrder, Parent]:
    backend = stylizer.backend
    plan = replace(stylizer.plan("udnie"), read=None)
    return ClipOrder(plan, stylizer.manifest, "fake", backend.device, part_frames=10), Parent(backend)


@pytest.fixture
def child() -> Any:
    opened = Child(LIMITS.child_memory)
    yield opened
    opened.close()


def test_pictures_are_decoded_again_after_a_process_died() -> None:
    decoders, data = PictureDecoders(LIMITS, 1), encode_picture(".png", picture(64, 48, 0))
    assert (decoders.decode(data).image == picture(64, 48, 0)).all()
    with decoders._child() as inside:
        os.kill(inside.process.pid or 0, signal.SIGKILL)
        inside.process.join()
    assert (decoders.decode(data).image == picture(64, 48, 0)).all()
    with pytest.raises(InputError, match="the picture"):
        decoders.decode(data[:100])
    decoders.close()


def test_a_process_that_needs_too_much_memory_or_time_ends_alone() -> None:
    large = encode_picture(".png", np.zeros((7000, 7000, 3), np.uint8))
    decoders = PictureDecoders(replace(LIMITS, picture_pixels=10**9, child_memory=600_000_000), 1)
    with pytest.raises(InputError, match="memory"):
        decoders.decode(large)
    decoders.close()
    decoders = PictureDecoders(replace(LIMITS, picture_pixels=10**9, decode_seconds=0.0), 1)
    with pytest.raises(ChildDied, match="within 0 s"):
        decoders.decode(large)
    decoders.close()


def test_a_clip_is_rendered_and_previewed_as_by_the_library(
    stylizer: mst.Stylizer, child: Child, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=24)).rename(tmp_path / "clip")
    how, parent = order(stylizer)
    facts, first = child.run("probe", clip, LIMITS, patience=60)
    with mst.open_video(clip) as source:
        assert (facts.width, facts.height, facts.frames, facts.sound) == (64, 48, 24, True)
        assert (next(iter(source)).image == first).all()
    expected = stylizer.file(
        clip, tmp_path / "expected.mp4", "udnie", mst.RenderOptions(part_frames=how.part_frames)
    )
    seen: list[int] = []
    parent.on_progress = lambda done, total: seen.append(done)
    output = tmp_path / "out.mp4"
    assert child.run("render", clip, output, how, LIMITS, patience=60, parent=parent) == 24
    assert (seen[-1], seen == sorted(seen)) == (24, True)
    with mst.open_video(output) as made, mst.open_video(expected.output) as wanted:
        frames = [frame.image for frame in made]
        assert all((a == b.image).all() for a, b in zip(frames, wanted, strict=True))
    (still,) = child.run("preview", clip, [Fraction(1, 5)], how, LIMITS, patience=60, parent=parent)
    with mst.open_video(clip) as source:
        assert (still == next(stylizer.preview(source, "udnie", [0.2])).image).all()
    with pytest.raises(InvalidArgument, match="the clip is") as late:
        child.run("preview", clip, [Fraction(99)], how, LIMITS, patience=60, parent=parent)
    assert str(tmp_path) not in str(late.value)


def _list_of_files(path: Path, clip: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {clip}\n")


def _cut(path: Path, clip: Path) -> None:
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 3])


def _text(path: Path, clip: Path) -> None:
    path.write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")


@pytest.mark.parametrize("make", [_list_of_files, _cut, _text])
def test_what_is_no_clip_is_refused_without_naming_where_it_is(
    make: Callable[[Path, Path], None], child: Child, tmp_path: Path, small_clip: Path
) -> None:
    make(tmp_path / "clip", small_clip)
    with pytest.raises(InputError, match="the clip") as refused:
        child.run("probe", tmp_path / "clip", LIMITS, patience=60)
    assert str(tmp_path) not in str(refused.value)


def test_limits_of_clips(child: Child, small_clip: Path) -> None:
    for limits in (
        replace(LIMITS, clip_frames=3),
        replace(LIMITS, clip_seconds=0.1),
        replace(LIMITS, clip_pixels=100),
    ):
        with pytest.raises(InputError, match="the clip has"):
            child.run("probe", small_clip, limits, patience=60)


def test_a_job_is_canceled_and_a_new_process_goes_on_with_it(
    stylizer: mst.Stylizer, child: Child, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(frames=40))
    how, parent = order(stylizer)
    output, stop = tmp_path / "out.mp4", threading.Event()

    parent.canceled = stop.is_set
    parent.on_progress = lambda done, total: stop.set() if done >= 35 else None
    with pytest.raises(Canceled):
        child.run("render", clip, output, how, LIMITS, patience=60, parent=parent)
    assert not output.exists()
    seen: list[int] = []
    again = Child(LIMITS.child_memory)
    parent = Parent(stylizer.backend, on_progress=lambda done, total: seen.append(done))
    assert again.run("render", clip, output, how, LIMITS, patience=60, parent=parent) == 40
    again.close()
    assert seen[0] >= 10  # what the first has finished is not made again
