"""Tests of streams passed through: sound, subtitles, chapters, covers, fonts, metadata; whole and cut."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from mst_deploy.errors import OutputError
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.time_ranges import TimeRange
from mst_deploy.video.writer import default_suffix, open_writer
from tests.clips import FONT, SUBTITLES, WORDS, Clip, cover, probe, write_clip, write_film
from tests.pictures import picture

TS_PACKET = 188
"""Bytes of a packet of a transport stream."""


@dataclass(frozen=True)
class Track:
    kind: str
    codec: str | None
    language: str | None
    title: str | None
    flags: int
    packets: tuple[tuple[Fraction, bytes], ...]


def tracks(path: Path) -> list[Track]:
    """Every stream, read with PyAV alone; the picture's packets are left out."""
    with av.open(path) as container:
        packets: dict[int, list[tuple[Fraction, bytes]]] = {s.index: [] for s in container.streams}
        for packet in container.demux():
            filler = bytes(packet) == b"\0\0"  # in the pauses between subtitles of mp4
            if packet.size and not filler and packet.pts is not None and packet.time_base is not None:
                packets[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
        return [
            Track(
                kind=stream.type,
                codec=stream.codec_context.name if stream.codec_context else None,
                language=stream.metadata.get("language"),
                title=stream.metadata.get("title") or stream.metadata.get("handler_name"),
                flags=int(stream.disposition),
                packets=tuple(packets[stream.index]) if stream.type != "video" else (),
            )
            for stream in container.streams
        ]


def seconds(chapter: Any) -> Fraction:
    start: Fraction = chapter["start"] * chapter["time_base"]
    return start


def copy(source: Path, output: Path, *, span: TimeRange | None = None, **options: Any) -> tuple[str, ...]:
    """Through reader and writer, without a network between; what was not kept."""
    with (
        VideoReader(source, ReadOptions(span=span or TimeRange())) as reader,
        open_writer(output, reader.info, EncodeOptions(**options)) as writer,
    ):
        for frame in reader:
            writer.write(frame)
        return writer.report.not_kept


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Path:
    return write_film(clip_folder / "film.mkv")


@pytest.fixture(scope="module")
def film_mp4(clip_folder: Path) -> Path:
    return write_film(clip_folder / "film.mp4")


def test_matroska_keeps_every_stream(film: Path, tmp_path: Path) -> None:
    assert copy(film, tmp_path / "out.mkv") == ()
    before, after = tracks(film), tracks(tmp_path / "out.mkv")
    assert after == before
    assert [t.kind for t in before] == ["video", "audio", "audio", "subtitle", "attachment", "video"]
    assert before[2].packets[0][0] > Fraction(45, 100)  # the late start of the second track was real
    assert probe(tmp_path / "out.mkv").times == probe(film).times


def test_matroska_keeps_words_chapters_fonts_and_covers(film: Path, tmp_path: Path) -> None:
    copy(film, tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
        assert {**found, **WORDS} == found
        assert [(c["metadata"]["title"], seconds(c)) for c in container.chapters()] == [
            ("Dawn", Fraction(0)),
            ("Dusk", Fraction(7, 10)),
        ]
        fonts: list[Any] = [stream for stream in container.streams if stream.type == "attachment"]
        assert [(font.name, font.data) for font in fonts] == [("font.ttf", FONT)]
        covers = [s for s in container.streams.video if int(s.disposition) & 1 << 10]
        assert [bytes(next(container.demux(s))) for s in covers] == [cover()]


def test_mp4_keeps_every_stream(film_mp4: Path, tmp_path: Path) -> None:
    assert copy(film_mp4, tmp_path / "out.mp4") == ()
    before, after = tracks(film_mp4), tracks(tmp_path / "out.mp4")
    assert [t.kind for t in before][:4] == ["video", "audio", "audio", "subtitle"]
    assert after == before
    with av.open(tmp_path / "out.mp4") as container:
        assert {**container.metadata, **WORDS} == container.metadata
        assert [c["metadata"]["title"] for c in container.chapters()] == ["Dawn", "Dusk"]


def shown(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """Start, duration and words of every subtitle."""
    found = []
    with av.open(path) as container:
        stream: Any = container.streams.subtitles[0]
        for packet in container.demux(stream):
            base: Fraction = stream.time_base
            texts = [line.ass.decode().split(",,")[-1] for line in packet.decode()] if packet.size else []
            if texts and packet.pts is not None and packet.duration is not None:
                found.append((packet.pts * base, packet.duration * base, texts[0]))
    return found


@pytest.mark.parametrize(("first", "second"), [(".mkv", ".mp4"), (".mp4", ".mkv")])
def test_text_subtitles_change_their_form(
    first: str, second: str, film: Path, film_mp4: Path, tmp_path: Path
) -> None:
    source = film if first == ".mkv" else film_mp4
    losses = copy(source, tmp_path / f"out{second}")
    assert any("written as" in loss for loss in losses)
    found = shown(tmp_path / f"out{second}")
    # Matroska has no negative times: all tracks move by the sound's priming.
    moved = probe(tmp_path / f"out{second}").times[0]
    assert [(start - moved, duration) for start, duration, _ in found] == [
        (Fraction(start, 1000), Fraction(duration, 1000)) for start, duration, _ in SUBTITLES
    ]
    assert found[0][2] == "Hello"
    assert "world" in found[1][2]
    [track] = [t for t in tracks(tmp_path / f"out{second}") if t.kind == "subtitle"]
    assert (track.language, track.flags & 1 << 6) == ("fra", 1 << 6)


def test_mp4_says_that_it_holds_no_fonts(film: Path, tmp_path: Path) -> None:
    losses = copy(film, tmp_path / "out.mp4")
    assert any("font.ttf" in loss and ".mkv" in loss for loss in losses)
    covers = [t for t in tracks(tmp_path / "out.mp4") if t.flags & 1 << 10]
    assert [t.codec for t in covers] == ["png"]


def test_sound_that_a_container_cannot_hold_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"webm files cannot hold audio stream 1 \(aac, eng\).*\.mkv"):
        copy(film, tmp_path / "out.webm")
    assert list(tmp_path.iterdir()) == []


def test_unnamed_output_holds_everything(film: Path, tmp_path: Path) -> None:
    with VideoReader(film) as reader:
        assert default_suffix(reader.info) == ".mkv"
    plain = write_clip(tmp_path / "plain.avi", Clip(codec="mpeg4", audio=0, options={}))
    with VideoReader(plain) as reader:
        assert default_suffix(reader.info) == ".mp4"


def test_cut_moves_everything_together(film: Path, tmp_path: Path) -> None:
    """From 0.8 s to 1.6 s: what began at 0.9 s begins at 0.1 s, in every stream."""
    copy(film, tmp_path / "out.mkv", span=TimeRange(Fraction(8, 10), Fraction(16, 10)))
    before, after = tracks(film), tracks(tmp_path / "out.mkv")
    expected = [t - Fraction(8, 10) for t in probe(film).times if Fraction(8, 10) <= t < Fraction(16, 10)]
    assert probe(tmp_path / "out.mkv").times == expected
    for index in (1, 2):
        kept = [
            (time - Fraction(8, 10), data)
            for time, data in before[index].packets
            if Fraction(8, 10) <= time < Fraction(16, 10)
        ]
        assert list(after[index].packets) == kept
    assert [(start, words) for start, _, words in shown(tmp_path / "out.mkv")] == [
        (Fraction(1, 10), "{\\i1}world{\\i0}")
    ]
    with av.open(tmp_path / "out.mkv") as container:
        chapters = [(seconds(c), c["metadata"]["title"]) for c in container.chapters()]
    assert chapters == [(Fraction(0), "Dusk")]


def test_subtitle_that_is_still_shown_at_the_cut_is_kept(film: Path, tmp_path: Path) -> None:
    copy(film, tmp_path / "out.mkv", span=TimeRange(Fraction(1), None))
    assert [line[:2] for line in shown(tmp_path / "out.mkv")] == [(Fraction(0), Fraction(7, 10))]


def timecodes(path: Path) -> list[str | None]:
    with av.open(path) as container:
        return [stream.metadata.get("timecode") for stream in container.streams if stream.type != "audio"]


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_a_drop_frame_time_code_is_kept(suffix: str, tmp_path: Path) -> None:
    """In mov and mp4 it has a track of its own, which the muxer makes anew."""
    source = write_clip(tmp_path / f"in{suffix}", Clip(frames=8, timecode="01:00:00;02"))
    assert copy(source, tmp_path / f"out{suffix}") == ()
    assert timecodes(source) == timecodes(tmp_path / f"out{suffix}") == ["01:00:00;02"] * 2


def test_a_time_code_goes_with_the_start_that_it_counts_from(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mov", Clip(frames=8, timecode="01:00:00;02"))
    losses = copy(source, tmp_path / "out.mov", span=TimeRange(Fraction(1, 10)))
    assert any("time code" in loss for loss in losses)
    assert timecodes(tmp_path / "out.mov") == [None]
    assert copy(source, tmp_path / "head.mov", span=TimeRange(end=Fraction(1, 10))) == ()
    assert timecodes(tmp_path / "head.mov") == ["01:00:00;02"] * 2


def test_the_stream_that_is_marked_default_is_the_film(tmp_path: Path) -> None:
    """The first stream is a sign-language window, the second the film; both stay where they were."""
    source = tmp_path / "in.mkv"
    with av.open(source, "w") as container:
        streams: list[Any] = []
        for width, flag in ((32, Disposition.captions), (64, Disposition.default)):
            stream: Any = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            stream.disposition = flag
            streams.append(stream)
        for index in range(5):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(stream.width, 48, index), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    with VideoReader(source) as reader:
        assert (reader.info.width, reader.info.stream_index) == (64, 1)
    copy(source, tmp_path / "out.mkv")
    with av.open(tmp_path / "out.mkv") as container:
        found = {stream.width: stream.disposition for stream in container.streams.video}
    assert found[64] == Disposition.default
    assert not found[32] & Disposition.default


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("damage", ["second half of one", "first header"])
def test_sound_goes_on_after_a_packet_that_no_muxer_takes(damage: str, suffix: str, tmp_path: Path) -> None:
    """A transport stream in which one frame of sound is damaged, as by bad reception."""
    source, output = write_clip(tmp_path / "in.ts", Clip()), tmp_path / f"out{suffix}"
    expected = [data for _, data in tracks(source)[1].packets]
    data = source.read_bytes()
    parts = [data[at : at + TS_PACKET] for at in range(0, len(data), TS_PACKET)]
    if damage == "first header":
        first = next(index for index, part in enumerate(parts) if b"\xff\xf1" in part)
        parts[first] = parts[first].replace(b"\xff\xf1", b"\xff\xd1")
    else:
        going_on = [index for index, part in enumerate(parts) if part[1:3].hex() == "0101"]  # of stream 0x101
        del parts[going_on[len(going_on) // 2]]
    source.write_bytes(b"".join(parts))
    with (
        VideoReader(source, ReadOptions()) as reader,
        open_writer(output, reader.info, EncodeOptions()) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    (message,) = writer.report.damage
    assert "packet(s) of sound or subtitles were damaged and are left out" in message
    undamaged = [data for _, data in tracks(source)[1].packets if data in expected]
    assert len(undamaged) >= len(expected) // 3  # FFmpeg takes many for one after the first
    kept = [data for _, data in tracks(output)[1].packets]
    without_headers = [data[7:] for data in undamaged]  # which these containers store once
    assert [data for data in kept if data in without_headers] == without_headers
