"""Rendering of one video from file to file: all stages run concurrently, in segments that survive a crash."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from mst_deploy import __version__
from mst_deploy.backends import StylizeBackend
from mst_deploy.errors import Message
from mst_deploy.files import followed, refuse_to_overwrite
from mst_deploy.jobs.disk import check_before, expected_bytes
from mst_deploy.jobs.inputs import files_read
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.segments import SegmentOptions, in_parts, open_output
from mst_deploy.pipeline.events import Note, OnEvent, Started, ignore
from mst_deploy.pipeline.render import render
from mst_deploy.pipeline.stages import FramePreparer
from mst_deploy.pipeline.threads import StageTimer
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan
from mst_deploy.video.containers import goes_into_pipe
from mst_deploy.video.info import VideoInfo, resized
from mst_deploy.video.output_coding import encoder_of
from mst_deploy.video.sinks import spec_of
from mst_deploy.video.sources import open_source
from mst_deploy.video.writer import probe_output


@dataclass(frozen=True)
class RenderResult:
    """Result of a finished job."""

    output: Path
    width: int
    height: int
    frames: int
    seconds: float
    """Wall time, from opening the input to the closed result."""
    resumed: int = 0
    """Number of these frames that an earlier run had rendered."""
    stages: dict[str, float] = field(default_factory=dict)
    """Fraction of the wall time that each stage worked; stages run concurrently, so the sum may exceed 1."""
    limit: str = ""
    """The stage that worked longest."""
    not_kept: tuple[str, ...] = ()
    """Descriptions of what the result does not keep of the source."""
    damage: tuple[str, ...] = ()
    """Descriptions of what was damaged in the source."""
    decoder: str = ""
    """FFmpeg's name of the decoder, with ``(cuda)`` where the GPU decoded."""
    encoder: str = ""
    """FFmpeg's name of the encoder; NVIDIA's end in ``_nvenc``."""
    backend: str = ""
    """Backend that ran the model, NAME or NAME:PRECISION; empty for a model of another kind."""

    @property
    def fps(self) -> float:
        return (self.frames - self.resumed) / self.seconds if self.seconds > 0 else 0.0


def render_file(
    source: Path,
    output: Path,
    generator: StylizeBackend,
    style_plan: StylePlan,
    options: RenderOptions | None = None,
    on_event: OnEvent = ignore,
) -> RenderResult:
    """Stylize a whole file; ``output`` exists only when every frame went through.

    Memory does not grow with the length. On Ctrl-C the frames up to there become a file that plays
    (``out.interrupted.mp4``), and KeyboardInterrupt has a note with its path; finished parts are kept for
    ``resume`` then and after an error. Raises InputError, OutputError, BackendError.
    """
    options, output = options or RenderOptions(), followed(output)
    refuse_to_overwrite(output, [source], files_read(style_plan.timeline))
    started = time.perf_counter()
    timer = StageTimer()
    with open_source(source, options.read) as frames, open_mask(style_plan.timeline.mask) as mask:
        info = frames.info
        target = resized(info, *options.size.applied(info.width, info.height))
        preparer = FramePreparer(style_plan, target.width, target.height, info.time_base, mask)
        encodes = spec_of(output).encodes
        encoder = encoder_of(output, target, options.encode) if encodes else ""
        if in_parts(output, source):  # else the whole file is opened at once
            for note in probe_output(output, target, options.encode).notes:
                on_event(Note(Message(note)))
        _note_disk_space(output, target, options, on_event)
        if encodes:
            _note_software_codecs(info.decoder, encoder, options, on_event)
        plan = SegmentOptions(
            {**settings(target, generator, style_plan, options), "encoder": encoder},
            options.part_frames,
            options.resume,
            options.force,
        )
        with open_output(output, target, options.encode, plan) as sink:
            resumed = sink.done
            on_event(Started(target, resumed))
            if not sink.complete:
                render(
                    frames,
                    sink,
                    generator,
                    preparer,
                    batch=options.batch,
                    deflicker=options.deflicker,
                    on_event=on_event,
                    timer=timer,
                )
            with timer.timing("join"):
                sink.finish()
        damage, not_kept = frames.problems(), getattr(frames, "not_kept", info.not_kept)
    seconds = time.perf_counter() - started
    return RenderResult(
        output=output,
        width=target.width,
        height=target.height,
        frames=sink.written,
        seconds=seconds,
        resumed=resumed,
        stages={stage: spent / seconds for stage, spent in timer.seconds.items()},
        limit=timer.limit(),
        not_kept=(*not_kept, *sink.report.not_kept),
        damage=(*damage, *sink.report.damage),
        decoder=info.decoder,
        encoder=encoder,
    )


def _note_disk_space(output: Path, target: VideoInfo, options: RenderOptions, on_event: OnEvent) -> None:
    if goes_into_pipe(output):
        return
    codec = options.encode.codec or "h264"
    note = check_before(output, expected_bytes(codec, target.width, target.height, target.frames))
    if note:
        on_event(Note(note))


def _note_software_codecs(decoder: str, encoder: str, options: RenderOptions, on_event: OnEvent) -> None:
    """Report, with ``hwaccel`` auto, decoding or encoding that is done in software because the GPU cannot do
    it."""
    if options.read.hwaccel == "auto" and "(cuda)" not in decoder:
        on_event(Note(Message(f"[option:hwaccel] auto: decoding in software ({decoder})")))
    if options.encode.hwaccel == "auto" and not encoder.endswith("_nvenc"):
        on_event(Note(Message(f"[option:hwaccel] auto: encoding in software ({encoder})")))


def settings(
    source: VideoInfo, generator: StylizeBackend, style_plan: StylePlan, options: RenderOptions
) -> dict[str, str]:
    """Return everything a result depends on, as text: a job is resumed only with the same."""
    digest = hashlib.sha256()
    for name, film in style_plan.film_params.items():
        digest.update(name.encode() + film.tobytes())
    manifest = generator.manifest
    return {
        "input": _file_text(source.path),
        "reading": repr(options.read),
        "model": f"{manifest.model_id} {manifest.precision}",
        "runtime": f"{getattr(generator, 'name', type(generator).__name__)} on {generator.device}",
        "styles": f"{style_plan.timeline.label} {digest.hexdigest()[:16]}",
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
    """Return text that identifies a file without reading all of it; for a pattern of numbered pictures, its
    name."""
    if path is None:
        return "none"
    if not path.exists():
        return str(path.absolute())
    file = path.stat()
    return f"{path.resolve()} of {file.st_size} bytes, changed at {file.st_mtime_ns} ns"
