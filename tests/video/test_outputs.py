"""Tests of every kind of output: codecs, sizes, animations, numbered pictures, pipes, bit rates."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mst_deploy.cli.tasks import Task, report_losses
from mst_deploy.errors import BackendError, InputError, InvalidArgument, OutputError
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.size import Size
from mst_deploy.video.codecs import EncodeOptions, parse_bitrate
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange, parse_time
from mst_deploy.video.writer import VideoWriter, open_writer
from tests.clips import NTSC, Clip, probe, write_clip, write_film
from tests.pictures import picture


def copy(source: Path, output: Path, options: EncodeOptions | None = None, **reading: Any) -> tuple[str, ...]:
    with (
        VideoReader(source, ReadOptions(**reading)) as reader,
        open_writer(output, reader.info, options or EncodeOptions()) as writer,
    ):
        for frame in reader:
            writer.write(frame)
        return writer.report.not_kept


@pytest.mark.parametrize(
    ("codec", "suffix", "sizes"),
    [
        ("h264", ".mp4", [(1, 1), (2, 2), (3, 5), (17, 23), (66, 50)]),
        ("hevc", ".mp4", [(16, 16), (17, 23), (66, 50)]),
        ("vp9", ".webm", [(1, 1), (3, 5), (17, 23)]),
        ("av1", ".mp4", [(8, 8), (17, 23)]),
        ("prores", ".mov", [(1, 1), (17, 23), (66, 50)]),
        ("ffv1", ".mkv", [(1, 1), (3, 5), (17, 23)]),
    ],
)
def test_any_size(codec: str, suffix: str, sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    for width, height in sizes:
        clip = Clip(width=width, height=height, codec="ffv1", pix_fmt="yuv444p", frames=3, audio=0)
        source = write_clip(tmp_path / "in.mkv", clip)
        output = tmp_path / f"{width}x{height}{suffix}"
        copy(source, output, EncodeOptions(codec))
        found = probe(output)
        assert found.size == (width, height)
        assert len(found.times) == 3


def test_size_below_what_av1_holds_is_refused(tmp_path: Path) -> None:
    clip = Clip(width=4, height=4, codec="ffv1", pix_fmt="yuv444p", frames=1, audio=0)
    source = write_clip(tmp_path / "in.mkv", clip)
    with pytest.raises(OutputError, match="av1 cannot hold 4x4"):
        copy(source, tmp_path / "out.mp4", EncodeOptions("av1"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(7680, 4320), (8192, 32), (32, 8192)])
def test_large_sizes(width: int, height: int, tmp_path: Path) -> None:
    clip = Clip(width=width, height=height, frames=2, audio=0, options={"preset": "ultrafast"})
    source = write_clip(tmp_path / "in.mp4", clip)
    copy(source, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").size == (width, height)


def test_bit_rate_is_met(tmp_path: Path) -> None:
    """Noise takes what it is given: the file has the size that was asked for, within a fifth."""
    rng = np.random.default_rng(0)
    source = tmp_path / "in.mkv"
    with av.open(source, "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(100):
            noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    copy(source, tmp_path / "out.mp4", EncodeOptions("h264", bitrate=parse_bitrate("800k")))
    bits = (tmp_path / "out.mp4").stat().st_size * 8 / 4
    assert 0.8 < bits / 800_000 < 1.2


@pytest.mark.parametrize(("text", "rate"), [("800k", 800_000), ("4M", 4_000_000), ("1500000", 1_500_000)])
def test_bit_rates_as_people_write_them(text: str, rate: int) -> None:
    assert parse_bitrate(text) == rate


@pytest.mark.parametrize("text", ["", "k", "fast", "-4M", "0", "1e400", "4T", "nan"])
def test_bad_bit_rates_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="bit rate"):
        parse_bitrate(text)


def test_quality_asked_for_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="contradict"):
        EncodeOptions("h264", crf=20, bitrate=1_000_000)
    with pytest.raises(InvalidArgument, match="takes no bit rate"):
        EncodeOptions("ffv1", bitrate=1_000_000)
    with pytest.raises(InvalidArgument, match="unknown codec"):
        EncodeOptions("mpeg1")


def test_codec_and_suffix_that_contradict_are_refused(small_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="gif files hold gif alone"):
        copy(small_clip, tmp_path / "out.gif", EncodeOptions("h264"))
    with pytest.raises(InvalidArgument, match=r"cannot be written into a \.mp4"):
        copy(small_clip, tmp_path / "out.mp4", EncodeOptions("webp"))
    with pytest.raises(OutputError, match="cannot write vp9"):
        copy(small_clip, tmp_path / "out.mov", EncodeOptions("vp9"))


def test_gif_moves_and_keeps_hundredths_of_a_second(clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / "gif.mp4", Clip(frames=12))
    losses = copy(source, tmp_path / "out.gif")
    assert any("audio" in loss for loss in losses)
    before, after = probe(source), probe(tmp_path / "out.gif")
    assert len(after.times) == 12
    start = after.times[0]
    assert all(abs(a - start - b) <= Fraction(1, 100) for a, b in zip(after.times, before.times, strict=True))
    with VideoReader(source) as first, VideoReader(tmp_path / "out.gif") as second:
        for a, b in zip(first, second, strict=True):
            error = np.mean((a.image.astype(float) - b.image) ** 2)
            assert 10 * np.log10(255**2 / error) > 25  # 256 colors


def test_webp_moves(clip_folder: Path, tmp_path: Path) -> None:
    source = write_clip(clip_folder / "webp.mp4", Clip(frames=12))
    copy(source, tmp_path / "out.webp")
    done, animation = cv2.imreadanimation(str(tmp_path / "out.webp"))
    assert done
    assert len(animation.frames) == 12
    assert sum(animation.durations[:-1]) == pytest.approx(11 * 1001 / 30, abs=2)  # milliseconds
    with VideoReader(source) as reader:
        for mine, found in zip(reader, animation.frames, strict=True):
            error = np.mean((mine.image.astype(float) - found[:, :, 2::-1]) ** 2)
            assert 10 * np.log10(255**2 / error) > 28


def test_numbered_pictures_go_out_and_come_back(small_clip: Path, tmp_path: Path) -> None:
    pattern = tmp_path / "frames" / "out%04d.png"
    losses = copy(small_clip, pattern)
    assert any("29.97" in loss for loss in losses)
    assert [p.name for p in sorted(pattern.parent.iterdir())] == [f"out{n:04d}.png" for n in range(1, 13)]
    with VideoReader(small_clip) as first, VideoReader(pattern, ReadOptions(rate=NTSC)) as second:
        assert second.info.rate == NTSC
        assert second.info.frames == 12
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            assert a.pts * first.info.time_base == b.pts * second.info.time_base
    copy(pattern, tmp_path / "out.mp4", rate=NTSC)
    assert probe(tmp_path / "out.mp4").times == probe(small_clip).times


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tif"])
def test_numbered_pictures_of_other_kinds(suffix: str, small_clip: Path, tmp_path: Path) -> None:
    pattern = tmp_path / f"out%04d.{suffix}"
    copy(small_clip, pattern)
    copy(pattern, tmp_path / "out.mp4", rate=NTSC)
    assert probe(tmp_path / "out.mp4").times == probe(small_clip).times


def test_photographs_that_say_how_they_are_turned(tmp_path: Path) -> None:
    """Orientation 6 of EXIF: the camera was held upright."""
    orientation = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + orientation
    for number in (1, 2):
        done, data = cv2.imencode(".jpg", picture(64, 48, number))
        assert done
        head = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        (tmp_path / f"{number}.jpg").write_bytes(head + bytes(data)[2:])
    copy(tmp_path / "%d.jpg", tmp_path / "out.mp4")
    with VideoReader(tmp_path / "%d.jpg") as first, VideoReader(tmp_path / "out.mp4") as second:
        assert (first.info.width, first.info.height) == (second.info.width, second.info.height) == (48, 64)
        for a, b in zip(first, second, strict=True):
            assert np.abs(a.image.astype(int) - b.image).mean() < 4


def test_failing_sequence_leaves_nothing(small_clip: Path, tmp_path: Path) -> None:
    def broken() -> None:
        with (
            VideoReader(small_clip) as reader,
            open_writer(tmp_path / "out%03d.png", reader.info, EncodeOptions()) as writer,
        ):
            writer.write(next(iter(reader)))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_sequence_with_a_gap_is_refused(small_clip: Path, tmp_path: Path) -> None:
    copy(small_clip, tmp_path / "%04d.png")
    (tmp_path / "0005.png").unlink()
    with pytest.raises(InputError, match=r"0005\.png is missing \(1 of 12"):
        VideoReader(tmp_path / "%04d.png")
    with pytest.raises(InputError, match="no file is named like"):
        VideoReader(tmp_path / "nothing%04d.png")


PIPE = """
import sys
from pathlib import Path
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import open_writer
with VideoReader(Path("-")) as reader:
    with open_writer(Path("-"), reader.info, EncodeOptions(sys.argv[1] or None)) as writer:
        for frame in reader:
            writer.write(frame)
"""


def piped(data: bytes, codec: str) -> bytes:
    done = subprocess.run([sys.executable, "-c", PIPE, codec], input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout


def test_matroska_through_pipes_keeps_every_stream(clip_folder: Path, tmp_path: Path) -> None:
    source = write_film(clip_folder / "piped.mkv")
    (tmp_path / "out.mkv").write_bytes(piped(source.read_bytes(), ""))
    before, after = probe(source), probe(tmp_path / "out.mkv")
    assert after.times == before.times
    assert after.audio == before.audio
    with av.open(tmp_path / "out.mkv") as container:
        kinds = [stream.type for stream in container.streams]
        assert sorted(kinds) == ["attachment", "audio", "audio", "subtitle", "video"]
        assert [c["metadata"]["title"] for c in container.chapters()] == ["Dawn", "Dusk"]


def test_y4m_through_pipes_is_exact(tmp_path: Path) -> None:
    frames = [np.repeat(picture(64, 48, index)[:, :, :1], 3, axis=2) for index in range(5)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="yuv4mpegpipe") as container:
        stream: Any = container.add_stream("wrapped_avframe", rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    out = piped(buffer.getvalue(), "raw")
    assert out.startswith(b"YUV4MPEG2 W64 H48 F30000:1001")
    with av.open(io.BytesIO(buffer.getvalue()), "r") as first, av.open(io.BytesIO(out), "r") as second:
        for a, b in zip(first.decode(video=0), second.decode(video=0), strict=True):
            luma = [frame.to_ndarray()[:48].astype(int) for frame in (a, b)]
            assert np.abs(luma[0] - luma[1]).max() <= 2
            assert a.pts == b.pts


def test_y4m_has_the_rate_of_the_clip_and_says_what_it_cannot_hold(
    small_clip: Path, clip_folder: Path, tmp_path: Path
) -> None:
    losses = copy(small_clip, tmp_path / "even.y4m")
    assert (tmp_path / "even.y4m").read_bytes().startswith(b"YUV4MPEG2 W64 H48 F30000:1001 ")
    assert not any("times" in loss for loss in losses)
    assert probe(tmp_path / "even.y4m").times == probe(small_clip).times
    uneven = write_clip(clip_folder / "uneven_y4m.mp4", Clip(times=(0, 500, 2502, 7007, 15015)))
    losses = copy(uneven, tmp_path / "uneven.y4m")
    assert any("y4m has an even rate" in loss for loss in losses)
    assert len(probe(tmp_path / "uneven.y4m").times) == 5


def test_a_reader_that_goes_away_is_one_line(small_clip: Path, tmp_path: Path) -> None:
    """As with ``| head``: no traceback, neither from the muxer nor from Python's own end."""
    options = ["-s", "zodiac", "--backend", "fake", "-o", "-"]
    command = [sys.executable, "-m", "mst_deploy", "video", str(small_clip), *options]
    for codec in ("raw", "h264"):
        process = subprocess.Popen(
            [*command, "--codec", codec], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"mst: nobody reads the standard output any more\n"
        process.stderr.close()
        assert process.wait() == 1


def test_a_terminal_is_spared(small_clip: Path) -> None:
    master, terminal = os.openpty()
    code = [sys.executable, "-c", PIPE, ""]
    with small_clip.open("rb") as source:
        done = subprocess.run(code, stdin=source, stdout=terminal, stderr=subprocess.PIPE, timeout=60)
    os.close(terminal)
    os.close(master)
    assert b"the standard output is a terminal" in done.stderr


def test_a_pipe_that_would_have_to_be_read_backwards_is_refused(clip_folder: Path) -> None:
    """The index of this mp4 is at its end, beyond what FFmpeg keeps of a pipe."""
    clip = write_clip(clip_folder / "backwards.mp4", Clip(width=320, height=240, frames=60, audio=0))
    done = subprocess.run(
        [sys.executable, "-c", PIPE, ""], input=clip.read_bytes(), capture_output=True, timeout=60
    )
    assert b"the index of an mp4 or mov is often at its end" in done.stderr


def test_invalid_data_on_standard_input_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PIPE, ""], input=b"no video at all" * 100, capture_output=True, timeout=60
    )
    assert b"cannot read standard input as a video" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", Fraction(3, 2)), ("1:30", 90), ("01:00:00.25", 3600 + Fraction(1, 4)), ("0", 0)],
)
def test_times_as_people_write_them(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:60", "1:75:00", "1::2", "1.2.3", "1:2:3:4", "٣", "1e3"])
def test_bad_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="as a time"):
        parse_time(text)


def test_spans_that_hold_nothing_are_refused(small_clip: Path) -> None:
    with pytest.raises(InvalidArgument, match="must be later"):
        TimeRange(Fraction(2), Fraction(1))
    with pytest.raises(InvalidArgument, match="sample_every must be longer"):
        TimeRange(sample_every=Fraction(0))
    with pytest.raises(InputError, match="between 100 s and the end"):
        VideoReader(small_clip, ReadOptions(span=TimeRange(Fraction(100))))


def test_every_keeps_one_frame_an_interval_at_its_time(clip_folder: Path, tmp_path: Path) -> None:
    """60 frames at 25 fps, one every 0.5 s: numbers 0, 13, 25, 38, 50 begin a new half second."""
    source = write_film(clip_folder / "every.mkv")
    copy(source, tmp_path / "out.mkv", span=TimeRange(sample_every=Fraction(1, 2)))
    assert probe(tmp_path / "out.mkv").times == [Fraction(n, 25) for n in (0, 13, 25, 38, 50)]
    assert probe(tmp_path / "out.mkv").audio == probe(source).audio


def test_hardware_that_is_not_there_is_an_error_in_words(small_clip: Path, tmp_path: Path) -> None:
    from mst_deploy.video.hardware import device_opens

    if device_opens():
        pytest.skip("there is hardware here")
    with pytest.raises(BackendError, match="hwaccel on needs an NVIDIA GPU"):
        VideoReader(small_clip, ReadOptions(hwaccel="on"))
    with pytest.raises(BackendError, match="h264_nvenc does not start"):
        copy(small_clip, tmp_path / "out.mp4", EncodeOptions("h264", hwaccel="on"))
    with pytest.raises(BackendError, match="no hardware encoder"):
        copy(small_clip, tmp_path / "out.mkv", EncodeOptions("ffv1", hwaccel="on"))
    with pytest.raises(InvalidArgument, match="hwaccel must be one of"):
        EncodeOptions(hwaccel="maybe")
    assert list(tmp_path.iterdir()) == []


def test_auto_falls_back_and_says_what_was_used(small_clip: Path, tmp_path: Path) -> None:
    from mst_deploy.video.hardware import device_opens

    options = EncodeOptions("h264", hwaccel="auto")
    with (
        VideoReader(small_clip, ReadOptions(hwaccel="auto")) as reader,
        open_writer(tmp_path / "out.mp4", reader.info, options) as writer,
    ):
        assert isinstance(writer, VideoWriter)
        for frame in reader:
            writer.write(frame)
        used = (reader.info.decoder, writer.coding.encoder)
    assert used == (("h264 (cuda)", "h264_nvenc") if device_opens() else ("h264", "libx264"))
    assert probe(tmp_path / "out.mp4").times == probe(small_clip).times


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [
        ("out.mp4", None, True),
        ("out.webm", None, True),
        ("out.mp4", "av1", False),
        ("out.gif", None, False),
        ("out.webp", None, False),
        ("out%04d.jpg", None, False),
    ],
)
def test_odd_sizes_are_noted_where_players_may_not_show_them(
    name: str, codec: str | None, said: bool, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoReader(small_clip) as reader:
        task = Task(small_clip, Path(name), reader.info)
    report_losses(task, RenderOptions(size=Size(17, 23), encode=EncodeOptions(codec)), quiet=False)
    assert ("17x23 is odd" in capsys.readouterr().err) == said
