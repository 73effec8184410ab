"""The Python API: open, stylize as an iterator of frames, write.

    import mst_deploy as mst

    with mst.open_model() as model, mst.open_video("in.mp4") as clip:
        frames = mst.stylize(clip, model, "starry-night")
        mst.write_video("out.mp4", frames, clip)

Whatever comes between is a plain iterator of :class:`Frame`: images (H, W, 3) uint8 RGB, upright, with
their times. For whole files, with parts that survive a crash, there is :func:`stylize_file`.
"""

from __future__ import annotations

import os
from collections import abc
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Self

from mst_deploy.backends import Images, StyleEncoder, StylizeBackend, open_generator, open_style_encoder
from mst_deploy.errors import InputError
from mst_deploy.jobs.video_job import JobOptions, Listener, Result, stylize_video
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.pipeline.frames import (
    FramePreparer,
    Size,
    check_batch,
    depth_for,
    stylize_frames,
    stylize_picture,
)
from mst_deploy.pipeline.threads import ThreadedPipeline
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import StylePlan, load_plan
from mst_deploy.styles.timeline import StyleKey, Timeline
from mst_deploy.video.deflicker import Deflicker
from mst_deploy.video.reader import Frame, VideoReader, resized
from mst_deploy.video.writer import EncodeOptions, open_writer

Name = str | os.PathLike[str]


class Model:
    """A generator and the means to read styles for it. A context manager."""

    def __init__(
        self, bundle: Bundle, generator: StylizeBackend, encoder: Callable[[], StyleEncoder]
    ) -> None:
        self.bundle, self.generator = bundle, generator
        self.encoder = cache(encoder)
        """Opens the style encoder once, when it is first needed."""

    def style_plan(self, style: str | Timeline) -> StylePlan:
        """Read the styles of a timeline, or one style at full strength. Raises InputError, BundleError."""
        timeline = style if isinstance(style, Timeline) else Timeline((StyleKey(style),))
        return load_plan(timeline, self.bundle.manifest, self.encoder)

    def __enter__(self) -> Self:
        self.generator.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.generator.__exit__(*error)


def open_model(model: Name | None = None, backend: str = "onnxrt", device: str = "auto") -> Model:
    """``base`` (the default), ``lite`` or the folder of a bundle, on one of the backends.

    A shipped name goes before a folder of that name; see :func:`shipped.resolve_model`.
    Raises BundleError, BackendError, MissingDependency, InvalidArgument.
    """
    bundle = open_bundle(resolve_model(model))
    generator = open_generator(bundle, backend, device)
    return Model(bundle, generator, lambda: open_style_encoder(bundle, backend, device))


def open_video(path: Name) -> VideoReader:
    """A video as an iterable of frames, to be read once; ``.info`` describes it. Raises InputError."""
    return VideoReader(Path(path))


def stylize(
    clip: VideoReader,
    model: Model,
    style: str | Timeline,
    *,
    size: str | None = None,
    batch: int = 1,
    deflicker: bool = False,
) -> abc.Generator[Frame, None, None]:
    """Stylized frames of a clip, in order, with the times of their sources.

    Decoding runs ahead in threads of its own, which end with the iterator. ``size`` is ``WIDTHxHEIGHT`` or
    a short side; ``batch`` pictures go into each call of the model; ``deflicker`` averages what is painted
    along the motion, against flicker. Raises InputError, BundleError, BackendError, InvalidArgument.
    """
    style_plan = model.style_plan(style)  # now, not with the first frame: a wrong name is told at once
    check_batch(batch)
    info = clip.info
    width, height = (Size.parse(size) if size else Size()).applied(info.width, info.height)
    return _frames(clip, model, style_plan, (width, height), batch, Deflicker() if deflicker else None)


def _frames(
    clip: VideoReader,
    model: Model,
    style_plan: StylePlan,
    size: tuple[int, int],
    batch: int,
    deflicker_filter: Deflicker | None,
) -> abc.Generator[Frame, None, None]:
    with open_mask(style_plan.timeline.mask) as mask:
        preparer = FramePreparer(style_plan, *size, clip.info.time_base, mask)
        with closing(stylize_frames(clip, model.generator, preparer, batch=batch)) as painted:
            for item in painted:
                yield (item if deflicker_filter is None else item.deflickered(deflicker_filter)).shown()


def stylize_still(image: Images, model: Model, style: str | Timeline) -> Images:
    """One picture, (H, W, 3) uint8 RGB in and out. Raises as :func:`stylize` does."""
    style_plan = model.style_plan(style)
    with open_mask(style_plan.timeline.mask) as mask:
        return stylize_picture(image, model.generator, style_plan, mask)


def write_video(
    path: Name,
    frames: Iterable[Frame],
    source: VideoReader,
    *,
    codec: str | None = None,
    crf: int | None = None,
) -> int:
    """Write frames, with the sound and everything else of ``source``; returns their number.

    Without a codec the suffix decides, and H.264 or, for more than 8 bits, HEVC where it leaves a choice. The
    file takes its name when all frames are in it. Encoding runs in a thread of its own. All frames
    must be of one size. Raises OutputError, InvalidArgument, and what the iterator raises.
    """
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise InputError(f"there are no frames to write into {os.fspath(path)}")
    height, width = first.image.shape[:2]
    target = resized(source.info, width, height)
    count = 0
    with (
        open_writer(Path(path), target, EncodeOptions(codec, crf)) as writer,
        ThreadedPipeline(depth_for(width, height)) as line,
    ):
        write = line.in_background("encode", writer.write)
        for frame in chain([first], pictures):
            write(frame)
            count += 1
        line.finish()
    return count


def stylize_file(
    source: Name,
    output: Name,
    model: Model,
    style: str | Timeline,
    options: JobOptions | None = None,
    listener: Listener | None = None,
) -> Result:
    """A whole video from file to file, as ``mst video`` makes it; see :func:`job.stylize_video`."""
    return stylize_video(
        Path(source), Path(output), model.generator, model.style_plan(style), options, listener
    )
