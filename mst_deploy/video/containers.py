"""Files that results are written into: FFmpeg's muxers, their suffixes and their options."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.errors import OutputError
from mst_deploy.video.demuxing import PIPE
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


def is_sequence(path: Path) -> bool:
    """Whether a path names numbered pictures: ``out%06d.png``."""
    return "%" in path.name


def muxer_of(path: Path, codec: str | None) -> str:
    """FFmpeg's muxer for an output. Raises OutputError."""
    if path == PIPE:
        return "yuv4mpegpipe" if codec == "raw" else "matroska"
    if path.suffix.lower() not in MUXERS:
        known = f"{', '.join(CONTAINERS)}, numbered pictures (out%06d.png) or - for standard output"
        raise OutputError(f"cannot write {path}: unknown video type {path.suffix!r}; use one of {known}")
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
