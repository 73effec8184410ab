"""Opening of video files: files that are no videos or are truncated are refused before any work is done."""

from __future__ import annotations

import re
import stat
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.stream import Disposition

from mst_deploy.errors import BackendError, InputError, InvalidArgument
from mst_deploy.images import IMAGE_SUFFIXES
from mst_deploy.video.time_ranges import parse_time

PIPE = Path("-")
"""Standard input or output."""
NUMBER = re.compile(r"%\d*d", re.ASCII)
DESCRIPTORS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Folders of names of open file descriptors, such as a shell's ``<(...)`` and ``>(...)``."""
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,evc,av1,obu,ivf,asf,flv,"
    "live_flv,ogg,gif,apng,nut,mxf,gxf,lxf,yuv4mpegpipe,rm,wtv,dv,vc1,vc1test,dirac,h261,h263,"
    "cavsvideo,mjpeg,mjpeg_2000,smjpeg,swf,nsv,nuv,roq,smk,bink,flic,amv,film_cpk,filmstrip,4xm,ea,"
    "ea_cdata,mtv,mv,mvi,viv,vmd,wsvqa,r3d,pmp,psxstr,thp,tiertexseq,xmv,idcin,ipmovie,dxa,c93,"
    "bethsoftvid,bfi,cdg,cine,dsicin,gdv,hnm,jv,lvf,mm,moflex,paf,rpl,sdx,ser,siff,tmv,txd,vivo,"
    "wc3movie,yop,argo_brp,iv8,ifv,kux"
)
"""FFmpeg's demuxers of files that contain their video; playlists (concat, hls, dash), which name other files,
are excluded."""
TRANSPORT_PACKETS = ((0, 188), (0, 204), (4, 192))
"""Position of the sync byte and length of MPEG transport packets: broadcast, with check bytes, Blu-ray."""
SYNC = 0x47
PATIENCE = Fraction(1, 2)
"""Seconds that may be missing at the end: sound is often a little longer than the picture."""


@dataclass(frozen=True)
class Pipe:
    """An input that can be read only once: the reader keeps packets of other streams here for the writer."""

    container: Any
    packets: deque[Any] = field(default_factory=deque)


def is_pattern(path: Path) -> bool:
    """Return whether a name can stand for numbered pictures: ``out%06d.png``. A file of that name takes
    precedence."""
    return path.name.count("%") == 1 and NUMBER.search(path.name) is not None


def ffmpeg_name(path: Path) -> str:
    """Return a file's name so that FFmpeg takes it for a file: a name that begins with ``word:`` would be a
    URL."""
    return str(path.absolute())


def is_pipe(path: Path) -> bool:
    """Return whether a path can be read or written only once, from beginning to end."""
    if path == PIPE:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def is_descriptor(path: Path) -> bool:
    """Return whether a path is the name of an open file descriptor, which cannot be replaced by a file."""
    return path.parent in DESCRIPTORS


def open_input(path: Path, *, hwaccel: HWAccel | None = None, rate: Fraction | None = None) -> Any:
    """Open PyAV's container of a video file, of a numbered sequence (``%06d.png``) or of standard input.

    ``rate`` is the frame rate of a sequence. Raises InputError.
    """
    if path == PIPE:
        return _opened(sys.stdin.buffer, "standard input", {})
    if is_pattern(path) and not path.exists():
        return _open_sequence(path, rate or Fraction(25))
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name")
    if is_pipe(path):
        try:
            return _opened(path.open("rb"), str(path), {})
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or download it again")
    container = _opened(ffmpeg_name(path), str(path), {"hwaccel": hwaccel})
    kind = container.format.name
    if kind == "tty" or kind.startswith("image2") or kind.endswith("_pipe"):
        container.close()
        what = {
            "tty": "text",
            "webp_pipe": "WebP, whose animations FFmpeg cannot read (mst image takes still ones)",
        }.get(kind, "a still picture (mst image takes those)")
        raise InputError(f"cannot read {path} as a video: it is {what}; give a video file")
    return container


def _opened(file: Any, name: str, options: dict[str, Any]) -> Any:
    settings = {"format_whitelist": ",".join((FORMATS, *harmless_formats())), "protocol_whitelist": "file"}
    try:
        return av.open(file, metadata_errors="replace", container_options=settings, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read {name} as a video ({reason}): it is of another kind, or truncated; "
            "try to play it, or copy it again"
        ) from error
    except RuntimeError as error:  # the GPU was insisted on
        raise BackendError(
            f"[option:hwaccel] on: the GPU cannot decode {name}; use [option:hwaccel] auto or "
            "[option:hwaccel] off"
        ) from error


@cache
def harmless_formats() -> tuple[str, ...]:
    """Return the formats of stills and text, which are refused with a better message after opening."""
    stills = (name for name in av.formats_available if name.endswith("_pipe") or name.startswith("image2"))
    return ("tty", *sorted(stills))


def is_sequence(path: Path) -> bool:
    """Return whether a path names numbered pictures: ``out%06d.png``."""
    return is_pattern(path) and path.suffix.lower() in IMAGE_SUFFIXES


def sequence_numbers(pattern: Path) -> list[int]:
    """Return the numbers of the files that match a pattern such as ``out%06d.png``, in order. Raises
    InputError."""
    before, _, rest = pattern.name.partition("%")
    width, found, after = rest.partition("d")
    if not found or (width and not width.isdigit()) or "%" in after:
        raise InputError(f"cannot use {pattern.name!r} as a sequence; write it like out%06d.png")
    numbers = []
    for path in pattern.parent.glob(f"{_literal(before)}*{_literal(after)}"):
        digits = path.name.removeprefix(before).removesuffix(after)
        if digits.isascii() and digits.isdigit() and path.name == pattern.name % int(digits):
            numbers.append(int(digits))
    return sorted(numbers)


def _literal(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _open_sequence(path: Path, rate: Fraction) -> Any:
    numbers = sequence_numbers(path)
    if not numbers:
        raise InputError(f"no file is named like {path}; check folder and pattern")
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        raise InputError(
            f"{path.parent / (path.name % missing[0])} is missing ({len(missing)} of "
            f"{numbers[-1] - numbers[0] + 1} pictures); number the pictures without gaps"
        )
    settings = {"framerate": str(rate), "start_number": str(numbers[0]), "pattern_type": "sequence"}
    folder = ffmpeg_name(path.parent).replace("%", "%%")  # of the whole name, FFmpeg replaces every number
    return _opened(str(Path(folder, path.name)), str(path), {"format": "image2", "options": settings})


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield packets of the streams (all, if none is named), with an empty one for each at the end.

    Streams that begin in the middle of a damaged or joined file are left out: PyAV does not know them, and
    fails on them after the last empty packet.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        return


def is_cover(stream: Any) -> bool:
    """Return whether a stream is a still cover picture, as music files have."""
    return bool(stream.disposition & Disposition.attached_pic)


def picture_stream(container: Any, path: Path) -> Any:
    """Return the main video stream: the moving one that is marked as default, else the first.

    Raises InputError.
    """
    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [video for video in container.streams.video if not video.disposition & stills]
    if not moving:
        raise InputError(f"{path} has no video stream; give a video file")
    chosen = next((video for video in moving if video.disposition & Disposition.default), moving[0])
    if chosen.codec_context is None:
        raise InputError(f"{path} holds video of a kind that cannot be decoded; convert it first")
    return chosen


def pictures_of(container: Any, stream: Any) -> int:
    """Return the number of pictures in the index, 0 if unknown.

    AVI counts index entries, of which those for repeated frames are empty.
    """
    places = int(stream.frames)
    if container.format.name != "avi" or not places:
        return places
    taken: list[int] = [entry.timestamp for entry in stream.index_entries if entry.size > 0]
    waits = sorted(after - before for before, after in pairwise(taken)) or [1]
    if taken and taken[-1] + waits[-1] >= places:
        return len(taken)
    return round(places / max(1, waits[len(waits) // 2]))  # the index is damaged, or ends early


def seconds_of(container: Any, stream: Any) -> Fraction | None:
    """Return the duration in seconds, of the stream if known, else of the container."""
    if stream.duration is not None:
        return Fraction(stream.duration * stream.time_base)
    if (tagged := tagged_end(stream)) is not None:
        return tagged
    if container.duration is not None:
        return Fraction(container.duration, av.time_base)
    return None


def tagged_end(stream: Any) -> Fraction | None:
    """Return the end in Matroska's tag of one track (``00:00:01.602000000``), in seconds from 0."""
    try:
        return parse_time(stream.metadata["DURATION"])
    except (KeyError, InvalidArgument):
        return None


def end_of(container: Any, stream: Any) -> Fraction | None:
    """Return the time at which the picture ends according to the container, in seconds of its clock."""
    seconds = seconds_of(container, stream)
    if seconds is None or "matroska" in container.format.name:
        return seconds  # Matroska's duration counts from 0, wherever the first frame is
    return Fraction(container.start_time or 0, av.time_base) + seconds


def refuse_truncated(container: Any, stream: Any, path: Path) -> None:
    """Raise InputError if the file is shorter than its own index or duration says."""
    if is_pipe(path) or not path.is_file():
        return
    size = path.stat().st_size
    streams = (stream, *container.streams.audio)
    ends = [entry.pos + entry.size for each in streams for entry in each.index_entries]
    if max(ends, default=0) > size:
        raise InputError(
            f"{path} is truncated, or its index is damaged: it reaches to byte {max(ends):,}, the file "
            f"ends at {size:,}; copy or download it again"
        )
    if "matroska" in container.format.name:
        _refuse_short(path, stream.index)


def breaks_off(container: Any, path: Path) -> bool:
    """Return whether a transport stream ends within a packet: without an index, the only sign of
    truncation."""
    if container.format.name != "mpegts" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4 * 204)
    for offset, length in TRANSPORT_PACKETS:
        if len(head) >= 4 * length and all(head[offset + n * length] == SYNC for n in range(4)):
            return path.stat().st_size % length != 0
    return False


def _refuse_short(path: Path, index: int) -> None:
    """Raise InputError for truncated Matroska: its index does not show the end of the file, so read its last
    packets."""
    with open_input(path) as container:
        stream = container.streams[index]
        expected = end_of(container, stream)
        if expected is None:
            return
        found: Fraction | None = None
        try:
            container.seek(int((expected - 1) * av.time_base))
            for packet in packets_of(container, stream):
                if packet.pts is not None and packet.size:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    found = max(found or end, end)
        except av.FFmpegError:
            return  # reading will report it
    if found is not None and found < expected - PATIENCE:
        raise InputError(
            f"{path} is truncated: it ends at {float(found):.2f} s of {float(expected):.2f} s; "
            "copy or download it again, or give [option:end]"
        )
