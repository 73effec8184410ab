"""Tests of damaged files: an error message, or a finished file with a report of the loss; no hang, no
traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.errors import InputError
from mst_deploy.video.damage import PacketTracker, TimestampMonitor
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange
from tests.clips import Clip, probe, write_clip, write_film
from tests.mutants import LIMIT, mutated

ROOT = Path(__file__).parents[2]
FRAMES = 48
ONCE_WRONG = (1079, 1112)
"""The end of a Matroska file that is not there; a stream that a transport stream only begins on its way."""


@pytest.fixture(scope="module")
def sources(clip_folder: Path) -> list[Path]:
    coding = {"crf": "12", "bf": "2", "g": "12"}
    return [
        write_clip(clip_folder / "broken.mp4", Clip(frames=FRAMES, audio=2, options=coding)),
        write_film(clip_folder / "broken.mkv", FRAMES),
        write_clip(clip_folder / "broken.ts", Clip(frames=FRAMES, audio=0, options=coding)),
        write_clip(
            clip_folder / "hevc.mp4",
            Clip(frames=FRAMES, codec="libx265", audio=1, options={"x265-params": "log-level=error"}),
        ),
        write_clip(clip_folder / "mpeg4.avi", Clip(frames=FRAMES, codec="mpeg4", audio=0)),
        write_clip(clip_folder / "vp9.webm", Clip(frames=FRAMES, codec="libvpx-vp9", audio=0)),
    ]


def judge(sources: list[Path], seeds: Iterable[int], folder: Path) -> list[dict[str, Any]]:
    """One worker for all files; a hang or a crash ends it, and the file it was at is named."""
    files = []
    for seed in seeds:
        source = sources[seed % len(sources)]
        kind, data = mutated(source.read_bytes(), seed)
        files.append(folder / f"{seed:03d}-{kind.replace(' ', '-')}{source.suffix}")
        files[-1].write_bytes(data)
    results = folder / "results"
    results.mkdir()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.mutants", results, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LIMIT * len(files),
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    at = files[len(found)] if len(found) < len(files) else None
    assert done.returncode == 0, f"at {at}: {done.returncode} {done.stderr[-2000:]}"
    return found


def check(found: list[dict[str, Any]], folder: Path) -> None:
    for each in found:
        name = Path(each["file"])
        output = folder / "results" / f"{name.stem}.mkv"
        if "refused" in each:
            assert each["refused"].strip(), each
            assert not output.exists()
            continue
        assert each["frames"] > 0
        with av.open(output) as container:
            assert len(list(container.decode(video=0))) == each["frames"]
        # A transport stream that ends after a whole packet is a transport stream: nothing indicates more.
        whole = name.suffix == ".ts" and "truncated" in name.stem and name.stat().st_size % 188 == 0
        if each["frames"] < FRAMES and not whole:
            assert each["said"], each
    made = {f"{Path(each['file']).stem}.mkv" for each in found if "refused" not in each}
    assert {path.name for path in (folder / "results").iterdir()} == made


def test_damaged_files_are_refused_or_finished_in_words(sources: list[Path], tmp_path: Path) -> None:
    found = judge(sources, [*range(36), *ONCE_WRONG], tmp_path)
    check(found, tmp_path)
    # The set holds both kinds, or it would test nothing.
    assert any("refused" in each for each in found)
    assert any(each.get("said") for each in found)


@pytest.mark.slow
def test_two_hundred_damaged_files(sources: list[Path], tmp_path: Path) -> None:
    check(judge(sources, range(1000, 1200), tmp_path), tmp_path)


def test_broken_packets_in_the_middle_cost_only_themselves(clip_folder: Path, tmp_path: Path) -> None:
    """Three packets out of 48 are overwritten; every frame is a key frame, so the others are whole."""
    source = write_clip(
        clip_folder / "middle.mp4",
        Clip(frames=FRAMES, codec="mjpeg", pix_fmt="yuvj420p", audio=1, options={}, range=2),
    )
    data = bytearray(source.read_bytes())
    with av.open(source) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        for number in (10, 20, 30):
            where, size = packets[number].pos, packets[number].size
            assert where is not None
            data[where : where + size] = b"\x55" * size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with VideoReader(broken) as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
    expected = [time for number, time in enumerate(probe(source).times) if number not in (10, 20, 30)]
    assert times == expected
    assert reader.damage.packets == 3
    assert reader.damage.describe() == ("3 damaged packet(s) gave no picture",)


def test_what_a_transport_stream_lost_is_counted(clip_folder: Path, tmp_path: Path) -> None:
    """Nothing but packets that give no picture, or an end within a packet, indicates it."""
    source = write_clip(
        clip_folder / "lost.ts", Clip(frames=FRAMES, audio=0, options={"crf": "12", "bf": "2"})
    )
    data = source.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: len(data) // 2 // 188 * 188 + 100])
    with VideoReader(cut) as reader:
        assert 0 < len(list(reader)) < FRAMES
        assert "breaks off within a packet" in reader.damage.describe()[-1]
    with av.open(source) as container:
        last = max(packet.pos or 0 for packet in container.demux(video=0))
    lost = 0
    # One by one, but for the last frame: without its header it is as if it had never been.
    for hole in range(len(data) * 3 // 4 // 188, last // 188):
        broken = bytearray(data)
        broken[hole * 188 + 4 : hole * 188 + 188] = bytes(184)
        path = tmp_path / f"{hole}.ts"
        path.write_bytes(broken)
        with VideoReader(path) as reader:
            frames = len(list(reader))
            assert (frames == FRAMES) or reader.damage.describe(), hole
        lost += frames < FRAMES
    assert lost > 5  # or it would test nothing


@pytest.mark.parametrize(
    ("times", "shown", "missing"),
    [
        ([0, 3, 1, 2], [0, 1, 2, 3], 0),  # decoding order
        ([0, 3, 1, 2, 4], [0, 1, 3, 4], 1),
        ([0, 1, 2, 3], [0, 1], 2),
        ([-2, -1, 0, 1], [0, 1], 0),  # before the first key frame there was nothing to build on
        ([0, 10, 20], [0, 11, 20], 0),  # times of its own: a loss cannot be detected
        ([None, 1, 2], [1], 1),
    ],
)
def test_packets_without_a_picture_are_counted(
    times: list[int | None], shown: list[int], missing: int
) -> None:
    pictures = PacketTracker()
    for time in times:
        pictures.sent(time)
    for time in shown:
        pictures.shown(time)
    assert pictures.missing() == missing


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("b.ts", Clip(options={"crf": "12", "bf": "3"})),
        ("b.mkv", Clip(options={"crf": "12", "bf": "3", "x264-params": "open-gop=1:keyint=6"})),
        ("field.ts", Clip(height=64, options={"crf": "12", "x264-params": "tff=1"})),
        ("vp8.webm", Clip(codec="libvpx", audio=0)),
        ("vp9.webm", Clip(codec="libvpx-vp9", audio=0)),
        ("av1.mkv", Clip(codec="libsvtav1", audio=0)),
        ("hevc.mp4", Clip(codec="libx265", options={"x265-params": "log-level=error"})),
        ("waits.avi", Clip(codec="mpeg4", audio=0)),  # frames lie 20 places of the index apart
    ],
)
def test_whole_files_are_not_called_damaged(clip_folder: Path, name: str, clip: Clip) -> None:
    with VideoReader(write_clip(clip_folder / f"whole-{name}", clip)) as reader:
        assert len(list(reader)) == clip.frames
        assert reader.damage.describe() == ()


def test_part_of_a_truncated_file_can_be_had(clip_folder: Path, tmp_path: Path) -> None:
    whole = write_film(clip_folder / "salvage.mkv", 250)
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"truncated.*give end"):
        VideoReader(tmp_path / "cut.mkv")
    with VideoReader(tmp_path / "cut.mkv", ReadOptions(span=TimeRange(end=Fraction(2)))) as reader:
        assert len(list(reader)) == 50


@pytest.mark.parametrize(
    ("distances", "start", "lost"),
    [
        ([100] * 30, 0, 0),
        ([100] * 20 + [400] + [100] * 20, 0, 3),
        ([74, 146] * 20, 0, 0),  # a rate that varies
        ([100] * 30, -300, 3),  # the first ones are not there
        ([99, 101, 100] * 12, 0, 0),  # rounded to a coarse clock
    ],
)
def test_gaps_are_losses_only_where_frames_are_evenly_spaced(
    distances: list[int], start: int, lost: int
) -> None:
    timestamps, time = TimestampMonitor(Fraction(100), start), 0
    for distance in (0, *distances):
        time += distance
        timestamps.observe(time)
    assert timestamps.missing(0) == lost
    assert timestamps.missing(len(distances) + 1) == 0  # all that were announced came
    assert timestamps.missing(len(distances) + 1, hidden=True) == lost  # an edit list would leave no gap


def test_a_variable_rate_is_not_called_damage(clip_folder: Path) -> None:
    """Distances of a phone: a frame and a half and two thirds of one."""
    times = tuple(int(time) for time in np.cumsum([740, 1460, 700] * 10))
    source = write_clip(clip_folder / "phone.mp4", Clip(times=times, audio=0))
    for span in (TimeRange(), TimeRange(end=Fraction(1, 2))):
        with VideoReader(source, ReadOptions(span=span)) as reader:
            list(reader)
            assert reader.damage.describe() == ()
