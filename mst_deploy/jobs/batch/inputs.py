"""The videos of a batch: files, folders, patterns or URLs, and the names of their results."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mst_deploy.errors import InputError, InvalidArgument, MstError, OutputError, error_line, template_of
from mst_deploy.files import refuse_to_overwrite
from mst_deploy.jobs.batch.segment_files import Lease, SegmentFiles
from mst_deploy.jobs.batch.storage import Storage, filesystem, identity_of, is_url
from mst_deploy.jobs.batch.tasks import Video
from mst_deploy.jobs.inputs import VIDEO_SUFFIXES, expand
from mst_deploy.jobs.journal import unfinished
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.video.containers import AV_CONTAINERS
from mst_deploy.video.demuxing import is_pattern, is_pipe, open_input, picture_stream, pictures_of, seconds_of
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.writer import default_suffix

BYTES_PER_WEIGHT = 250.0
"""Bytes of a remote video that count as one kilopixel of a frame: only videos of one kind are compared."""


@dataclass(frozen=True)
class Rejected:
    """An input that no video is made of."""

    source: str
    output: str
    reason: str
    """Why it cannot be made; empty where its result is there already."""


def expand_sources(inputs: Sequence[str]) -> list[str]:
    """Return paths and URLs of all videos; of folders and patterns all that match. Raises InputError."""
    found: dict[str, None] = {}
    for name in inputs:
        if is_url(name):
            found.update(dict.fromkeys(_expand_url(name)))
        else:
            found.update(dict.fromkeys(map(str, expand([Path(name)], VIDEO_SUFFIXES))))
    return list(found)


def _expand_url(url: str) -> Iterator[str]:
    files, path = filesystem(url)
    scheme = url.partition("://")[0]
    try:
        if glob.has_magic(path):
            names = sorted(files.glob(path))
        elif files.isdir(path):
            names = sorted(n for n in files.ls(path, detail=False) if n.lower().endswith(VIDEO_SUFFIXES))
        else:
            yield url
            return
    except Exception as error:  # every store has exceptions of its own
        raise InputError(f"cannot read {url}: {error}") from error
    if not names:
        raise InputError(f"no video matches {url}; check the name")
    yield from (f"{scheme}://{str(name).lstrip('/') if scheme != 'file' else name}" for name in names)


def plan_videos(
    sources: Sequence[str], label: str, storage: Storage, options: RenderOptions, read: Sequence[Path] = ()
) -> tuple[list[Video], list[Rejected]]:
    """Return the videos to make, and the inputs that none is made of.

    ``label`` is the style's in the names of results; ``read`` lists files that no result may overwrite.
    Raises InvalidArgument where two inputs would be written to the same file.
    """
    videos: list[Video] = []
    rejected: list[Rejected] = []
    names: dict[str, str] = {}
    for source in sources:
        try:
            video = _video(source, label, options)
            output = f"{storage.url}/{video.name}"
            if (other := names.setdefault(video.name, source)) != source:
                raise InvalidArgument(
                    f"{other} and {source} would both be written to {video.name}; make them in two batches"
                )
            if storage.local is not None:
                refuse_to_overwrite(storage.local / video.name, [Path(source), *read])
            if _complete(storage, video.name) and not options.force:
                rejected.append(Rejected(source, output, ""))
            else:
                videos.append(video)
        except InvalidArgument:
            raise
        except MstError as error:
            rejected.append(Rejected(source, "", error_line(error, template_of)))
    inside = {str(storage.local / video.name) for video in videos} if storage.local is not None else set()
    for video in [video for video in videos if video.source in inside]:
        videos.remove(video)
        rejected.append(Rejected(video.source, "", "it is the result of another input"))
    return videos, rejected


def _complete(storage: Storage, name: str) -> bool:
    """Return whether a result is there, and clear up what a batch that was killed just then has left."""
    if storage.size(name) is None:
        return False
    if storage.local is not None and unfinished(storage.local / name):
        return False  # the journal of mst video knows
    files = SegmentFiles(storage, name)
    if storage.names(files.folder):
        with suppress(OutputError):  # another batch is about to do it
            Lease(files).take()
            files.remove()
    return True


def _video(source: str, label: str, options: RenderOptions) -> Video:
    identity = identity_of(source)
    path = PurePosixPath(source) if is_url(source) else Path(source)
    frames, weight = 0, 0.0
    suffix = path.suffix.lower()
    if is_url(source):
        size = int(identity.partition(" ")[0])
        if size == 0:
            raise InputError(f"{source} is empty (0 bytes); copy it again")
        suffix = suffix if suffix in AV_CONTAINERS else ".mkv"
        weight = size / BYTES_PER_WEIGHT
    else:
        local = Path(source)
        if is_pipe(local) or is_pattern(local):
            raise OutputError("pipes and numbered pictures are made by mst video, not in batches")
        frames, weight = _measured(local, options)
        if suffix not in AV_CONTAINERS:
            with VideoReader(local, options.read) as reader:
                suffix = default_suffix(reader.info, options.encode)
    return Video(source, identity, f"{path.stem}-{label}{suffix}", frames, weight)


def _measured(path: Path, options: RenderOptions) -> tuple[int, float]:
    """Return number of frames, as far as it is known, and work in kilopixels, without decoding."""
    span = options.read.span
    with open_input(path) as container:
        stream: Any = picture_stream(container, path)
        seconds = float(seconds_of(container, stream) or 0)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        frames = pictures_of(container, stream)
        if not frames or span.start or span.end or span.sample_every:
            end = min(seconds, float(span.end)) if span.end is not None else seconds
            if span.sample_every is not None:
                rate = min(rate, 1 / float(span.sample_every))
            frames = max(0, round((end - float(span.start or 0)) * rate))
        width, height = options.size.applied(stream.width, stream.height)
    return frames, max(1, frames) * width * height / 1000
