"""The session object: a model on a backend, ready to stylize pictures and videos.

    import mst_deploy as mst

    with mst.Stylizer() as stylizer, mst.open_video("in.mp4") as clip:
        frames = stylizer.frames(clip, "starry-night")
        mst.write_video("out.mp4", frames, clip)

Between reading and writing is a plain iterator of :class:`Frame`: images (H, W, 3) uint8 RGB, upright, with
their times. ``Stylizer.file`` renders a whole file in segments that survive a crash.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict, abc
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mst_deploy.backends import Images, StyleEncoder, StylizeBackend, open_style_encoder
from mst_deploy.backends.auto import resolve
from mst_deploy.backends.choice import Choice
from mst_deploy.backends.registry import AUTO
from mst_deploy.backends.shared import open_shared
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.files import refuse_to_overwrite
from mst_deploy.images import check_image
from mst_deploy.model.bundle import Bundle, Manifest, open_bundle
from mst_deploy.model.film import Style
from mst_deploy.model.zoo import resolve_model, styles_for
from mst_deploy.pipeline.events import OnEvent, ignore
from mst_deploy.pipeline.preview import preview_frames
from mst_deploy.pipeline.render import check_batch, rendered_frames
from mst_deploy.pipeline.stages import FramePreparer
from mst_deploy.pipeline.still import stylize_picture
from mst_deploy.pipeline.threads import ThreadedPipeline, queue_depth
from mst_deploy.size import Size
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan, load_plan, plan_of
from mst_deploy.styles.resolve import encode_film, make_style, require_same_model, resolve_style
from mst_deploy.styles.timeline import StyleKey, Timeline

if TYPE_CHECKING:  # stills need no PyAV
    from mst_deploy.jobs.options import RenderOptions
    from mst_deploy.jobs.render_file import RenderResult
    from mst_deploy.video.info import Frame
    from mst_deploy.video.reader import VideoReader
    from mst_deploy.video.sources import FrameSource

Name = str | os.PathLike[str]
StyleLike = Name | Images | Style | Timeline | StylePlan
"""Everything that can be given as a style; see ``Stylizer.plan``."""
STYLES_KEPT = 64
"""Styles that a session remembers; the one that was not used for longest is forgotten first."""


class Stylizer:
    """A model on a backend, with its style encoder and the styles read so far.

    Open it once and use it for many pictures and videos, from several threads if need be; it is a context
    manager. The style encoder is opened when the first picture is given as a style, and once.
    """

    def __init__(
        self,
        model: Name | None = None,
        *,
        backend: str = AUTO,
        device: str = "auto",
        precision: str = AUTO,
        threads: int | None = None,
        sizes: Sequence[tuple[int, int]] = (),
        batch: int = 1,
    ) -> None:
        """Open ``base`` (the default), ``lite`` or the folder of a bundle.

        A shipped name takes precedence over a folder of that name, see
        :func:`mst_deploy.model.zoo.resolve_model`. ``backend`` auto is the fastest of this machine, see
        :mod:`mst_deploy.backends.auto`; results of different backends differ slightly, so name one where
        bytes are compared between machines. ``precision`` is fp32, bf16, int8 or auto, which allows auto all
        that come within 36 dB of float32. ``sizes`` (width, height) of the frames and ``batch`` let auto take
        a TensorRT engine. ``device`` is cpu, cuda or auto. ``threads`` limits what the model takes of the
        processor (onnxrt, openvino); None leaves that to the runtime. Raises BundleError, BackendError,
        MissingDependency, InvalidArgument.
        """
        self.bundle: Bundle = open_bundle(resolve_model(model))
        self.choice: Choice = resolve(self.bundle, backend, device, sizes, batch, precision)
        """The backend that runs, and why it was chosen."""
        self.backend_name = self.choice.backend
        """NAME or NAME:PRECISION."""
        self.backend: StylizeBackend = open_shared(self.bundle, self.choice, threads)
        self._lock = threading.RLock()
        self._encoder: StyleEncoder | None = None
        self._styles: OrderedDict[tuple[object, ...], Style] = OrderedDict()

    @property
    def manifest(self) -> Manifest:
        """Return the description of the model: identity, network, smallest sizes."""
        return self.backend.manifest

    @property
    def device(self) -> str:
        """Return the device that the model runs on: cpu or cuda."""
        return self.backend.device

    def styles(self) -> list[Style]:
        """Return the ready-made styles of the model; none for a model that is not shipped."""
        return list(styles_for(self.manifest.model_id).values())

    def style(self, style: Name | Images) -> Style:
        """Read one style: a ready-made one by name, a style file, a picture file, or a picture (H, W, 3)
        uint8.

        Pictures that were read before and have not changed are taken from the session's cache. Raises
        InputError, and BundleError for a style of another model.
        """
        if isinstance(style, np.ndarray):
            check_image(style, "a style")
            sha256 = hashlib.sha256(repr(style.shape).encode() + style.tobytes()).hexdigest()
            return self._remembered((sha256,), lambda: self._style_of(style, sha256))
        if not isinstance(style, (str, os.PathLike)):
            raise InvalidArgument(
                field="style",
                problem=f"cannot read a style from a {type(style).__name__}",
                hint="give a name, a file or a picture (H, W, 3) uint8",
            )
        found = resolve_style(os.fspath(style), self.manifest)
        if isinstance(found, Style):
            return found
        file = found.stat()
        key = (str(found.resolve()), file.st_mtime_ns, file.st_size)
        return self._remembered(key, lambda: make_style(self.encoder(), found))

    def _style_of(self, image: Images, sha256: str) -> Style:
        film = encode_film(self.encoder(), image)
        return Style("array", film, self.manifest.model_id, sha256)

    def _remembered(self, key: tuple[object, ...], make: Callable[[], Style]) -> Style:
        with self._lock:
            if key not in self._styles:
                self._styles[key] = make()
                if len(self._styles) > STYLES_KEPT:
                    self._styles.popitem(last=False)
            self._styles.move_to_end(key)
            return self._styles[key]

    def encoder(self) -> StyleEncoder:
        """Return the style encoder, opened now if need be."""
        with self._lock:
            if self._encoder is None:
                self._encoder = open_style_encoder(self.bundle, self.backend_name, self.choice.device)
            return self._encoder

    def plan(self, style: StyleLike) -> StylePlan:
        """Read every style of a timeline, or take one style at full strength.

        ``style`` is a name or file as for :meth:`style`, a picture (H, W, 3) uint8, a Style, a Timeline of
        several, or a plan, which is returned as it is. Raises InputError, BundleError, InvalidArgument,
        before any frame is touched.
        """
        if isinstance(style, StylePlan):
            return style
        if isinstance(style, np.ndarray):
            style = self.style(style)
        if isinstance(style, Style):
            return plan_of(require_same_model(style, self.manifest), self.manifest)
        if not isinstance(style, (str, os.PathLike, Timeline)):
            raise InvalidArgument(
                field="style",
                problem=(f"cannot use a {type(style).__name__} as a style"),
                hint=("give a name, a file, a picture (H, W, 3) uint8, a Style or a Timeline"),
            )
        timeline = style if isinstance(style, Timeline) else Timeline((StyleKey(os.fspath(style)),))
        return load_plan(timeline, self.manifest, self.encoder, read_style=self.style)

    def image(
        self, image: Images, style: StyleLike, on_progress: Callable[[float], None] = lambda done: None
    ) -> Images:
        """Stylize one picture (H, W, 3) uint8 RGB -> the same shape and type.

        Large ones are stylized in tiles; ``on_progress`` gets the finished part, 0 to 1. Raises as
        :meth:`plan` does, and OutputError without room for the temporary files of a large picture.
        """
        check_image(image, "the picture")
        return stylize_picture(image, self.backend, self.plan(style), on_progress)

    def frames(
        self,
        source: FrameSource,
        style: StyleLike,
        *,
        size: str | Size | None = None,
        batch: int = 1,
        deflicker: bool = False,
    ) -> abc.Generator[Frame, None, None]:
        """Stylize the frames of a source, in order, with the times of the source.

        Decoding runs ahead in threads of its own, which end with the iterator. ``size`` is a Size,
        ``WIDTHxHEIGHT`` or a short side; ``batch`` pictures go into each call of the model; ``deflicker``
        averages stylized frames along the motion. Raises InputError, BundleError, BackendError,
        InvalidArgument.
        """
        plan = self.plan(style)  # a wrong name fails now
        check_batch(batch)
        return self._frames(source, plan, _size_of(source, size), batch, deflicker)

    def _frames(
        self, source: FrameSource, plan: StylePlan, size: tuple[int, int], batch: int, deflicker: bool
    ) -> abc.Generator[Frame, None, None]:
        with open_mask(plan.timeline.mask) as mask:
            preparer = FramePreparer(plan, *size, source.info.time_base, mask)
            rendered = rendered_frames(source, self.backend, preparer, batch=batch, deflicker=deflicker)
            with closing(rendered):
                yield from rendered

    def preview(
        self,
        source: FrameSource,
        style: StyleLike,
        times: Iterable[Fraction | float],
        *,
        size: str | Size | None = None,
        batch: int = 1,
        deflicker: bool = False,
    ) -> abc.Generator[Frame, None, None]:
        """Stylize only the frames that are shown at ``times``, exactly as :meth:`frames` gives them.

        ``times`` are seconds on the clock of the source's frames; one frame comes for each, the earliest
        first. Everything before the last of them is decoded, because styles, masks and the canvas depend on
        it. The other arguments, and what is raised, are those of :meth:`frames`; a time below 0 or past the
        end is an InvalidArgument.
        """
        plan = self.plan(style)
        check_batch(batch)
        return self._preview(
            source, plan, _size_of(source, size), _checked_times(times), batch=batch, deflicker=deflicker
        )

    def _preview(
        self,
        source: FrameSource,
        plan: StylePlan,
        size: tuple[int, int],
        times: list[Fraction],
        *,
        batch: int,
        deflicker: bool,
    ) -> abc.Generator[Frame, None, None]:
        with open_mask(plan.timeline.mask) as mask:
            preparer = FramePreparer(plan, *size, source.info.time_base, mask)
            shown = preview_frames(source, self.backend, preparer, times, batch=batch, deflicker=deflicker)
            with closing(shown):
                yield from shown

    def file(
        self,
        source: Name,
        output: Name,
        style: StyleLike,
        options: RenderOptions | None = None,
        on_event: OnEvent = ignore,
    ) -> RenderResult:
        """Render a whole video from file to file; see :func:`mst_deploy.jobs.render_file.render_file`."""
        from mst_deploy.jobs.render_file import render_file

        made = render_file(Path(source), Path(output), self.backend, self.plan(style), options, on_event)
        return replace(made, backend=self.backend_name)

    def close(self) -> None:
        """Free the resources of the model; the session cannot be used afterwards."""
        self.backend.close()

    def __enter__(self) -> Self:
        self.backend.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.backend.__exit__(*error)


def _size_of(source: FrameSource, size: str | Size | None) -> tuple[int, int]:
    wanted = Size.parse(size) if isinstance(size, str) else size or Size()
    return wanted.applied(source.info.width, source.info.height)


def _checked_times(times: Iterable[Fraction | float]) -> list[Fraction]:
    try:
        exact = [Fraction(time) for time in times]
    except (TypeError, ValueError, OverflowError) as error:  # infinite, or no number
        raise InvalidArgument(field="times", problem=f"cannot use a time: {error}") from error
    if not exact or min(exact) < 0:
        found = f"{float(min(exact)):g} s" if exact else "none"
        raise InvalidArgument(
            field="times", problem=f"times must be seconds from 0 up, at least one; got {found}"
        )
    return exact


def open_video(path: Name) -> VideoReader:
    """Open a video as an iterable of frames, to be read once; ``.info`` describes it. Raises InputError."""
    from mst_deploy.video.reader import VideoReader

    return VideoReader(Path(path))


def write_video(
    path: Name,
    frames: Iterable[Frame],
    source: FrameSource,
    *,
    codec: str | None = None,
    crf: int | None = None,
    bitrate: int | None = None,
) -> int:
    """Write frames, with the sound and everything else of ``source``; return their number.

    Without a codec the suffix decides, and the source where it leaves a choice: see EncodeOptions;
    ``bitrate`` is in bits a second and takes the place of ``crf``. The file gets its name when all frames are
    written. Encoding runs in a thread of its own. All frames must be of one size. Raises OutputError,
    InvalidArgument, and the errors of the iterator.
    """
    from mst_deploy.video.codecs import EncodeOptions
    from mst_deploy.video.info import resized
    from mst_deploy.video.writer import open_writer

    refuse_to_overwrite(Path(path), [source.info.path])
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise InputError(f"there are no frames to write into {os.fspath(path)}")
    check_image(first.image, "a frame")
    height, width = first.image.shape[:2]
    target = resized(source.info, width, height)
    count = 0
    with (
        open_writer(Path(path), target, EncodeOptions(codec, crf, bitrate)) as writer,
        ThreadedPipeline(queue_depth(width, height)) as threads,
    ):
        write = threads.in_background("encode", writer.write)
        for frame in chain([first], pictures):
            check_image(frame.image, "a frame")
            if frame.image.shape != first.image.shape:
                raise InvalidArgument(
                    f"all frames must be of one size: the first has the shape {first.image.shape}, one has "
                    f"{frame.image.shape}"
                )
            write(frame)
            count += 1
        threads.finish()
    return count
