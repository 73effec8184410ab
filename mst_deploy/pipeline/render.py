"""The pipeline of a video, from a source to a sink:

    source ─ decode ─> prepare ─> infer ─> [deflicker] ─> compose ─> encode ─ sink

Each name is a stage (``stages``) with a thread of its own; inference stays in the caller's thread, which owns
the GPU's context and receives Ctrl-C. Bounded queues join the threads, so memory does not grow with the
length.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from mst_deploy.backends import StylizeBackend
from mst_deploy.errors import InvalidArgument
from mst_deploy.pipeline.events import FramesDone, OnEvent, ignore
from mst_deploy.pipeline.stages import FramePreparer, StylizedFrame, infer
from mst_deploy.pipeline.threads import StageTimer, ThreadedPipeline, queue_depth
from mst_deploy.video.deflicker import REACH, Deflicker

if TYPE_CHECKING:  # stills need no PyAV
    from mst_deploy.video.info import Frame
    from mst_deploy.video.sinks import FrameSink


def render(
    frames: Iterable[Frame],
    sink: FrameSink,
    backend: StylizeBackend,
    preparer: FramePreparer,
    *,
    batch: int = 1,
    deflicker: bool = False,
    on_event: OnEvent = ignore,
    timer: StageTimer | None = None,
) -> None:
    """Stylize the frames of a source into a sink; the sink is flushed, but not finished.

    Frames that the sink has already are read and left out; with ``deflicker`` the last ones of them are
    stylized again, because the next frames are averaged with them. On Ctrl-C the sink keeps the frames so
    far, and KeyboardInterrupt has a note with their path. Raises the error of a failed stage, once.
    """
    timer = timer or StageTimer()
    again = min(sink.done, REACH) if deflicker else 0
    deflicker_filter = Deflicker() if deflicker else None
    repeated = again

    def encode(frame: Frame) -> None:
        with timer.timing("encode"):
            sink.write(frame)

    def compose(item: StylizedFrame) -> None:
        with timer.timing("compose"):
            frame = item.compose()
        to_encoder(frame)

    def average(item: StylizedFrame) -> None:
        nonlocal repeated
        assert deflicker_filter is not None
        with timer.timing("deflicker"):
            item = item.deflickered(deflicker_filter)
        if repeated:
            repeated -= 1
        else:
            to_composer(item)

    stylized = stylize_frames(frames, backend, preparer, batch=batch, skip=sink.done - again, timer=timer)
    done = sink.done - again
    with closing(stylized), ThreadedPipeline(queue_depth(preparer.width, preparer.height)) as threads:
        to_encoder = threads.in_background("encode", encode)  # the last stage is started first
        to_composer = threads.in_background("compose", compose)
        next_stage = threads.in_background("deflicker", average) if deflicker else to_composer
        try:
            for item in stylized:
                next_stage(item)
                done += 1
                on_event(FramesDone(max(done, sink.done)))
        except KeyboardInterrupt as stop:
            threads.finish()
            if kept := sink.keep():
                stop.add_note(kept)
            raise
        except Exception as error:
            if error is not threads.failure:  # keep what has been stylized; the first error is raised
                with suppress(Exception):
                    threads.finish()
            raise
        threads.finish()
    with timer.timing("encode"):
        sink.flush()


def rendered_frames(
    frames: Iterable[Frame],
    backend: StylizeBackend,
    preparer: FramePreparer,
    *,
    batch: int = 1,
    deflicker: bool = False,
) -> abc.Generator[Frame, None, None]:
    """Stylize the frames of a source for a caller that takes them one by one, in order.

    Decoding and preparing run ahead in threads that end with the iterator; the rest is done in the caller's
    thread. Close the iterator when leaving early.
    """
    deflicker_filter = Deflicker() if deflicker else None
    with closing(stylize_frames(frames, backend, preparer, batch=batch)) as stylized:
        for item in stylized:
            yield (item if deflicker_filter is None else item.deflickered(deflicker_filter)).compose()


def stylize_frames(
    frames: Iterable[Frame],
    backend: StylizeBackend,
    preparer: FramePreparer,
    *,
    batch: int = 1,
    skip: int = 0,
    timer: StageTimer | None = None,
) -> abc.Generator[StylizedFrame, None, None]:
    """Decode, prepare and infer; the first two in threads that end with the iterator.

    The first ``skip`` frames are read and left out. Errors of the source and of the backend surface here.
    """
    check_batch(batch)
    timer = timer or StageTimer()
    with ThreadedPipeline(queue_depth(preparer.width, preparer.height)) as threads:
        decoded = threads.prefetch("decode", timer.each("decode", frames))
        prepared = threads.prefetch("prepare", preparer.prepare_all(decoded, skip, timer))
        yield from infer(prepared, backend, batch, timer)


def check_batch(batch: int) -> None:
    """Raise InvalidArgument for a batch without frames."""
    if batch < 1:
        raise InvalidArgument(
            field="batch",
            problem=(f"a batch must have at least 1 picture, got {batch}"),
        )
