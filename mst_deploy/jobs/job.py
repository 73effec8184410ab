"""One video from file to file: all stages side by side, in parts that survive a crash."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from mst_deploy import __version__
from mst_deploy.backends import Generator
from mst_deploy.jobs.disk import check_before, expected_bytes
from mst_deploy.jobs.segments import Output, Segmenting, in_parts, open_output
from mst_deploy.looks.looks import Looks
from mst_deploy.looks.masks import open_mask
from mst_deploy.pipeline import Painted, Planner, Size, depth_for, stylize_frames
from mst_deploy.stages import Line, Meter
from mst_deploy.video.demuxing import PIPE
from mst_deploy.video.info import Frame, ReadOptions, VideoInfo, resized
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.steady import REACH, Steadier
from mst_deploy.video.writer import EncodeOptions, encoder_of, try_output


@dataclass(frozen=True)
class JobOptions:
    """How a video is made, apart from how it shall look."""

    read: ReadOptions = field(default_factory=ReadOptions)
    size: Size = field(default_factory=Size)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    batch: int = 1
    """Pictures in one call of the generator."""
    steady: bool = False
    """Average what is painted along the motion, against flicker; see :mod:`video.steady`."""
    part_frames: int = 120
    """Frames of one part of the result: what a crash can cost at most."""
    resume: bool = False
    """Go on with an unfinished job beside the output, if there is one."""
    force: bool = False
    """Throw an unfinished job away instead of refusing to."""


@dataclass(frozen=True)
class Listener:
    """What is called while a job runs."""

    on_start: Callable[[VideoInfo, int], None] = lambda info, done: None
    """Before the first frame: what will be written, and how many frames of it are there already."""
    on_frame: Callable[[int], None] = lambda done: None
    """After each frame: how many are painted."""
    on_note: Callable[[str], None] = lambda note: None
    """Something the user should know."""


@dataclass(frozen=True)
class Result:
    """What a finished job made."""

    output: Path
    width: int
    height: int
    frames: int
    seconds: float
    """Wall time, from opening the input to the closed result."""
    resumed: int = 0
    """Frames of an earlier run among them."""
    stages: dict[str, float] = field(default_factory=dict)
    """Share of the wall time that each stage worked; they run side by side, so the sum may exceed 1."""
    limit: str = ""
    """The stage that worked longest."""
    not_kept: tuple[str, ...] = ()
    """What of the source the result does not have, in words."""
    damage: tuple[str, ...] = ()
    """What was wrong with the source, in words."""
    decoder: str = ""
    """What read the picture: FFmpeg's name, and ``(cuda)`` where the GPU did it."""
    encoder: str = ""
    """What coded it; NVIDIA's end in ``_nvenc``."""

    @property
    def fps(self) -> float:
        return (self.frames - self.resumed) / self.seconds if self.seconds > 0 else 0.0


def stylize_video(
    source: Path,
    output: Path,
    generator: Generator,
    looks: Looks,
    options: JobOptions | None = None,
    listener: Listener | None = None,
) -> Result:
    """Stylise a whole file; ``output`` exists only when every frame went through.

    Memory does not grow with the length. On Ctrl-C the frames up to there become a file that plays
    (``out.interrupted.mp4``), and KeyboardInterrupt carries a note that says so; finished parts are kept
    for ``resume`` then and after an error. Raises InputError, OutputError, BackendError.
    """
    options, listener = options or JobOptions(), listener or Listener()
    started = time.perf_counter()
    meter = Meter()
    with VideoReader(source, options.read) as reader, open_mask(looks.timeline.mask) as mask:
        info = reader.info
        target = resized(info, *options.size.applied(info.width, info.height))
        planner = Planner(looks, target.width, target.height, info.time_base, mask)
        encoder = encoder_of(output, target, options.encode)
        if in_parts(output, source):  # else the whole file is opened at once
            try_output(output, target, options.encode)
        _tell_of_space(output, target, options, listener)
        _tell_of_hardware(info.decoder, encoder, options, listener)
        plan = Segmenting(
            {**settings(target, generator, looks, options), "encoder": encoder},
            options.part_frames,
            options.resume,
            options.force,
        )
        with open_output(output, target, options.encode, plan) as out:
            resumed = out.done
            listener.on_start(target, resumed)
            if not out.painted:
                again = min(resumed, REACH) if options.steady else 0
                painted = stylize_frames(
                    reader, generator, planner, batch=options.batch, skip=resumed - again, meter=meter
                )
                with closing(painted):
                    _write_all(painted, out, meter, listener, Steadier() if options.steady else None, again)
                with meter.working("encode"):
                    out.close_part()
            with meter.working("join"):
                out.finish()
        damage = reader.damage.words()
    seconds = time.perf_counter() - started
    return Result(
        output=output,
        width=target.width,
        height=target.height,
        frames=out.written,
        seconds=seconds,
        resumed=resumed,
        stages={stage: spent / seconds for stage, spent in meter.seconds.items()},
        limit=meter.limit(),
        not_kept=(*info.not_kept, *out.told.not_kept),
        damage=(*damage, *out.told.damage),
        decoder=info.decoder,
        encoder=encoder,
    )


def _tell_of_space(output: Path, target: VideoInfo, options: JobOptions, listener: Listener) -> None:
    if output == PIPE:
        return
    codec = options.encode.codec or "h264"
    note = check_before(output, expected_bytes(codec, target.width, target.height, target.frames))
    if note:
        listener.on_note(note)


def _tell_of_hardware(decoder: str, encoder: str, options: JobOptions, listener: Listener) -> None:
    """With --hw auto: what is done in software because the GPU cannot do it."""
    if options.read.hw == "auto" and "(cuda)" not in decoder:
        listener.on_note(f"--hw auto: decoding in software ({decoder})")
    if options.encode.hw == "auto" and not encoder.endswith("_nvenc"):
        listener.on_note(f"--hw auto: encoding in software ({encoder})")


def _write_all(
    painted: Iterator[Painted],
    out: Output,
    meter: Meter,
    listener: Listener,
    steadier: Steadier | None,
    again: int,
) -> None:
    """Painting in this thread; steadying, composing and encoding behind it.

    The first ``again`` frames are written already, and only there for the steadier to see.
    """

    def encode(frame: Frame) -> None:
        with meter.working("encode"):
            out.write(frame)

    def compose(item: Painted) -> None:
        with meter.working("compose"):
            frame = item.shown()
        to_encoder(frame)

    def steady(item: Painted) -> None:
        nonlocal again
        assert steadier is not None
        with meter.working("steady"):
            item = item.steadied(steadier)
        if again == 0:
            hand_on(item)
        else:
            again -= 1

    done = out.done - again
    with Line(depth_for(out.source.width, out.source.height)) as behind:
        to_encoder = behind.behind("encode", encode)
        hand_on = behind.behind("compose", compose)
        take = hand_on if steadier is None else behind.behind("steady", steady)
        try:
            for item in painted:
                take(item)
                done += 1
                listener.on_frame(max(done, out.done))
        except KeyboardInterrupt as stop:
            behind.finish()
            kept = out.keep()
            if kept:
                stop.add_note(kept)
            raise
        except Exception as error:
            if error is not behind.failure:  # what is painted is worth keeping; the first error is told
                with suppress(Exception):
                    behind.finish()
            raise
        behind.finish()


def settings(source: VideoInfo, generator: Generator, looks: Looks, options: JobOptions) -> dict[str, str]:
    """Everything a result depends on, in words: a job goes on only with the same."""
    films = hashlib.sha256()
    for name, row in looks.rows.items():
        films.update(name.encode() + row.tobytes())
    manifest = generator.manifest
    return {
        "input": _file_text(source.path),
        "reading": repr(options.read),
        "model": f"{manifest.model_id} {manifest.precision}",
        "runtime": f"{type(generator).__name__} on {generator.device}",
        "styles": f"{looks.timeline.label} {films.hexdigest()[:16]}",
        "timeline": repr(looks.timeline),
        "mask": _file_text(looks.timeline.mask),
        "size": f"{source.width}x{source.height}",
        "coding": repr(options.encode),
        "batch": str(options.batch),
        "steady": str(options.steady),
        "part": f"{options.part_frames} frames",
        "program": f"mst {__version__}, PyAV {version('av')}",
    }


def _file_text(path: Path | None) -> str:
    """What identifies a file without reading all of it; a pattern of numbered pictures is its name."""
    if path is None:
        return "none"
    if not path.exists():
        return str(path.absolute())
    file = path.stat()
    return f"{path.resolve()} of {file.st_size} bytes, changed at {file.st_mtime_ns} ns"
