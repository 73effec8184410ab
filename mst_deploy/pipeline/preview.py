"""Single frames of a stylized video, exactly as they are in it."""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mst_deploy.backends import StylizeBackend
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.pipeline.render import check_batch
from mst_deploy.pipeline.stages import FramePreparer, PreparedFrame, infer
from mst_deploy.pipeline.threads import StageTimer, ThreadedPipeline, queue_depth
from mst_deploy.video.deflicker import REACH, Deflicker

if TYPE_CHECKING:  # stills need no PyAV
    from mst_deploy.video.info import Frame
    from mst_deploy.video.sources import FrameSource


def preview_frames(
    source: FrameSource,
    backend: StylizeBackend,
    preparer: FramePreparer,
    times: Sequence[Fraction],
    *,
    batch: int = 1,
    deflicker: bool = False,
) -> abc.Generator[Frame, None, None]:
    """Yield the stylized frame that is shown at each of ``times`` (seconds, sorted here), one for each.

    All frames up to the last of the times are decoded, and the canvas is moved along them; only the frames
    asked for go through the model, with ``deflicker`` those before that they are averaged with, too. Raises
    InvalidArgument for a time at or after the end.
    """
    check_batch(batch)
    reach = REACH if deflicker else 0
    step = 1 / source.info.rate
    with ThreadedPipeline(queue_depth(preparer.width, preparer.height)) as threads:
        decoded = threads.prefetch("decode", source)
        prepared = threads.prefetch("prepare", preparer.prepare_all(decoded, 0, StageTimer()))
        for window in windows_shown(prepared, times, preparer.base, reach + 1, step, str(source.info.path)):
            deflicker_filter = Deflicker() if deflicker else None
            stylized = list(infer(iter(window), backend, batch, StageTimer()))
            if deflicker_filter is not None:
                stylized = [item.deflickered(deflicker_filter) for item in stylized]
            yield stylized[-1].compose()


def windows_shown(
    prepared: Iterable[PreparedFrame],
    times: Sequence[Fraction],
    base: Fraction,
    length: int,
    step: Fraction,
    name: str,
) -> Iterator[list[PreparedFrame]]:
    """Yield for each of ``times`` (seconds) the frame shown then, last, after up to ``length`` - 1 before it.

    A frame is shown from its own time (pts in units of ``base`` seconds) until that of the next; the first
    one before its time, too, and the last for its duration, or for ``step`` seconds if that is unknown.
    Raises InvalidArgument for a time at or after the end, InputError where there are no frames; both name
    ``name``.
    """
    waiting = deque(sorted(times))
    window: deque[PreparedFrame] = deque(maxlen=length)
    for item in prepared:
        while window and waiting and waiting[0] < item.frame.pts * base:
            waiting.popleft()
            yield list(window)
        if not waiting:
            return
        window.append(item)
    if not window:
        raise InputError(f"{name} has no frames")
    last = window[-1].frame
    end = last.pts * base + (last.duration * base or step)
    for time in waiting:
        if time >= end:
            raise InvalidArgument(
                field="times",
                problem=f"{name} is {_seconds(end)} s long; there is no frame at {_seconds(time)} s",
                hint="give an earlier time",
            )
        yield list(window)


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f}".rstrip("0").rstrip(".")
