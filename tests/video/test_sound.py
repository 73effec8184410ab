"""Sound and subtitles that a container cannot hold: encoded, left out, or refused with a way out."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.video import passthrough
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.options import ReadOptions
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import default_suffix, open_writer, probe_output
from tests.clips import Clip, probe, write_clip, write_film
from tests.pictures import picture


def write_tone(path: Path, codec: str, *, bits: str = "", seconds: int = 2, pause: bool = False) -> Path:
    """A picture, and 440 Hz from 0.5 s to 1.5 s with silence around; with a pause, no packets there."""
    rate = 48000
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        track: Any = container.add_stream(codec, rate=rate)
        track.layout = "stereo"
        track.bit_rate = 128000
        track.metadata["language"] = "nor"
        if bits:
            track.format = bits
        for index in range(25 * seconds):
            frame = av.VideoFrame.from_ndarray(picture(64, 48, index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        time = np.arange(rate * seconds) / rate
        tone = np.where((time >= 0.5) & (time < 1.5), np.sin(time * 2 * np.pi * 440), 0) * 0.5
        for at in range(0, len(tone), 1024):
            if pause and rate <= at < rate * 1.25:
                continue
            block = np.repeat(tone[None, at : at + 1024].astype(np.float32), 2, axis=0)
            sound = av.AudioFrame.from_ndarray(block, "fltp", "stereo")
            sound.sample_rate, sound.pts, sound.time_base = rate, at, Fraction(1, rate)
            container.mux(track.encode(sound))
        container.mux(track.encode(None))
    return path


def loud(path: Path) -> tuple[float, float]:
    """When the tone begins and ends, in seconds after the picture."""
    with av.open(path) as container:
        first = next(container.decode(video=0)).time or 0.0
    with av.open(path) as container:
        times, levels = [], []
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()
            samples = samples.reshape(-1, 2).T if not frame.format.is_planar else samples
            scale = {"s16": 2**15, "s32": 2**31}.get(frame.format.name.rstrip("p"), 1)
            level = np.abs(samples[0] / scale)
            times.append((frame.time or 0.0) - first + np.arange(len(level)) / frame.sample_rate)
            levels.append(level)
    audible = np.concatenate(times)[np.concatenate(levels) > 0.25]
    return float(audible[0]), float(audible[-1])


def copy(source: Path, output: Path, *, reading: ReadOptions | None = None, **options: Any) -> Any:
    with (
        VideoReader(source, reading) as reader,
        open_writer(output, reader.info, EncodeOptions(**options)) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return writer.report


@pytest.mark.parametrize(
    ("suffix", "audio"),
    [
        (".mp4", "aac"),
        (".mkv", "opus"),
        (".mov", "aac"),
        (".mkv", "flac"),
        (".webm", "opus"),
        (".mp4", "opus"),
    ],
)
def test_encoded_sound_is_in_step(suffix: str, audio: str, tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.mkv", "ac3")
    report = copy(source, tmp_path / f"out{suffix}", audio=audio)
    assert any(f"encoded as {audio}" in loss for loss in report.not_kept)
    with av.open(tmp_path / f"out{suffix}") as container:
        [track] = container.streams.audio
        assert track.codec_context.name.endswith(audio)
        assert track.codec_context.layout.nb_channels == 2
        assert track.metadata["language"] == "nor"
    begin, end = loud(tmp_path / f"out{suffix}")
    assert begin == pytest.approx(0.5, abs=0.03)
    assert end == pytest.approx(1.5, abs=0.03)


def test_pauses_between_packets_stay(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.mkv", "pcm_s16le", pause=True)
    copy(source, tmp_path / "out.mkv", audio="flac")
    assert loud(tmp_path / "out.mkv")[1] == pytest.approx(1.5, abs=0.03)


def test_lossless_sound_stays_exact(tmp_path: Path) -> None:
    def samples(path: Path) -> Any:
        with av.open(path) as container:
            return np.concatenate([f.to_ndarray().reshape(-1, 2) for f in container.decode(audio=0)])

    source = write_tone(tmp_path / "in.mov", "pcm_s24le", bits="s32")
    copy(source, tmp_path / "out.mkv", audio="flac")
    before, after = samples(source), samples(tmp_path / "out.mkv")
    np.testing.assert_array_equal(before >> 8, after[: len(before)] >> 8)


def test_sound_of_old_files_that_no_container_takes_is_encoded(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.wmv", "wmav2")
    for suffix, codec, audio in ((".mkv", "h264", "flac"), (".mp4", "h264", "aac"), (".webm", "vp9", "opus")):
        report = copy(source, tmp_path / f"out{suffix}", codec=codec)
        assert any(f"encoded as {audio}" in loss for loss in report.not_kept)
        assert loud(tmp_path / f"out{suffix}")[0] == pytest.approx(0.5, abs=0.06)
    with pytest.raises(OutputError, match="audio flac"):
        copy(source, tmp_path / "copy.mkv", audio="copy")


def test_sound_and_subtitles_can_be_left_out(tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mkv", 10)
    report = copy(source, tmp_path / "out.webm", codec="vp9", audio="none", subtitles="none")
    assert sum("left out" in loss for loss in report.not_kept) == 3
    with av.open(tmp_path / "out.webm") as container:
        assert not container.streams.audio
        assert not container.streams.subtitles
    with VideoReader(source) as reader:
        assert default_suffix(reader.info) == ".mkv"


def test_a_codec_that_is_there_already_is_copied(small_clip: Path, tmp_path: Path) -> None:
    copy(small_clip, tmp_path / "out.mp4", audio="aac")
    assert probe(tmp_path / "out.mp4").audio == probe(small_clip).audio


def test_sound_that_nobody_knows_does_not_stop_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``apac`` of telephones: FFmpeg has no decoder for the second track."""
    source = write_clip(tmp_path / "in.mp4", Clip(frames=8, audio=2))
    data = source.read_bytes()
    for known, unknown in ((b"mp4a", b"apac"), (b"esds", b"free")):
        at = data.rindex(known)
        data = data[:at] + unknown + data[at + 4 :]
    source.write_bytes(data)
    with av.open(source) as container:
        assert [track.codec_context is None for track in container.streams.audio] == [False, True]
    for suffix in (".mp4", ".mkv"):
        report = copy(source, tmp_path / f"out{suffix}")
        assert any("audio stream 2" in loss for loss in report.not_kept)
        assert {track for track, _, _ in probe(tmp_path / f"out{suffix}").audio} == {0}
    monkeypatch.setattr(passthrough, "can_hold", lambda muxer, stream: False)  # and of any other kind
    with VideoReader(write_film(tmp_path / "film.mkv", 5)) as reader:
        report = probe_output(tmp_path / "out.mp4", reader.info, EncodeOptions(audio="none"))
        assert any("subtitle" in loss for loss in report.not_kept)


def test_sound_of_which_nothing_can_be_decoded_is_left_out(tmp_path: Path) -> None:
    """Nothing of it tells the form of its samples, so that it cannot be encoded either."""
    source = write_tone(tmp_path / "in.mkv", "ac3", seconds=1)
    source.write_bytes(source.read_bytes().replace(b"A_AC3", b"A_DTS"))
    with av.open(source) as container:
        context = container.streams.audio[0].codec_context
        assert context.layout.nb_channels == 2
        assert not context.format
    report = copy(source, tmp_path / "out.mp4", audio="opus")
    assert any("audio stream 1 (dca, nor) (it can be neither copied nor" in loss for loss in report.not_kept)
    assert not probe(tmp_path / "out.mp4").audio


def test_pcm_in_mp4_is_said_beforehand(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.mov", "pcm_s24le", bits="s32")
    with VideoReader(source) as reader:
        [note] = probe_output(tmp_path / "out.mp4", reader.info, EncodeOptions()).notes
        assert "ipcm" in note
        assert probe_output(tmp_path / "out.mov", reader.info, EncodeOptions()).notes == ()


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="audio must be one of"):
        EncodeOptions(audio="mp3")
    with pytest.raises(InvalidArgument, match="subtitles must be one of"):
        EncodeOptions(subtitles="ass")


def test_every_refusal_leads_somewhere_that_works(tmp_path: Path) -> None:
    """What a message recommends is done, until the output can be written."""
    hdr = Clip(frames=2, pix_fmt="yuv420p10le", matrix=9, transfer=16)
    sources = [
        write_tone(tmp_path / "ac3.mkv", "ac3", seconds=1),
        write_tone(tmp_path / "old.wmv", "wmav2", seconds=1),
        write_film(tmp_path / "film.mkv", 5),
        write_clip(tmp_path / "hdr.mp4", hdr),
    ]
    refused = 0
    for source in sources:
        for suffix in (".mp4", ".mov", ".mkv", ".webm"):
            for codec in (None, "h264", "hevc", "vp9", "av1", "prores", "ffv1"):
                for audio in (None, "copy", "aac", "opus", "flac"):
                    refused += follow(source, suffix, codec, audio)
    assert refused > 50


def follow(source: Path, suffix: str, codec: str | None, audio: str | None) -> int:
    """How often an output was refused before what the messages say made it possible."""
    choices: dict[str, Any] = {"codec": codec, "audio": audio}
    sdr = False
    for count in range(6):
        with VideoReader(source, ReadOptions(sdr=sdr)) as reader:
            try:
                probe_output(source.with_name(f"out{suffix}"), reader.info, EncodeOptions(**choices))
                return count
            except OutputError as error:
                words = error.args[0].template
        found = dict(re.findall(r"\[option:(codec|audio|subtitles)\] (\w+)", words))
        if found:
            choices.update(found)
        elif "[option:sdr]" in words:
            sdr = True
        else:
            assert ".mkv file" in words, words
            suffix = ".mkv"
    raise AssertionError(words)
