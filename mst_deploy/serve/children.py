"""Processes that decode files of strangers, so that a file made to do harm ends them and not the service.

A child has a limit of memory, gets none of the service's sockets, and is killed when it makes no progress.
It has no model either: a video job asks its parent to stylize each batch.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst_deploy.backends import BackendBase
from mst_deploy.errors import InputError, InvalidArgument, MstError, OutputError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mst_deploy.backends import Images
    from mst_deploy.images.files import Picture
    from mst_deploy.serve.limits import Limits

CLIP_NAME = "the clip"
PICTURE_NAME = "the picture"
TICK = 0.2  # seconds between checks whether a job was canceled
STARTING = 120.0
"""Seconds that a process may take to start, which do not count as its work."""
ANSWER_LIMIT = 4096  # characters of a message
KINDS: dict[str, type[MstError]] = {
    each.__name__: each for each in (InputError, InvalidArgument, OutputError, MstError)
}


class ChildDied(InputError):
    """The process that read a file ended or was stopped."""


class Canceled(Exception):
    """A job was canceled."""


@dataclass
class Parent:
    """What a child may ask of its parent."""

    stylize: Callable[..., Images] | None = None
    """(frames, film_params, canvas) -> stylized frames."""
    encode: Callable[[Images], Any] | None = None
    """Picture (H, W, 3) -> its FiLM vector (P,)."""
    on_progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    canceled: Callable[[], bool] = field(default=lambda: False)


class Child:
    """A process that runs one task at a time."""

    def __init__(self, memory: int) -> None:
        """Start it with ``memory`` bytes of address space at most (on Linux)."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, memory), daemon=True, name="decoder")
        self.process.start()
        theirs.close()
        self.started = False

    def run(self, task: str, *arguments: Any, patience: float, parent: Parent | None = None) -> Any:
        """Run a task of ``TASKS`` and return its result.

        Raises the child's errors, ChildDied when it ends or makes no progress for ``patience`` seconds, and
        Canceled.
        """
        parent = parent or Parent()
        try:
            if not self.started:
                self._answer(STARTING, parent)
                self.started = True
            self.pipe.send((task, arguments))
            while True:
                kind, *values = self._answer(patience, parent)
                if kind == "done":
                    return values[0]
                if kind == "failed":
                    raise _error(*values)
                if kind == "progress":
                    parent.on_progress(*values)
                elif kind == "stylize":
                    assert parent.stylize is not None
                    self.pipe.send(parent.stylize(*values))
                else:
                    assert parent.encode is not None
                    self.pipe.send(parent.encode(*values))
        except (EOFError, OSError) as error:
            self.close()
            raise ChildDied(
                "the file cannot be decoded: it needs too much memory, or is damaged; convert it first"
            ) from error
        except BaseException as error:
            if not isinstance(error, MstError) or isinstance(error, ChildDied):
                self.close()
            raise

    def _answer(self, patience: float, parent: Parent) -> Any:
        until = time.monotonic() + patience
        if parent.canceled():
            raise Canceled
        while not self.pipe.poll(TICK):
            if parent.canceled():
                raise Canceled
            if time.monotonic() > until:
                raise ChildDied(f"the file was not decoded within {patience:g} s; make it smaller")
        return self.pipe.recv()

    @property
    def alive(self) -> bool:
        """Return whether it can take another task."""
        return self.process.is_alive()

    def close(self) -> None:
        """Kill the process."""
        with suppress(ValueError):  # closed before
            self.process.kill()
            self.process.join()
            self.process.close()
            self.pipe.close()


class PictureDecoders:
    """Processes for pictures, kept for the next picture; started when they are needed."""

    def __init__(self, limits: Limits, most: int = 2) -> None:
        self.limits = limits
        self.idle: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(most):
            self.idle.put(None)

    def decode(self, data: bytes) -> Picture:
        """Decode a picture file: upright sRGB, with its alpha. Raises InputError, ChildDied."""
        with self._child() as child:
            decoded: Picture = child.run(
                "picture",
                data,
                self.limits.picture_pixels,
                self.limits.picture_side,
                patience=self.limits.decode_seconds,
            )
            return decoded

    def start(self) -> None:
        """Start one process, so that the first picture need not wait for it."""
        with self._child():
            pass

    @contextmanager
    def _child(self) -> Iterator[Child]:
        child = self.idle.get()
        try:
            child = child or Child(self.limits.child_memory)
            yield child
        finally:
            self.idle.put(child if child is not None and _usable(child) else None)

    def close(self) -> None:
        """Kill all of them."""
        with suppress(queue.Empty):
            while True:
                child = self.idle.get_nowait()
                if child is not None:
                    child.close()


def _usable(child: Child) -> bool:
    try:
        return child.alive
    except ValueError:  # closed
        return False


def _error(kind: str, text: str, details: dict[str, str]) -> MstError:
    if kind == "InvalidArgument":
        return InvalidArgument(**details)
    return KINDS[kind](text)


# In the child


def _serve(pipe: Connection, memory: int) -> None:
    """Run tasks until the parent is gone."""
    for each in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # of a terminal, or of the group: the parent ends its children
        signal.signal(each, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import mst_deploy.images.files
    import mst_deploy.video.sources  # noqa: F401  # before the first task, whose time is limited

    with suppress(EOFError, OSError):
        pipe.send(("started",))
        while True:
            task, arguments = pipe.recv()
            try:
                answer: Any = ("done", TASKS[task](pipe, *arguments))
            except MstError as error:
                answer = ("failed", *_described(error))
            pipe.send(answer)


def _described(error: MstError) -> tuple[str, str, dict[str, str]]:
    details: dict[str, str] = {}
    if isinstance(error, InvalidArgument):
        details = {"field": error.field, "problem": str(error.problem), "hint": str(error.hint)}
    kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in KINDS)
    return kind, str(error)[:ANSWER_LIMIT], details


@contextmanager
def _without_path(path: Path) -> Iterator[None]:
    """Name the clip, not where it is, in messages."""
    try:
        yield
    except MstError as error:
        kind, text, details = _described(error)

        def cleaned(text: str) -> str:
            return text.replace(str(path), CLIP_NAME).replace(str(path.parent), "its folder")

        raise _error(kind, cleaned(text), {name: cleaned(each) for name, each in details.items()}) from error


def _decode_picture(pipe: Connection, data: bytes, pixels: int, side: int) -> Any:
    from mst_deploy.images.files import decode_picture, limited_pixels

    with limited_pixels(pixels):  # read from the header
        picture = decode_picture(data, PICTURE_NAME)
    height, width = picture.image.shape[:2]
    if max(width, height) > side:
        raise InputError(f"{PICTURE_NAME} has {width}x{height} pixels; a side may have {side}")
    return picture


@dataclass(frozen=True)
class ClipFacts:
    """Description of an uploaded clip."""

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    sound: bool


def _open_clip(path: Path, limits: Limits) -> Any:
    from mst_deploy.video.sources import open_source

    source = open_source(path)
    info = source.info
    facts = ClipFacts(
        info.width,
        info.height,
        float(info.rate),
        info.frames,
        float(info.frames / info.rate),
        bool(info.audio),
    )
    wrong = ""
    if facts.width * facts.height > limits.clip_pixels:
        wrong = f"has frames of {facts.width}x{facts.height}; {limits.clip_pixels / 1e6:.1f} MP is the limit"
    elif facts.seconds > limits.clip_seconds or facts.frames > limits.clip_frames:
        wrong = (
            f"has {facts.frames} frames in {facts.seconds:.0f} s; the limits are {limits.clip_frames} and "
            f"{limits.clip_seconds:g} s"
        )
    if wrong:
        source.__exit__()
        raise InputError(f"{CLIP_NAME} {wrong}; make it smaller, or render it with mst video")
    return source, facts


def _probe_clip(pipe: Connection, path: Path, limits: Limits) -> tuple[ClipFacts, Images]:
    """Return the facts of a clip that is within the limits, and its first frame (H, W, 3)."""
    with _without_path(path):
        source, facts = _open_clip(path, limits)
        with source:
            return facts, next(iter(source)).image


class _RemoteModel(BackendBase):
    """The model of the parent, as a backend."""

    def __init__(self, pipe: Connection, manifest: Any, name: str, device: str) -> None:
        self.pipe, self.manifest, self.name, self.device = pipe, manifest, name, device

    def __call__(self, frames: Images, film_params: Any, canvas: Any = None) -> Images:
        self.pipe.send(("stylize", frames, film_params, canvas))
        stylized: Images = self.pipe.recv()
        return stylized

    def encode(self, image: Images) -> Any:
        """Return the FiLM vector (P,) of a picture (H, W, 3)."""
        self.pipe.send(("encode", image))
        return self.pipe.recv()


def _render_clip(pipe: Connection, path: Path, output: Path, order: ClipOrder, limits: Limits) -> int:
    """Render a whole clip and return its number of frames."""
    from mst_deploy.jobs.options import RenderOptions
    from mst_deploy.jobs.render_file import render_file
    from mst_deploy.pipeline.events import FramesDone, Started
    from mst_deploy.size import Size

    model = _RemoteModel(pipe, order.manifest, order.name, order.device)
    total = 0

    def on_event(event: Any) -> None:
        nonlocal total
        if isinstance(event, Started):
            total = event.info.frames
            pipe.send(("progress", event.done, total))
        elif isinstance(event, FramesDone):
            if event.done > limits.clip_frames:
                raise InputError(f"{CLIP_NAME} has more than {limits.clip_frames} frames")
            pipe.send(("progress", event.done, max(total, event.done)))

    size = Size.parse(order.size) if order.size else Size()
    options = RenderOptions(size=size, resume=True, deflicker=order.deflicker, part_frames=order.part_frames)
    with _without_path(path):
        _open_clip(path, limits)[0].__exit__()
        return render_file(path, output, model, order.plan_for(model), options, on_event).frames


def _preview_clip(
    pipe: Connection, path: Path, times: list[Fraction], order: ClipOrder, limits: Limits
) -> Any:
    from mst_deploy.pipeline.preview import preview_frames
    from mst_deploy.pipeline.stages import FramePreparer
    from mst_deploy.size import Size

    model = _RemoteModel(pipe, order.manifest, order.name, order.device)
    with _without_path(path), _open_clip(path, limits)[0] as source:
        size = Size.parse(order.size) if order.size else Size()
        wide, high = size.applied(source.info.width, source.info.height)
        preparer = FramePreparer(order.plan_for(model), wide, high, source.info.time_base)
        stills = preview_frames(
            source,
            model,
            preparer,
            times,
            deflicker=order.deflicker,
        )
        return [frame.image for frame in stills]


@dataclass(frozen=True)
class ClipOrder:
    """How a clip is to be stylized, in a form that can be sent to another process."""

    plan: Any
    """A StylePlan without its function that reads the content's own FiLM vector."""
    manifest: Any
    name: str
    device: str
    size: str = ""
    deflicker: bool = False
    part_frames: int = 120

    def plan_for(self, model: _RemoteModel) -> Any:
        """Return the plan whose function asks the parent."""
        return self.plan if self.plan.timeline.always_full else replace(self.plan, read=model.encode)


TASKS: dict[str, Callable[..., Any]] = {
    "picture": _decode_picture,
    "probe": _probe_clip,
    "render": _render_clip,
    "preview": _preview_clip,
}
