"""Tests of more than 8 bits, high dynamic range and interlaced fields: input is converted and the loss
reported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.errors import OutputError
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import open_writer
from tests.clips import Clip, probe, write_clip

MASTER = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
"""P3 primaries, D65, 1,000 and 0.005 cd/m2, as x265 writes them."""


def pq(nits: Any) -> Any:
    """SMPTE ST 2084, equation 5.2: cd/m2 -> signal 0..1."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    y = (np.asarray(nits, float) / 10000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


def write_hdr(path: Path, signal: Any, *, transfer: int = 16, frames: int = 3) -> Path:
    """Gray fields of the given signals (0..1), each 16 pixels wide, as 10-bit HEVC with HDR10 data."""
    codes = np.round(np.asarray(signal) * 876 + 64).astype(np.uint16)
    luma = np.repeat(np.repeat(codes, 16)[None], 32, axis=0)
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = luma.shape[1], 32, "yuv420p10le"
        context = stream.codec_context
        context.colorspace = context.color_primaries = 9
        context.color_trc, context.color_range = transfer, 1
        words = f"log-level=error:lossless=1:hdr10=1:master-display={MASTER}:max-cll=1000,400"
        context.options = {"x265-params": words}
        for index in range(frames):
            frame: Any = av.VideoFrame(luma.shape[1], 32, "yuv420p10le")
            for plane, value in zip(frame.planes, (luma, 512, 512), strict=True):
                rows: Any = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
                rows[:, : plane.width] = value
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copy(source: Path, output: Path, *, sdr: bool = False, codec: str | None = None) -> tuple[str, ...]:
    with (
        VideoReader(source, ReadOptions(sdr=sdr)) as reader,
        open_writer(output, reader.info, EncodeOptions(codec)) as writer,
    ):
        for frame in reader:
            writer.write(frame)
        return (*reader.info.not_kept, *writer.report.not_kept)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("codec", [None, "av1"])
def test_hdr_is_kept_in_ten_bits_with_its_tags(
    transfer: int, name: str, codec: str | None, tmp_path: Path
) -> None:
    signal = np.linspace(0.05, 0.95, 8)
    source = write_hdr(tmp_path / "in.mp4", signal, transfer=transfer)
    said = copy(source, tmp_path / "out.mp4", codec=codec)
    assert any(name in line and "8 bits" in line for line in said)
    before, after = probe(source), probe(tmp_path / "out.mp4")
    assert after.pix_fmt == "yuv420p10le"
    assert (after.matrix, after.primaries, after.transfer, after.range) == (9, 9, transfer, 1)
    assert after.times == before.times
    with av.open(tmp_path / "out.mp4") as container:
        frame: Any = next(container.decode(video=0))
        luma = np.frombuffer(frame.planes[0], np.uint16).reshape(32, -1)[16, 8::16][:8]
    # 2/255 of the range, in steps of 10 bits
    assert np.abs(luma.astype(float) - (signal * 876 + 64)).max() <= 8


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_mastering_display_and_light_levels_are_kept(codec: str, tmp_path: Path) -> None:
    source = write_hdr(tmp_path / "in.mp4", [0.1, 0.5])
    copy(source, tmp_path / "out.mkv", codec=codec)
    with VideoReader(source) as first, VideoReader(tmp_path / "out.mkv") as second:
        before, after = first.info.mastering, second.info.mastering
    assert before is not None
    assert before.luminance == (Fraction(5, 1000), Fraction(1000))
    assert before.light == (1000, 400)
    assert after is not None
    assert after.light == before.light
    for a, b in zip(
        (*after.primaries, *after.luminance), (*before.primaries, *before.luminance), strict=True
    ):
        assert abs(a - b) <= Fraction(1, 1000)


def test_hdr_in_eight_bits_is_refused(tmp_path: Path) -> None:
    source = write_hdr(tmp_path / "in.mp4", [0.1, 0.5])
    with pytest.raises(OutputError, match=r"HDR \(PQ.*use codec hevc, or sdr"):
        copy(source, tmp_path / "out.mp4", codec="h264")
    with pytest.raises(OutputError, match="use sdr"):
        copy(source, tmp_path / "out%04d.png")
    with pytest.raises(OutputError, match="y4m cannot say"):
        copy(source, tmp_path / "out.y4m")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_sdr_maps_light_and_not_codes(tmp_path: Path) -> None:
    """Diffuse white (203 cd/m2, BT.2408) is bright, 1,000 is brighter, black is black, order is kept.

    A PQ signal shown as if it were BT.709 would put diffuse white at 148 of 255 and 1 cd/m2 at 38.
    """
    nits = [0.0, 1, 10, 100, 203, 400, 700, 1000]
    source = write_hdr(tmp_path / "in.mp4", pq(nits))
    said = copy(source, tmp_path / "out.mp4", sdr=True)
    assert any("mapped to SDR" in line for line in said)
    found = probe(tmp_path / "out.mp4")
    assert (found.pix_fmt, found.matrix, found.primaries, found.transfer) == ("yuv420p", 1, 1, 1)
    with VideoReader(tmp_path / "out.mp4") as reader:
        gray = next(iter(reader)).image[16, 8::16].astype(int)
    assert np.ptp(gray, axis=1).max() <= 2
    level = gray[:, 1]
    assert level[0] <= 2
    assert (np.diff(level) > 0).all()
    assert 165 <= level[4] <= 230
    assert level[7] >= 240
    assert level[1] <= 30


def test_sdr_of_ordinary_video_is_no_loss(small_clip: Path, tmp_path: Path) -> None:
    assert copy(small_clip, tmp_path / "out.mp4", sdr=True) == ()
    with VideoReader(small_clip, ReadOptions(sdr=True)) as reader:
        assert not reader.info.tone_mapped


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [
        (None, ".mp4", "yuv420p10le"),
        ("av1", ".mp4", "yuv420p10le"),
        ("ffv1", ".mkv", "yuv444p10le"),
        ("prores", ".mov", "yuv422p10le"),
        ("h264", ".mp4", "yuv420p"),
    ],
)
def test_ten_bits_stay_ten_bits(codec: str | None, suffix: str, pix_fmt: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", Clip(frames=4, pix_fmt="yuv420p10le"))
    said = copy(source, tmp_path / f"out{suffix}", codec=codec)
    assert probe(tmp_path / f"out{suffix}").pix_fmt == pix_fmt
    assert any("written in 8 bits" in line for line in said) == (pix_fmt == "yuv420p")


def write_interlaced(path: Path) -> Path:
    """A bar that moves 8 pixels from field to field, top field first, as MPEG-2 in fields."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        context = stream.codec_context
        context.bit_rate = 8_000_000
        context.flags |= (1 << 18) | (1 << 29)  # interlaced DCT and motion
        context.field_order = 2
        for index in range(10):
            image = np.full((64, 128, 3), 40, np.uint8)
            for field in (0, 1):
                left = (2 * index + field) * 6
                image[field::2, left : left + 12] = 220
            graph = av.filter.Graph()
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            graph.link_nodes(
                graph.add_buffer(template=frame),  # type: ignore[arg-type]
                graph.add("setfield", "tff"),
                graph.add("buffersink"),
            ).configure()
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))
    return path


def combing(image: Any) -> float:
    """How much neighboring lines differ more than lines of one field do."""
    gray = image.astype(float).mean(axis=2)
    return float(np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean())


def test_prores_stays_prores(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mov", Clip(frames=3, codec="prores_ks", pix_fmt="yuv422p10le"))
    for name, codec in (("out.mov", "prores"), ("out.mp4", "hevc")):
        with (
            VideoReader(clip) as reader,
            open_writer(tmp_path / name, reader.info, EncodeOptions()) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        with av.open(tmp_path / name) as result:
            assert result.streams.video[0].codec_context.name == codec


def test_fields_become_frames_and_it_is_said(tmp_path: Path) -> None:
    source = write_interlaced(tmp_path / "in.mpg")
    with av.open(source) as container:
        frames: list[Any] = list(container.decode(video=0))
        assert all(frame.interlaced_frame for frame in frames)
        before = max(combing(frame.to_ndarray(format="rgb24")) for frame in frames)
    said = copy(source, tmp_path / "out.mkv")
    assert any("bwdif" in line for line in said)
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert not any("bwdif" in line for line in reader.info.not_kept)
        after = max(combing(frame.image) for frame in reader)
    assert after < before / 3
    found = [time - probe(tmp_path / "out.mkv").times[0] for time in probe(tmp_path / "out.mkv").times]
    base = frames[0].time_base
    assert found == [(frame.pts - frames[0].pts) * base for frame in frames]
