"""A source and a sink of one's own: a module and one row each, and the whole way of a frame between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.video.info import VideoInfo, WriteReport
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.sinks import SINKS, SinkSpec
from mst_deploy.video.sources import SOURCES, SourceSpec
from tests.events import frames_to

FRAMES = 5


def ramp(index: int) -> Any:
    """Frame n: levels from 10 n on, rising by 12 from column to column. (Flat ones would not be painted.)"""
    levels = np.arange(16, dtype=np.uint8) * 12 + 10 * index
    return np.broadcast_to(levels[None, :, None], (12, 16, 3)).astype(np.uint8)


class Counting:
    """A source without a file: frame n is ``ramp(n)``."""

    template: VideoInfo

    def __init__(self, path: Path, options: mst.ReadOptions) -> None:
        self.info = replace(self.template, path=path, width=16, height=12, time_base=Fraction(1, 10))

    def problems(self) -> tuple[str, ...]:
        return ("it is only a test",)

    def __iter__(self) -> Iterator[mst.Frame]:
        for index in range(FRAMES):
            yield mst.Frame(ramp(index), index, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


class Collecting:
    """A sink without a file."""

    made: ClassVar[list[Collecting]] = []

    def __init__(self, path: Path, info: VideoInfo, options: mst.EncodeOptions) -> None:
        self.path, self.info, self.state = path, info, "open"
        self.taken: list[mst.Frame] = []
        self.written, self.done, self.complete, self.report = 0, 0, False, WriteReport(("the sound",))
        self.made.append(self)

    def write(self, frame: mst.Frame) -> None:
        self.taken.append(frame)
        self.written += 1

    def flush(self) -> None:
        self.state = "flushed"

    def finish(self) -> None:
        self.state = "finished"

    def keep(self) -> str:
        return ""

    def abandon(self, error: BaseException) -> None:
        self.state = "abandoned"


@pytest.fixture
def toys(small_clip: Path, monkeypatch: pytest.MonkeyPatch) -> type[Collecting]:
    """The module of the two kinds, and their two rows."""
    module: Any = ModuleType("toys")
    module.Counting, module.Collecting = Counting, Collecting
    monkeypatch.setitem(sys.modules, "toys", module)
    with VideoReader(small_clip) as reader:
        monkeypatch.setattr(Counting, "template", reader.info, raising=False)
    monkeypatch.setattr(Collecting, "made", [])
    source = SourceSpec("counter", lambda path: path.name.startswith("count:"), "toys", "Counting")
    sink = SinkSpec("list", lambda path: path.name == "list:", "toys", "Collecting", encodes=False)
    monkeypatch.setattr("mst_deploy.video.sources.SOURCES", [source, *SOURCES])
    monkeypatch.setattr("mst_deploy.video.sinks.SINKS", [sink, *SINKS])
    return Collecting


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_go_from_a_source_of_ones_own_into_a_sink_of_ones_own(
    batch: int, toys: type[Collecting]
) -> None:
    """The fake model inverts; times pass through, problems and losses are in the result."""
    done: list[int] = []
    with mst.Stylizer(backend="fake") as stylizer:
        options = mst.RenderOptions(batch=batch)
        result = stylizer.file("count:5", "list:", "zodiac", options, on_event=frames_to(done.append))
    (sink,) = toys.made
    assert (sink.state, sink.info.width, sink.info.height) == ("finished", 16, 12)
    assert [(frame.pts, frame.duration) for frame in sink.taken] == [(index, 1) for index in range(FRAMES)]
    for index, frame in enumerate(sink.taken):
        np.testing.assert_array_equal(frame.image, 255 - ramp(index))
    assert done == [1, 2, 3, 4, 5]
    assert (result.frames, result.encoder) == (FRAMES, "")
    assert result.damage == ("it is only a test",)
    assert "the sound" in result.not_kept


def test_an_error_abandons_the_sink(toys: type[Collecting], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Counting) -> Iterator[mst.Frame]:
        yield mst.Frame(np.zeros((12, 16, 3), np.uint8), 0, 1)
        raise mst.InputError("the camera was unplugged")

    monkeypatch.setattr(Counting, "__iter__", broken)
    with mst.Stylizer(backend="fake") as stylizer, pytest.raises(mst.InputError, match="unplugged"):
        stylizer.file("count:5", "list:", "zodiac")
    assert toys.made[0].state == "abandoned"


def test_a_source_goes_into_a_file(toys: type[Collecting], tmp_path: Path) -> None:
    """What a custom source gives is written as any other: here as numbered pictures."""
    with mst.Stylizer(backend="fake") as stylizer:
        stylizer.file("count:5", tmp_path / "out%d.png", "zodiac")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out{index}.png" for index in range(1, 6)]


def test_what_no_kind_accepts_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mst_deploy.video.sources.SOURCES", SOURCES[:1])
    monkeypatch.setattr("mst_deploy.video.sinks.SINKS", SINKS[:1])
    refused = pytest.raises(mst.InputError, match=r"nothing here can read a\.mp4; known are: pipe")
    with mst.Stylizer(backend="fake") as stylizer, refused:
        stylizer.file("a.mp4", "-", "zodiac")
