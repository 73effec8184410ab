"""Synthetic clips, and an independent reader of files.

Clips are written with PyAV directly, not with the project's own writer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from tests.pictures import picture

NTSC = Fraction(30000, 1001)


@dataclass(frozen=True)
class Clip:
    """A recipe. Times are in units of 1/30000 s."""

    width: int = 64
    height: int = 48
    frames: int = 24
    step: int = 1001
    times: tuple[int, ...] = ()
    """Explicit presentation times, for variable frame rates; else multiples of ``step``."""
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rotation: int = 0
    """Degrees, as written into the display matrix."""
    audio: int = 1
    """Number of audio tracks."""
    matrix: int = 1
    """H.273 code of matrix, primaries and transfer alike."""
    range: int = 1
    transfer: int = 0
    """Transfer if it differs."""
    options: dict[str, str] = field(default_factory=lambda: {"crf": "12"})
    below_zero: bool = False
    """Leave negative times as they are: mp4 hides those frames with an edit list, ts shows them."""
    offset: int = 0
    """Seconds that are added to the times of all streams."""
    timecode: str = ""
    """Of the first frame; with a ``;`` it counts as drop-frame does."""


def write_clip(path: Path, clip: Clip) -> Path:
    """Encode the recipe."""
    settings = {"avoid_negative_ts": "disabled"} if clip.below_zero else {}
    if clip.offset:
        settings["output_ts_offset"] = str(clip.offset)
    with av.open(path, "w", options=settings) as container:
        stream: Any = container.add_stream(clip.codec, rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, clip.pix_fmt
        base = Fraction(1, 30000)
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.options = clip.options if clip.codec in ("libx264", "libx265") else {}
        stream.codec_context.colorspace = clip.matrix
        stream.codec_context.color_primaries = clip.matrix
        stream.codec_context.color_trc = clip.transfer or clip.matrix
        stream.codec_context.color_range = clip.range
        if clip.timecode:
            stream.metadata["timecode"] = clip.timecode
        if clip.rotation:
            stream.set_display_rotation(clip.rotation)
        tracks: list[Any] = []
        for _ in range(clip.audio):
            track: Any = container.add_stream("aac", rate=48000)
            track.layout = "mono"
            tracks.append(track)
        times = clip.times or tuple(range(0, clip.frames * clip.step, clip.step))
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(clip.width, clip.height, index), format="rgb24")
            frame = frame.reformat(format=clip.pix_fmt, dst_colorspace=5 if clip.matrix == 6 else 1)
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            _write_tone(container, track, 220 * (number + 1), times[-1] / 30000 + 0.03)
    return path


CHAPTERS = [
    {"id": 1, "start": 0, "end": 700, "time_base": Fraction(1, 1000), "metadata": {"title": "Dawn"}},
    {"id": 2, "start": 700, "end": 2000, "time_base": Fraction(1, 1000), "metadata": {"title": "Dusk"}},
]
SUBTITLES = [(200, 400, "Hello"), (900, 800, "<i>world</i>")]
"""Milliseconds of start and duration, and words."""
FONT = bytes(range(256)) * 3
WORDS = {"title": "A film", "artist": "Nobody", "comment": "kept?"}


def write_film(path: Path, frames: int = 60) -> Path:
    """Two tracks of sound (the second begins late), subtitles, chapters, words; in .mkv a font and a cover.

    The picture is 64x48 at 25 fps.
    """
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"crf": "12", "bf": "2", "g": "10"}
        stream.metadata.update(title="Picture", language="nor")
        tracks: list[Any] = []
        for language, title in (("eng", "Main"), ("deu", "Comment")):
            track: Any = container.add_stream("aac", rate=48000)
            track.layout = "mono"
            track.metadata.update(language=language, title=title)
            track.disposition = Disposition.default if language == "eng" else Disposition.comment
            tracks.append(track)
        words = _add_subtitles(container, path)
        container.metadata.update(WORDS)
        container.set_chapters(CHAPTERS)  # type: ignore[arg-type]
        if path.suffix == ".mkv":
            container.add_attachment("font.ttf", "font/ttf", FONT)
            container.add_attachment("cover.png", "image/png", cover())
        container.start_encoding()
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(64, 48, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            _write_tone(container, track, 220 * (number + 1), frames / 25 - number * 0.5, 24000 * number)
        _write_subtitles(container, words)
    return path


def cover() -> bytes:
    """A small PNG."""
    done, data = cv2.imencode(".png", picture(16, 16, 0))
    assert done
    return bytes(data)


def _add_subtitles(container: Any, path: Path) -> Any:
    form = "mov_text" if path.suffix == ".mp4" else "subrip"
    words = container.add_mux_stream(form)
    words.time_base = Fraction(1, 1000)
    words.metadata.update(language="fra", title="Words")
    words.disposition = Disposition.forced
    return words


def _write_subtitles(container: Any, stream: Any) -> None:
    for start, duration, text in SUBTITLES:
        data = text.encode()
        if container.format.name.startswith(("mp4", "mov")):
            data = len(data).to_bytes(2, "big") + data
        packet = av.Packet(data)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), stream
        container.mux(packet)


def _write_tone(container: Any, track: Any, hertz: int, seconds: float, offset: int = 0) -> None:
    samples = np.sin(np.arange(int(48000 * seconds)) * 2 * np.pi * hertz / 48000).astype(np.float32)
    for start in range(0, len(samples), 1024):
        block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "fltp", "mono")
        block.sample_rate, block.pts = 48000, start + offset
        container.mux(track.encode(block))
    container.mux(track.encode(None))


@dataclass(frozen=True)
class Outputs:
    """What a file holds, read with PyAV alone."""

    times: list[Fraction]
    size: tuple[int, int]
    rotation: int
    matrix: int
    range: int
    primaries: int
    transfer: int
    pix_fmt: str
    rate: Fraction
    duration: Fraction | None
    audio: list[tuple[int, Fraction, bytes]]
    """Track number, time and content of every packet."""


def probe(path: Path) -> Outputs:
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        duration = stream.duration * stream.time_base if stream.duration else None
        first: Any = frames[0]
        found = {
            "times": [frame.pts * stream.time_base for frame in frames],
            "size": (first.width, first.height),
            "rotation": first.rotation,
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "pix_fmt": context.pix_fmt,
            "rate": stream.average_rate,
            "duration": duration,
        }
    audio = []
    with av.open(path) as container:
        tracks: list[Any] = list(container.streams.audio)
        order = {track.index: number for number, track in enumerate(tracks)}
        for packet in container.demux(*tracks) if tracks else ():
            if packet.size:
                time = packet.pts * packet.time_base
                audio.append((order[packet.stream.index], time, bytes(packet)))
    return Outputs(**found, audio=sorted(audio))
