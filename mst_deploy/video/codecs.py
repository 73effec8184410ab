"""Codecs of results: encoders, their pixel formats and their scales of quality."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.options import VIDEO, Option
from mst_deploy.video.options import Hwaccel, check_hwaccel, check_sound

# SVT-AV1 writes to the terminal unless its environment variable forbids it.
os.environ.setdefault("SVT_LOG", "1")


@dataclass(frozen=True)
class Codec:
    """An encoder, how it stores pixels, and its scale of constant quality."""

    encoder: str
    default_crf: int | None = None
    """Default constant quality; None: the encoder has no such setting."""
    largest_crf: int = 0
    plain: str = "yuv420p"
    odd: str = "yuv444p"
    """Pixel format for odd sizes, which 4:2:0 cannot hold."""
    deep: str | None = None
    """Pixel format for sources of more than 8 bits; None: 8 bits are written."""
    deep_odd: str | None = None
    hardware: str | None = None
    """Name of NVIDIA's encoder."""
    smallest: int = 1
    """Shortest side in pixels."""
    bitrate: bool = True
    """Whether a bit rate can be set."""
    full_range: bool = True
    """Whether it can store full range (0..255); else its output is always read as limited range."""
    tags: bool = True
    """Whether it can store color tags; else readers assume the usual ones."""
    alpha: str | None = None
    """Pixel format for transparent frames; None: not supported."""
    alpha_muxers: tuple[str, ...] = ()
    """FFmpeg's muxers that keep its alpha channel."""


CODECS = {
    "h264": Codec("libx264", 18, 51, hardware="h264_nvenc"),
    "hevc": Codec(
        "libx265", 20, 51, deep="yuv420p10le", deep_odd="yuv444p10le", hardware="hevc_nvenc", smallest=16
    ),
    "av1": Codec(
        "libsvtav1",
        24,
        63,
        odd="yuv420p",
        deep="yuv420p10le",
        deep_odd="yuv420p10le",
        hardware="av1_nvenc",
        smallest=8,
    ),
    "vp9": Codec("libvpx-vp9", 24, 63, alpha="yuva420p", alpha_muxers=("webm", "matroska")),
    "prores": Codec(
        "prores_ks",
        plain="yuv422p10le",
        odd="yuv444p10le",
        deep="yuv422p10le",
        deep_odd="yuv444p10le",
        bitrate=False,
        full_range=False,
        alpha="yuva444p10le",
        alpha_muxers=("mov", "matroska"),
    ),
    "ffv1": Codec(
        "ffv1",
        plain="yuv444p",
        deep="yuv444p10le",
        deep_odd="yuv444p10le",
        bitrate=False,
        alpha="yuva444p",
        alpha_muxers=("matroska", "nut"),
    ),
    "gif": Codec("gif", plain="pal8", odd="pal8", bitrate=False, alpha="pal8", alpha_muxers=("gif",)),
    "webp": Codec(
        "libwebp_anim", plain="bgra", odd="bgra", bitrate=False, alpha="bgra", alpha_muxers=("webp",)
    ),
    "png": Codec("png", plain="rgb24", odd="rgb24", bitrate=False),
    "raw": Codec(
        "wrapped_avframe",
        odd="yuv444p",
        deep="yuv420p10le",
        deep_odd="yuv444p10le",
        bitrate=False,
        tags=False,
    ),
}
"""Codecs by the name that a user gives. The default qualities are visually lossless."""

ONLY_CODEC = {".gif": "gif", ".webp": "webp", ".png": "png", ".y4m": "raw"}
"""Suffixes of files that hold only one codec."""
PRORES_SUFFIXES = (".mov", ".mkv")
"""Suffixes of files in which ProRes stays ProRes."""
USUAL_CODEC = {**ONLY_CODEC, ".webm": "vp9"}


def parse_bitrate(text: str) -> int:
    """Parse ``800k``, ``4M`` or plain bits per second to bits per second. Raises InvalidArgument."""
    number, unit = (text[:-1], text[-1:].lower()) if text[-1:].isalpha() else (text, "")
    try:
        rate = int(float(number) * {"": 1, "k": 1000, "m": 1000_000, "g": 1000_000_000}[unit])
    except (ValueError, KeyError, OverflowError):
        rate = 0
    if not 1000 <= rate < 2**31:
        raise InvalidArgument(
            field="bitrate",
            problem=f"cannot use {text!r} as a bit rate: give bits a second, with k or M (800k, 4M)",
        )
    return rate


@dataclass(frozen=True)
class EncodeOptions:
    """Options of the output's encoding."""

    codec: Annotated[
        str | None,
        Option(
            "h264, hevc, av1, vp9, prores, ffv1 or raw. Default: h264, hevc for more than 8 bits, prores for "
            "ProRes in .mov and .mkv.",
            VIDEO,
        ),
    ] = None
    """Codec; None: the one of the output's suffix, else ProRes for ProRes, H.264, or HEVC for more
    than 8 bits."""
    crf: Annotated[
        int | None, Option("Coding quality; lower is better and larger. Default: no visible loss.", VIDEO)
    ] = None
    """Constant rate factor: lower is better and larger. None means the codec's default."""
    bitrate: Annotated[
        int | None,
        Option("Bits a second in place of a quality: 800k, 4M.", VIDEO, parse=parse_bitrate),
    ] = None
    """Bits per second, instead of a constant quality."""
    hwaccel: Hwaccel = "off"
    """NVIDIA's encoder: off, on, or auto (where it starts)."""
    audio: Annotated[
        str | None,
        Option(
            "Sound: copy, none, or encoded as aac, opus or flac. Default: copy; what no container takes is "
            "encoded.",
            VIDEO,
        ),
    ] = None
    """Sound: copy, none, or a codec to encode it in. None copies it, and encodes sound that no container
    takes."""
    subtitles: Annotated[str, Option("Subtitles: copy or none.", VIDEO)] = "copy"
    """Subtitles: copy or none."""

    def __post_init__(self) -> None:
        check_hwaccel(self.hwaccel)
        check_sound(self.audio, self.subtitles)
        if self.crf is not None and self.bitrate is not None:
            raise InvalidArgument(
                field="crf",
                problem="[option:crf] and [option:bitrate] contradict each other",
                hint="give one of them",
            )
        if self.codec is not None:
            _check_quality(self.codec, self.crf, self.bitrate)

    def resolved(self, suffix: str, depth: int, decoder: str = "") -> EncodeOptions:
        """Return the same options with a codec, for a file of this suffix and sources of this many bits that
        are read with a decoder.

        Raises InvalidArgument.
        """
        only = ONLY_CODEC.get(suffix)
        if self.codec is not None and only not in (None, self.codec):
            raise InvalidArgument(
                field="codec",
                problem=f"{suffix} files hold {only} alone",
                hint=f"leave [option:codec] {self.codec} out",
            )
        if self.codec in ONLY_CODEC.values() and only is None:
            raise InvalidArgument(
                field="codec",
                problem=f"[option:codec] {self.codec} cannot be written into a {suffix or 'nameless'} file",
            )
        usual = USUAL_CODEC.get(suffix, "hevc" if depth > 8 else "h264")
        if decoder == "prores" and suffix in PRORES_SUFFIXES:
            usual = "prores"
        return replace(self, codec=self.codec or usual)

    @property
    def known(self) -> Codec:
        """Return the codec's entry; H.264's where none was chosen."""
        return CODECS[self.codec or "h264"]

    @property
    def encoder(self) -> str:
        """Return FFmpeg's name of the software encoder."""
        return self.known.encoder


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of an encoder for one stream."""

    codec: str
    encoder: str
    pix_fmt: str
    hardware: bool
    crf: int | None
    bitrate: int | None
    alpha: bool = False
    """Whether transparency is written."""

    @property
    def options(self) -> dict[str, str]:
        """Return the encoder's options for quality."""
        if self.bitrate is not None:
            return {}
        if self.codec == "webp":
            return {"quality": "90", "loop": "0"}
        if self.codec == "prores":
            return {"profile": "4444" if "444" in self.pix_fmt else "hq"}
        if self.crf is None:
            return {}
        return {"rc": "vbr", "cq": str(self.crf)} if self.hardware else {"crf": str(self.crf)}


def settings_for(
    options: EncodeOptions, width: int, height: int, depth: int, *, alpha: bool = False
) -> EncoderSettings:
    """Return encoder and pixel format for frames of one size. Raises OutputError, BackendError."""
    from mst_deploy.video.hardware import use_encoder  # here, because it loads PyAV

    assert options.codec is not None  # resolved before
    codec = CODECS[options.codec]
    if min(width, height) < codec.smallest:
        raise OutputError(
            f"{options.codec} cannot hold {width}x{height}, a side needs {codec.smallest} pixels; "
            "use another [option:codec] (h264, in .webm vp9), or a larger [option:size]"
        )
    odd = bool(width % 2 or height % 2)
    pix_fmt = codec.odd if odd else codec.plain
    if depth > 8:
        pix_fmt = (codec.deep_odd if odd else codec.deep) or pix_fmt
    alpha = alpha and codec.alpha is not None
    if alpha and codec.alpha is not None:
        pix_fmt = "yuva444p10le" if depth > 8 and codec.alpha == "yuva444p" else codec.alpha
    card = {"yuv420p10le": "p010le"}.get(pix_fmt, pix_fmt)
    hardware = use_encoder(options.hwaccel, codec.hardware, card)
    return EncoderSettings(
        codec=options.codec,
        encoder=codec.hardware if hardware and codec.hardware else codec.encoder,
        pix_fmt=card if hardware else pix_fmt,
        hardware=hardware,
        crf=codec.default_crf if options.crf is None else options.crf,
        bitrate=options.bitrate,
        alpha=alpha and not hardware,
    )


def keeps_depth(options: EncodeOptions) -> bool:
    """Return whether the codec stores more than 8 bits."""
    return options.known.deep is not None


def keeps_alpha(codec: str, muxer: str) -> bool:
    """Return whether transparency is kept in such a file."""
    return muxer in CODECS[codec].alpha_muxers


def segment_suffix(options: EncodeOptions, *, alpha: bool = False) -> str:
    """Return the suffix for parts of a job: a container that keeps exact times and holds the codec. Raises
    InvalidArgument.

    Transparent VP9 needs Matroska, and is joined into such a file.
    """
    if alpha and options.codec == "vp9":
        return ".mkv"
    if options.codec in ONLY_CODEC.values():
        raise InvalidArgument(
            field="codec",
            problem=f"[option:codec] {options.codec} is written in one piece and cannot be resumed",
        )
    return {"ffv1": ".nut", "prores": ".mov"}.get(options.codec or "", ".mp4")


def codec_of(path: Path, options: EncodeOptions) -> str | None:
    """Return the codec that was requested, or the only one that this kind of file holds."""
    return options.codec or ONLY_CODEC.get(path.suffix.lower())


def _check_quality(name: str, crf: int | None, bitrate: int | None) -> None:
    if name not in CODECS:
        raise InvalidArgument(
            field="codec", problem=f"unknown codec {name!r}", hint=f"choose one of {', '.join(CODECS)}"
        )
    codec = CODECS[name]
    if crf is not None and codec.default_crf is None:
        lossless = "is lossless and " if name in ("ffv1", "png", "raw") else ""
        raise InvalidArgument(
            field="crf", problem=f"{name} {lossless}has no crf", hint="leave [option:crf] out"
        )
    if crf is not None and not 0 <= crf <= codec.largest_crf:
        raise InvalidArgument(
            field="crf", problem=f"crf of {name} must be between 0 and {codec.largest_crf}, got {crf}"
        )
    if bitrate is not None and not codec.bitrate:
        raise InvalidArgument(
            field="bitrate", problem=f"{name} takes no bit rate", hint="leave [option:bitrate] out"
        )
