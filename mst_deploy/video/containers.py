"""Containers of results: FFmpeg's muxers, their suffixes and their options."""

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
"""Muxers of files that store the rotation and mirroring of the picture; nut is for parts of those."""

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
"""Metadata keys with a field of their own in mp4; others need the newer form, which fewer players show."""


def pipe_suffix(path: Path, codec: str | None) -> str:
    """Return the suffix for output to a pipe: that of its name, else Matroska, or y4m for ``raw``.

    Raises OutputError for containers that need seeking.
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
    """Return whether a name such as /dev/stdout stands for the standard output of this process."""
    if path == PIPE:
        return True
    try:
        return is_descriptor(path) and os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def goes_into_pipe(path: Path) -> bool:
    """Return whether an output is a pipe, a device or a descriptor rather than a file that can be renamed
    once complete."""
    return is_pipe(path) or is_descriptor(path)


def muxer_of(path: Path, codec: str | None) -> str:
    """Return FFmpeg's muxer for an output. Raises InvalidArgument, OutputError."""
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
    """Return the muxer's options; for the mp4 family index in front, color box, and exact start times."""
    if muxer == "gif":
        return {"loop": "0"}
    if muxer == "webp":
        return {"loop": "0"}
    if muxer not in ("mp4", "mov"):
        return {}
    clock = source.clock if source.clock < 2**31 else source.time_base.denominator
    flags = "+write_colr+faststart" if index_in_front else "+write_colr"
    return {"movflags": flags, "movie_timescale": str(clock)}
