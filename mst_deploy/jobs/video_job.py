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
from mst_deploy.backends import StylizeBackend
from mst_deploy.jobs.disk import check_before, expected_bytes
from mst_deploy.jobs.segments import Output, SegmentOptions, in_parts, open_output
from mst_deploy.pipeline.frames import FramePreparer, Size, StylizedFrame, depth_for, stylize_frames
from mst_deploy.pipeline.threads import StageTimer, ThreadedPipeline
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan
from mst_deploy.video.containers import goes_into_pipe
from mst_deploy.video.deflicker import REACH, Deflicker
from mst_deploy.video.info import Frame, ReadOptions, VideoInfo, resized
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import EncodeOptions, encoder_of, probe_output


@dataclass(frozen=True)
class JobOptions:
    """How a video is made, apart from how it shall look."""

    read: ReadOptions = field(default_factory=ReadOptions)
    size: Size = field(default_factory=Size)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    batch: int = 1
    """Pictures in one call of the generator."""
    deflicker: bool = False
    """Average what is painted along the motion, against flicker; see :mod:`video.deflicker`."""
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
    generator: StylizeBackend,
    style_plan: StylePlan,
    options: JobOptions | None = None,
    listener: Listener | None = None,
) -> Result:
    """Stylize a whole file; ``output`` exists only when every frame went through.

    Memory does not grow with the length. On Ctrl-C the frames up to there become a file that plays
    (``out.interrupted.mp4``), and KeyboardInterrupt carries a note that says so; finished parts are kept
    for ``resume`` then and after an error. Raises InputError, OutputError, BackendError.
    """
    options, listener = options or JobOptions(), listener or Listener()
    started = time.perf_counter()
    meter = StageTimer()
    with VideoReader(source, options.read) as reader, open_mask(style_plan.timeline.mask) as mask:
        info = reader.info
        target = resized(info, *options.size.applied(info.width, info.height))
        preparer = FramePreparer(style_plan, target.width, target.height, info.time_base, mask)
        encoder = encoder_of(output, target, options.encode)
        if in_parts(output, source):  # else the whole file is opened at once
            for note in probe_output(output, target, options.encode).notes:
                listener.on_note(note)
        _note_disk_space(output, target, options, listener)
        _note_software_codecs(info.decoder, encoder, options, listener)
        plan = SegmentOptions(
            {**settings(target, generator, style_plan, options), "encoder": encoder},
            options.part_frames,
            options.resume,
            options.force,
        )
        with open_output(output, target, options.encode, plan) as out:
            resumed = out.done
            listener.on_start(target, resumed)
            if not out.painted:
                again = min(resumed, REACH) if options.deflicker else 0
                painted = stylize_frames(
                    reader, generator, preparer, batch=options.batch, skip=resumed - again, meter=meter
                )
                with closing(painted):
                    _write_all(
                        painted, out, meter, listener, Deflicker() if options.deflicker else None, again
                    )
                with meter.timing("encode"):
                    out.close_part()
            with meter.timing("join"):
                out.finish()
        damage, not_kept = reader.damage.words(), reader.not_kept
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
        not_kept=(*not_kept, *out.told.not_kept),
        damage=(*damage, *out.told.damage),
        decoder=info.decoder,
        encoder=encoder,
    )


def _note_disk_space(output: Path, target: VideoInfo, options: JobOptions, listener: Listener) -> None:
    if goes_into_pipe(output):
        return
    codec = options.encode.codec or "h264"
    note = check_before(output, expected_bytes(codec, target.width, target.height, target.frames))
    if note:
        listener.on_note(note)


def _note_software_codecs(decoder: str, encoder: str, options: JobOptions, listener: Listener) -> None:
    """With --hwaccel auto: what is done in software because the GPU cannot do it."""
    if options.read.hwaccel == "auto" and "(cuda)" not in decoder:
        listener.on_note(f"--hwaccel auto: decoding in software ({decoder})")
    if options.encode.hwaccel == "auto" and not encoder.endswith("_nvenc"):
        listener.on_note(f"--hwaccel auto: encoding in software ({encoder})")


def _write_all(
    painted: Iterator[StylizedFrame],
    out: Output,
    meter: StageTimer,
    listener: Listener,
    deflicker_filter: Deflicker | None,
    again: int,
) -> None:
    """Painting in this thread; steadying, composing and encoding behind it.

    The first ``again`` frames are written already, and only there for the steadier to see.
    """

    def encode(frame: Frame) -> None:
        with meter.timing("encode"):
            out.write(frame)

    def compose(item: StylizedFrame) -> None:
        with meter.timing("compose"):
            frame = item.shown()
        to_encoder(frame)

    def deflicker(item: StylizedFrame) -> None:
        nonlocal again
        assert deflicker_filter is not None
        with meter.timing("steady"):
            item = item.deflickered(deflicker_filter)
        if again == 0:
            hand_on(item)
        else:
            again -= 1

    done = out.done - again
    with ThreadedPipeline(depth_for(out.source.width, out.source.height)) as in_background:
        to_encoder = in_background.in_background("encode", encode)
        hand_on = in_background.in_background("compose", compose)
        take = hand_on if deflicker_filter is None else in_background.in_background("steady", deflicker)
        try:
            for item in painted:
                take(item)
                done += 1
                listener.on_frame(max(done, out.done))
        except KeyboardInterrupt as stop:
            in_background.finish()
            kept = out.keep()
            if kept:
                stop.add_note(kept)
            raise
        except Exception as error:
            if (
                error is not in_background.failure
            ):  # what is painted is worth keeping; the first error is told
                with suppress(Exception):
                    in_background.finish()
            raise
        in_background.finish()


def settings(
    source: VideoInfo, generator: StylizeBackend, style_plan: StylePlan, options: JobOptions
) -> dict[str, str]:
    """Everything a result depends on, in words: a job goes on only with the same."""
    films = hashlib.sha256()
    for name, row in style_plan.rows.items():
        films.update(name.encode() + row.tobytes())
    manifest = generator.manifest
    return {
        "input": _file_text(source.path),
        "reading": repr(options.read),
        "model": f"{manifest.model_id} {manifest.precision}",
        "runtime": f"{type(generator).__name__} on {generator.device}",
        "styles": f"{style_plan.timeline.label} {films.hexdigest()[:16]}",
        "timeline": repr(style_plan.timeline),
        "mask": _file_text(style_plan.timeline.mask),
        "size": f"{source.width}x{source.height}",
        "coding": repr(options.encode),
        "batch": str(options.batch),
        "steady": str(options.deflicker),
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
