"""Tests of the video path: frames, times and properties are preserved for every kind of clip."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.backends import BackendBase
from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.size import Size
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.info import Frame
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange
from mst_deploy.video.writer import VideoWriter, open_writer
from tests.clips import NTSC, Clip, probe, write_clip

VFR = (0, 500, 2502, 3003, 7007, 7100, 9009, 15015)

CLIPS = {
    "ntsc": Clip(),
    "vfr": Clip(times=VFR),
    "portrait": Clip(rotation=90),
    "upside_down": Clip(rotation=180),
    "silent": Clip(audio=0),
    "two_tracks": Clip(audio=2),
    "tiny_odd": Clip(width=17, height=23, codec="mpeg4", frames=6),
    "odd": Clip(width=853, height=479, codec="mpeg4", frames=6),
    "bt601": Clip(matrix=6),
    "full_range": Clip(range=2),
    "late_start": Clip(times=tuple(range(2500, 2500 + 12 * 1001, 1001))),
    "b_frames": Clip(options={"crf": "12", "bf": "3", "g": "12"}),
    "intra_444": Clip(pix_fmt="yuv444p"),
    "one_frame": Clip(frames=1, audio=0),
    "bt2020": Clip(matrix=9),
    "ten_bits": Clip(pix_fmt="yuv420p10le", frames=8),
    "edit_list": Clip(times=tuple(range(-5005, 20 * 1001, 1001)), below_zero=True),
    "drop_frame": Clip(timecode="01:00:00;02", frames=8),
}


def run(source: Path, output: Path, generator: Any, film: Any, **options: Any) -> Any:
    """``options`` are those of the coding; ``size`` and what else is of the job."""
    encode = options.pop("options", EncodeOptions())
    return render_file(
        source, output, generator, constant_plan(film), RenderOptions(encode=encode, **options)
    )


@pytest.mark.parametrize("name", CLIPS)
def test_nothing_is_lost(name: str, clip_folder: Path, tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_clip(clip_folder / f"{name}.mp4", CLIPS[name])
    output = tmp_path / "out.mp4"
    result = run(source, output, identity, film)
    before, after = probe(source), probe(output)
    assert result.frames == len(before.times)
    assert after.times == before.times
    assert after.audio == before.audio
    assert len({track for track, _, _ in after.audio}) == CLIPS[name].audio
    assert (after.size, after.rotation) == (before.size, before.rotation)
    if not CLIPS[name].times:  # of variable rate the duration in the file depends on B-frame delays
        assert after.duration == before.duration
    assert 2 not in (after.matrix, after.primaries, after.transfer)
    assert after.range in (1, 2)
    if before.matrix != 2:  # mpeg4 streams carry no tags
        assert (after.matrix, after.range) == (before.matrix, before.range)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("h264", ".mp4"),
        ("h264", ".mov"),
        ("hevc", ".mp4"),
        ("av1", ".mp4"),
        ("vp9", ".mkv"),
        ("ffv1", ".mkv"),
    ],
)
def test_every_codec_keeps_picture_and_times(
    codec: str, suffix: str, small_clip: Path, tmp_path: Path, identity: Any, film: Any
) -> None:
    output = tmp_path / f"out{suffix}"
    run(small_clip, output, identity, film, options=EncodeOptions(codec))
    before, after = probe(small_clip), probe(output)
    # Matroska counts milliseconds and has no negative times: all tracks move by the sound's priming.
    limit = Fraction(1, 1000) if suffix == ".mkv" else 0
    moved = after.times[0] - before.times[0]
    assert moved == 0 or (suffix == ".mkv" and moved <= Fraction(22, 1000))
    assert len(after.times) == len(before.times)
    assert all(abs(a - b - moved) <= limit for a, b in zip(after.times, before.times, strict=True))
    assert (after.matrix, after.range) == (before.matrix, before.range)
    with VideoReader(small_clip) as first, VideoReader(output) as second:
        for a, b in zip(first, second, strict=True):
            error = np.mean((a.image.astype(float) - b.image) ** 2)
            assert 10 * np.log10(255**2 / error) > 32


def test_quality_outside_the_scale_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="between 0 and 51"):
        EncodeOptions("h264", 60)
    with pytest.raises(InvalidArgument, match="lossless"):
        EncodeOptions("ffv1", 10)


def test_ntsc_rate_stays_rational(clip_folder: Path, tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_clip(clip_folder / "rate.mp4", Clip())
    run(source, tmp_path / "out.mp4", identity, film)
    assert probe(tmp_path / "out.mp4").rate == NTSC


def test_matroska_keeps_packets_and_millisecond_times(
    clip_folder: Path, tmp_path: Path, identity: Any, film: Any
) -> None:
    source = write_clip(clip_folder / "clip.mkv", Clip())
    run(source, tmp_path / "out.mkv", identity, film)
    before, after = probe(source), probe(tmp_path / "out.mkv")
    assert after.times == before.times
    assert after.audio == before.audio


def test_index_is_in_front(small_clip: Path, tmp_path: Path, identity: Any, film: Any) -> None:
    run(small_clip, tmp_path / "out.mp4", identity, film)
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"colrnclx" in data


def test_frames_are_upright(clip_folder: Path) -> None:
    """The reader turns frames by the display matrix: 90 degrees counter-clockwise here."""
    plain = write_clip(clip_folder / "plain.mp4", Clip(frames=1, audio=0))
    turned = write_clip(clip_folder / "turned.mp4", Clip(frames=1, audio=0, rotation=90))
    with VideoReader(plain) as reader:
        still = next(iter(reader)).image
    with VideoReader(turned) as reader:
        upright = next(iter(reader)).image
        assert (reader.info.width, reader.info.height) == (48, 64)
    expected = np.rot90(still, av.open(turned).decode(video=0).__next__().rotation // 90)
    np.testing.assert_array_equal(upright, expected)


@pytest.mark.parametrize(("text", "expected"), [("32x24", (32, 24)), ("24", (32, 24)), ("96", (128, 96))])
def test_size(
    text: str, expected: tuple[int, int], small_clip: Path, tmp_path: Path, identity: Any, film: Any
) -> None:
    result = run(small_clip, tmp_path / "out.mp4", identity, film, size=Size.parse(text))
    assert (result.width, result.height) == expected
    assert probe(tmp_path / "out.mp4").size == expected


def test_size_is_that_of_the_upright_picture(
    clip_folder: Path, tmp_path: Path, identity: Any, film: Any
) -> None:
    source = write_clip(clip_folder / "tall.mp4", Clip(rotation=90))  # shown as 48x64
    result = run(source, tmp_path / "out.mp4", identity, film, size=Size.parse("24x32"))
    assert (result.width, result.height) == (24, 32)
    found = probe(tmp_path / "out.mp4")
    assert (found.size, found.rotation) == ((32, 24), probe(source).rotation)


@pytest.mark.parametrize("text", ["", "x", "12x", "axb", "0", "-4", "1x2x3", "99999", "٣x٣"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot use"):
        Size.parse(text)


class Failing(BackendBase):
    """Wraps a generator that breaks at the third frame."""

    device = "cpu"

    def __init__(self, inner: Any) -> None:
        self.inner, self.manifest, self.calls = inner, inner.manifest, 0

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("broken on purpose")
        return self.inner(frames, film_params)


def test_failure_leaves_nothing_behind(small_clip: Path, tmp_path: Path, identity: Any, film: Any) -> None:
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="on purpose"):
        run(small_clip, tmp_path / "out.mp4", Failing(identity), film)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_failing_encoder_stops_the_decoder_before_its_file_is_closed(
    small_clip: Path, tmp_path: Path, identity: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread would else decode from a container that is gone, which kills the process."""
    written = 0

    def write(self: VideoWriter, frame: Frame) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OutputError("the disk is full")

    monkeypatch.setattr(VideoWriter, "write", write)
    threads = threading.active_count()
    for _ in range(20):
        written = 0
        with pytest.raises(OutputError, match="disk is full"):
            run(small_clip, tmp_path / "out.mp4", identity, film)
        assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_file(small_clip: Path, tmp_path: Path, identity: Any, film: Any) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(RuntimeError):
        run(small_clip, tmp_path / "out.mp4", Failing(identity), film)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("faststart", [False, True])
def test_truncated_mp4_is_refused(share: float, faststart: bool, clip_folder: Path, tmp_path: Path) -> None:
    whole = write_clip(clip_folder / "whole.mp4", Clip(width=320, height=240, frames=60))
    if faststart:
        with (
            VideoReader(whole) as reader,
            open_writer(tmp_path / "w.mp4", reader.info, EncodeOptions()) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        whole = tmp_path / "w.mp4"
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="truncated"), VideoReader(cut) as reader:
        list(reader)


def test_truncated_matroska_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    data = write_clip(clip_folder / "whole.mkv", Clip(width=320, height=240, frames=90)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"truncated|damaged"), VideoReader(tmp_path / "cut.mkv") as reader:
        list(reader)


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mp4", Clip(frames=2))
    deep = write_clip(tmp_path / "deep.mp4", Clip(frames=2, pix_fmt="yuv420p10le"))
    with VideoReader(plain) as first, VideoReader(deep) as second:
        assert first.info.not_kept == ()
        assert second.info.not_kept == ("10-bit steps of color (styled in 8 bits)",)


def test_unknown_container_is_refused(small_clip: Path, tmp_path: Path) -> None:
    with (
        VideoReader(small_clip) as reader,
        pytest.raises(InvalidArgument, match="unknown video type"),
        open_writer(tmp_path / "out.avi", reader.info, EncodeOptions()),
    ):
        pass


def test_sample_aspect_ratio_is_kept(tmp_path: Path, small_clip: Path, identity: Any, film: Any) -> None:
    with VideoReader(small_clip) as reader:
        wide = replace(reader.info, sample_aspect_ratio=Fraction(4, 3))
        with open_writer(tmp_path / "wide.mp4", wide, EncodeOptions()) as writer:
            for frame in reader:
                writer.write(frame)
    run(tmp_path / "wide.mp4", tmp_path / "out.mp4", identity, film)
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


PEAK = """
import sys
from pathlib import Path
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.benchmarks.environment import peak_memory
from mst_deploy.model.bundle import open_bundle
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.model.zoo import resolve_model
bundle = open_bundle(resolve_model())
film = bundle.manifest.layout.identity()
render_file(Path(sys.argv[1]), Path(sys.argv[2]), FakeGenerator(bundle), constant_plan(film))
print(peak_memory())
"""


def test_memory_does_not_grow_with_length(clip_folder: Path, tmp_path: Path) -> None:
    """500 more frames of 230 kB would be 115 MB; allow 40 MB for the encoder's look-ahead."""
    peaks = []
    for frames in (100, 600):
        source = write_clip(
            clip_folder / f"long{frames}.mp4",
            Clip(width=320, height=240, frames=frames, options={"preset": "ultrafast"}),
        )
        output = tmp_path / f"{frames}.mp4"
        done = subprocess.run(
            [sys.executable, "-c", PEAK, source, output], capture_output=True, text=True, check=True
        )
        peaks.append(float(done.stdout))  # MiB
    assert peaks[1] - peaks[0] < 40


def test_a_picture_that_begins_before_zero_is_shown_whole(tmp_path: Path, identity: Any, film: Any) -> None:
    """A transport stream may; players of mp4 would hide those frames. The sound moves with them."""
    times = tuple(range(-5005, 20 * 1001, 1001))
    source = write_clip(tmp_path / "in.ts", Clip(times=times, below_zero=True))
    before = probe(source)
    assert before.times[0] == Fraction(-5005, 30000)
    for name in ("out.mp4", "out.mkv"):
        run(source, tmp_path / name, identity, film)
        after = probe(tmp_path / name)
        unit = Fraction(1, 1000 if name == "out.mkv" else 90000)  # of the file's clock
        for a, b in zip(after.times, before.times, strict=True):
            assert abs(a - after.times[0] - (b - before.times[0])) <= unit
        assert after.times[0] == 0
        for (_, a, _), (_, b, _) in zip(after.audio, before.audio, strict=True):
            assert abs(a - (b - before.times[0])) <= unit


def test_a_cut_from_an_uneven_start_keeps_the_first_frame(clip_folder: Path) -> None:
    """1001/30000 s is rounded up in the file's own word for it."""
    clip = Clip(times=tuple(range(1001, 13 * 1001, 1001)), audio=0)
    source = write_clip(clip_folder / "uneven.mp4", clip)
    with VideoReader(source, ReadOptions(span=TimeRange(end=Fraction(1)))) as reader:
        assert len(list(reader)) == 12
