"""What a worker of a batch does: it opens the model once, and carries out tasks.

whole   the video, as ``mst video`` makes it
scan    read the video once and store what ``scan`` finds
paint   make segments from the middle of it
join    make the result of its segments
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

from mst_deploy import __version__
from mst_deploy.backends import StyleEncoder, open_generator, open_style_encoder
from mst_deploy.backends.registry import find_spec, split_precision
from mst_deploy.environment import processor_name
from mst_deploy.errors import BackendError, InputError
from mst_deploy.jobs.batch.paint import NotTheSameFrames, SegmentSink, frames_of
from mst_deploy.jobs.batch.scan import scan_segments
from mst_deploy.jobs.batch.segment_files import SegmentFiles
from mst_deploy.jobs.batch.storage import fetch, identity_of, is_url, open_storage
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.jobs.segments import in_parts
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.pipeline.render import render
from mst_deploy.pipeline.stages import FramePreparer
from mst_deploy.pipeline.threads import ThreadedPipeline, queue_depth
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan
from mst_deploy.styles.resolve import encode_film
from mst_deploy.video.canvas import MovingCanvas
from mst_deploy.video.info import VideoInfo, resized
from mst_deploy.video.sources import FrameSource, open_source
from mst_deploy.video.writer import join_segments, probe_output


@dataclass(frozen=True)
class Setup:
    """What a worker needs besides its tasks."""

    storage: str
    """Folder or URL of the results."""
    model: str | None
    model_id: str
    """Identity of the driver's model: a worker with another one must not work."""
    backend: str
    device: str
    threads: int
    """Threads that the model may use; 0 for the runtime's own choice."""
    style_plan: StylePlan
    """Plan without its encoder, which every worker opens itself if it is needed."""
    options: RenderOptions
    version: str = __version__


@dataclass(frozen=True)
class WorkerInfo:
    """Description of a worker that is ready."""

    host: str
    kind: str
    """Processor or GPU, with the number of cores: machines of one kind give the same bytes."""
    device: str


class SourceChanged(InputError):
    """The source is not what it was when the batch was planned; nothing that was made of it may stay."""


class Worker:
    """A model on one machine, ready for tasks. A context manager.

    Opening it raises BundleError, BackendError, MissingDependency, InvalidArgument where this machine cannot
    do the work.
    """

    def __init__(self, setup: Setup) -> None:
        if setup.version != __version__:
            raise BackendError(
                f"has mst {__version__}, the batch was started with {setup.version}; install it with: "
                f"pip install mst-deploy=={setup.version}"
            )
        self.setup, self.options = setup, setup.options
        bundle = open_bundle(resolve_model(setup.model))
        if bundle.manifest.model_id != setup.model_id:
            raise BackendError(
                f"has another model under the name {setup.model} ({bundle.manifest.model_id}, not "
                f"{setup.model_id}); copy the batch's model there"
            )
        limited = setup.threads and find_spec(split_precision(setup.backend)[0]).threads
        threads = setup.threads if limited else None
        self.open = ExitStack()
        self.generator = self.open.enter_context(open_generator(bundle, setup.backend, setup.device, threads))
        self.style_plan = setup.style_plan
        if not self.style_plan.timeline.always_full:
            encoder: StyleEncoder = open_style_encoder(bundle, setup.backend, setup.device)
            self.style_plan = replace(self.style_plan, read=partial(encode_film, encoder))
        self.storage = open_storage(setup.storage)
        self.kept = Path(self.open.enter_context(tempfile.TemporaryDirectory(prefix="mst-batch-")))
        """Folder for remote sources, of which the last one is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def describe(self) -> WorkerInfo:
        return WorkerInfo(platform.node(), machine_kind(self.generator.device), self.generator.device)

    def run(self, task: Task, video: Video) -> Outcome:
        """Carry out a task. Raises InputError, OutputError, BackendError; another try would give them
        again."""
        started = time.perf_counter()
        source = self._source(video)
        outcome = {"whole": self._whole, "scan": self._scan, "paint": self._paint, "join": self._join}[
            task.kind
        ](task, video, source)
        self._refuse_changes(video)
        return replace(outcome, seconds=time.perf_counter() - started)

    def _source(self, video: Video) -> Path:
        """Return the source as a file of this machine. Raises InputError if it is not what it was."""
        self._refuse_changes(video)
        if not is_url(video.source):
            return Path(video.source)
        path = self.kept / PurePosixPath(video.source).name
        mark = path.with_name("source")
        wanted = f"{video.source} {video.identity}"
        if not mark.exists() or mark.read_text() != wanted:
            for old in self.kept.iterdir():
                old.unlink()
            fetch(video.source, path)
            mark.write_text(wanted)
        return path

    def _refuse_changes(self, video: Video) -> None:
        if identity_of(video.source) != video.identity:
            raise SourceChanged(
                f"{video.source} was changed while the batch was running; run the same command again"
            )

    def _whole(self, task: Task, video: Video, source: Path) -> Outcome:
        if self.storage.local is not None:
            output = self.storage.local / video.name
            output.parent.mkdir(parents=True, exist_ok=True)
            options = self._resuming(source, output)
            result = render_file(source, output, self.generator, self.style_plan, options)
            try:
                self._refuse_changes(video)
            except InputError:
                output.unlink(missing_ok=True)
                raise
        else:
            with tempfile.TemporaryDirectory(prefix="mst-batch-") as folder:
                output = Path(folder, video.name)
                result = render_file(source, output, self.generator, self.style_plan, self.options)
                self._refuse_changes(video)
                self.storage.put(output, video.name)
        notes = (*result.not_kept, *(f"damaged: {damage}" for damage in result.damage))
        return Outcome(task, result.frames, notes=notes)

    def _resuming(self, source: Path, output: Path) -> RenderOptions:
        resume = in_parts(output, source) and not self.options.force
        return replace(self.options, resume=resume)

    def _target(self, frames: FrameSource) -> VideoInfo:
        return resized(frames.info, *self.options.size.applied(frames.info.width, frames.info.height))

    def _scan(self, task: Task, video: Video, source: Path) -> Outcome:
        files = SegmentFiles(self.storage, video.name)
        with open_source(source, self.options.read) as frames, open_mask(self.style_plan.timeline.mask):
            target = self._target(frames)
            report = probe_output(Path(video.name), target, self.options.encode)
            canvas = None
            if self.style_plan.has_canvas:
                seed = self.style_plan.timeline.seed
                canvas = MovingCanvas(target.height, target.width, seed)
            segments = count = 0
            with ThreadedPipeline(queue_depth(target.width, target.height)) as threads:
                decoded = threads.prefetch("decode", frames)
                for scan in scan_segments(decoded, self.options.part_frames, canvas):
                    files.put_scan(scan)
                    segments += 1
                    count += len(scan.times) - scan.lookback
            not_kept = getattr(frames, "not_kept", frames.info.not_kept)
            notes = (*not_kept, *(f"damaged: {damage}" for damage in frames.problems()), *report.notes)
        files.put_scan_end(segments, count, notes)
        return Outcome(task, count, segments)

    def _paint(self, task: Task, video: Video, source: Path) -> Outcome:
        files = SegmentFiles(self.storage, video.name)
        first, seek = task.first, True
        while True:
            while first < task.last and files.record(first) is not None:
                first += 1
            if first == task.last:
                return Outcome(task)
            try:
                frames = self._paint_from(first, task.last, files, source, seek=seek)
            except NotTheSameFrames as error:
                if not seek:
                    raise InputError(
                        f"{video.source} gives other frames than when it was scanned ({error}): it was "
                        "changed, or this machine decodes it differently; use machines of one kind"
                    ) from None
                seek = False  # its key frames cannot be trusted: read from the beginning
            else:
                return Outcome(task, frames)

    def _paint_from(self, first: int, last: int, files: SegmentFiles, source: Path, *, seek: bool) -> int:
        scans = [files.scan(number) for number in range(first, last)]
        with ExitStack() as stack:
            reader = stack.enter_context(open_source(source, self.options.read))
            mask = stack.enter_context(open_mask(self.style_plan.timeline.mask))
            target = self._target(reader)
            preparer = FramePreparer(self.style_plan, target.width, target.height, target.time_base, mask)
            frames = frames_of(reader, scans, self.options.part_frames, preparer, seek=seek)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mst-batch-")))
            sink = SegmentSink(
                files, folder, target, self.options, scans, machine_kind(self.generator.device)
            )
            stack.enter_context(closing(sink))
            render(
                stack.enter_context(closing(frames)),
                sink,
                self.generator,
                preparer,
                batch=self.options.batch,
                deflicker=self.options.deflicker,
            )
            return sink.written

    def _join(self, task: Task, video: Video, source: Path) -> Outcome:
        files = SegmentFiles(self.storage, video.name)
        end = files.scan_end()
        if end is None:
            raise InputError(f"the scan of {video.source} is missing; start the batch again")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mst-batch-")))
            found = [files.get_segment(number, folder) for number in range(end["segments"])]
            missing = tuple(number for number, path in enumerate(found) if path is None)
            if missing:
                return Outcome(task, again=missing)
            parts = [path for path in found if path is not None]
            last = files.scan(end["segments"] - 1)
            reader = stack.enter_context(open_source(source, self.options.read))
            target = self._target(reader)
            options = self.options.encode.resolved(Path(video.name).suffix.lower(), target.depth)
            pts, duration = last.times[-1].tolist()
            whole = folder / PurePosixPath(video.name).name
            if self.storage.local is not None:  # the same disk, so that it can be renamed
                whole = self.storage.local / files.path(whole.name)
            report = join_segments(whole, target, options, parts, end=(pts + duration) * target.time_base)
            self._refuse_changes(video)
            self.storage.put(whole, video.name)
        files.remove()
        notes = (*end["notes"], *report.not_kept, *(f"damaged: {damage}" for damage in report.damage))
        return Outcome(task, end["frames"], notes=notes)


def machine_kind(device: str) -> str:
    """Return what the bytes of results depend on besides versions: processor, cores, device."""
    return f"{processor_name()}, {os.cpu_count()} cores, {device}"
