"""The Python API: open, stylise as an iterator of frames, write.

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

from mst_deploy.backends import Generator, Images, StyleEncoder, open_generator, open_style_encoder
from mst_deploy.errors import InputError
from mst_deploy.jobs.job import JobOptions, Listener, Result, stylize_video
from mst_deploy.looks.looks import Looks, read_looks
from mst_deploy.looks.masks import open_mask
from mst_deploy.looks.timeline import StyleKey, Timeline
from mst_deploy.manifest import Bundle, open_bundle
from mst_deploy.pipeline import Planner, Size, check_batch, depth_for, stylize_frames, stylize_picture
from mst_deploy.shipped import find_bundle
from mst_deploy.stages import Line
from mst_deploy.video.reader import Frame, VideoReader, resized
from mst_deploy.video.steady import Steadier
from mst_deploy.video.writer import EncodeOptions, open_writer

Name = str | os.PathLike[str]


class Model:
    """A generator and the means to read styles for it. A context manager."""

    def __init__(self, bundle: Bundle, generator: Generator, encoder: Callable[[], StyleEncoder]) -> None:
        self.bundle, self.generator = bundle, generator
        self.encoder = cache(encoder)
        """Opens the style encoder once, when it is first needed."""

    def looks(self, style: str | Timeline) -> Looks:
        """Read the styles of a timeline, or one style at full strength. Raises InputError, BundleError."""
        timeline = style if isinstance(style, Timeline) else Timeline((StyleKey(style),))
        return read_looks(timeline, self.bundle.manifest, self.encoder)

    def __enter__(self) -> Self:
        self.generator.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.generator.__exit__(*error)


def open_model(model: Name | None = None, backend: str = "onnxrt", device: str = "auto") -> Model:
    """``base`` (the default), ``lite`` or the folder of a bundle, on one of the backends.

    A shipped name goes before a folder of that name; see :func:`shipped.find_bundle`.
    Raises BundleError, BackendError, MissingDependency, InvalidArgument.
    """
    bundle = open_bundle(find_bundle(model))
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
    steady: bool = False,
) -> abc.Generator[Frame, None, None]:
    """Stylised frames of a clip, in order, with the times of their sources.

    Decoding runs ahead in threads of its own, which end with the iterator. ``size`` is ``WIDTHxHEIGHT`` or
    a short side; ``batch`` pictures go into each call of the model; ``steady`` averages what is painted along
    the motion, against flicker. Raises InputError, BundleError, BackendError, InvalidArgument.
    """
    looks = model.looks(style)  # now, not with the first frame: a wrong name is told at once
    check_batch(batch)
    info = clip.info
    width, height = (Size.parse(size) if size else Size()).applied(info.width, info.height)
    return _frames(clip, model, looks, (width, height), batch, Steadier() if steady else None)


def _frames(
    clip: VideoReader,
    model: Model,
    looks: Looks,
    size: tuple[int, int],
    batch: int,
    steadier: Steadier | None,
) -> abc.Generator[Frame, None, None]:
    with open_mask(looks.timeline.mask) as mask:
        planner = Planner(looks, *size, clip.info.time_base, mask)
        with closing(stylize_frames(clip, model.generator, planner, batch=batch)) as painted:
            for item in painted:
                yield (item if steadier is None else item.steadied(steadier)).shown()


def stylize_still(image: Images, model: Model, style: str | Timeline) -> Images:
    """One picture, (H, W, 3) uint8 RGB in and out. Raises as :func:`stylize` does."""
    looks = model.looks(style)
    with open_mask(looks.timeline.mask) as mask:
        return stylize_picture(image, model.generator, looks, mask)


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
        Line(depth_for(width, height)) as line,
    ):
        write = line.behind("encode", writer.write)
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
    return stylize_video(Path(source), Path(output), model.generator, model.looks(style), options, listener)
