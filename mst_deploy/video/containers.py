"""Files that results are written into: FFmpeg's muxers, their suffixes and their options."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.video.demuxing import PIPE, is_descriptor, is_pipe
from mst_deploy.video.info import VideoInfo

MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".gif": "gif",
    ".webp": "webp",
    ".y4m": "yuv4mpegpipe",
    ".nut": "nut",
}
"""FFmpeg's name of the container, by suffix."""
CONTAINERS = tuple(MUXERS)[:-1]  # nut is for parts of a job alone
AV_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Containers that also hold sound."""

SAYS_ORIENTATION = ("mp4", "mov", "matroska", "webm", "nut")
"""Muxers of files that say how the picture is turned and mirrored; nut is for parts of those."""

PLAIN_WORDS = {
    "title",
    "artist",
    "album_artist",
    "composer",
    "album",
    "date",
    "encoder",
    "comment",
    "genre",
    "copyright",
    "grouping",
    "lyrics",
    "description",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "keywords",
    "episode_sort",
    "season_number",
    "media_type",
    "hd_video",
    "gapless_playback",
    "compilation",
    "track",
    "disc",
    "tmpo",
    "creation_time",
    "location",
    "location-eng",
    "timecode",
}
"""Metadata that mp4 has an own place for; other words need the newer form, which fewer players show."""


def pipe_suffix(path: Path, codec: str | None) -> str:
    """The kind of file that goes into a pipe: what its name says, else Matroska, or y4m for ``raw``.

    Raises OutputError for files that must be written back and forth.
    """
    suffix = path.suffix.lower()
    if suffix in (".mp4", ".m4v", ".mov", ".webp"):
        raise OutputError(
            f"cannot write {path}: a pipe is written from beginning to end, and {suffix} files are not; "
            "give the pipe a name that ends in .mkv, or write to a file"
        )
    if suffix in MUXERS:
        return suffix
    return ".y4m" if codec == "raw" else ".mkv"


def is_standard_output(path: Path) -> bool:
    """Whether a name such as /dev/stdout stands for the standard output of this process."""
    if path == PIPE:
        return True
    try:
        return is_descriptor(path) and os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def goes_into_pipe(path: Path) -> bool:
    """Whether an output is not a file that gets its name once it is whole: a pipe, a device, a descriptor."""
    return is_pipe(path) or is_descriptor(path)


def muxer_of(path: Path, codec: str | None) -> str:
    """FFmpeg's muxer for an output. Raises InvalidArgument, OutputError."""
    if goes_into_pipe(path):
        return MUXERS[pipe_suffix(path, codec)]
    if path.suffix.lower() not in MUXERS:
        known = f"{', '.join(CONTAINERS)}, numbered pictures (out%06d.png) or - for standard output"
        raise InvalidArgument(
            field="output",
            problem=f"cannot write {path}: unknown video type {path.suffix!r}",
            hint=f"use one of {known}",
        )
    return MUXERS[path.suffix.lower()]


def muxer_options(muxer: str, source: VideoInfo, *, index_in_front: bool) -> dict[str, str]:
    """mp4 family: index in front, color box, and start times exact instead of in milliseconds."""
    if muxer == "gif":
        return {"loop": "0"}
    if muxer == "webp":
        return {"loop": "0"}
    if muxer not in ("mp4", "mov"):
        return {}
    clock = source.clock if source.clock < 2**31 else source.time_base.denominator
    flags = "+write_colr+faststart" if index_in_front else "+write_colr"
    return {"movflags": flags, "movie_timescale": str(clock)}
