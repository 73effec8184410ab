"""The encoder of an output: chosen by its name, the options and the source, with what it cannot keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mst_deploy.errors import OutputError
from mst_deploy.video.codecs import (
    CODECS,
    EncodeOptions,
    EncoderSettings,
    keeps_alpha,
    keeps_depth,
    settings_for,
)
from mst_deploy.video.color import BT2020_NC
from mst_deploy.video.containers import AV_CONTAINERS, goes_into_pipe, muxer_of, pipe_suffix
from mst_deploy.video.demuxing import is_sequence
from mst_deploy.video.encoding import coded_size, holds_mastering
from mst_deploy.video.info import VideoInfo


def encoder_settings(path: Path, source: VideoInfo, options: EncodeOptions) -> EncoderSettings:
    """Return codec, encoder and pixel format for this output. Raises OutputError, BackendError."""
    suffix = path.suffix.lower()
    if goes_into_pipe(path):
        suffix = pipe_suffix(path, options.codec)
    chosen = options.resolved(suffix, source.depth, source.decoder)
    if source.color.hdr and not keeps_depth(chosen):
        raise OutputError(
            f"{source.path} is HDR ({source.color.hdr}), and {chosen.codec} is written in 8 bits; "
            f"use {_deep_codecs(suffix)}[option:sdr]"
        )
    if source.color.hdr and not chosen.known.tags:
        raise OutputError(
            f"{source.path} is HDR ({source.color.hdr}), which y4m cannot say of itself; use "
            "[option:sdr], or a .mkv file"
        )
    assert chosen.codec is not None  # resolved
    muxer = "nut" if suffix == ".nut" else muxer_of(path, options.codec)
    alpha = source.alpha and keeps_alpha(chosen.codec, muxer)
    return settings_for(chosen, *coded_size(source), source.depth, alpha=alpha)


def _deep_codecs(suffix: str) -> str:
    """Return a description of the codecs that keep HDR in such a file."""
    if suffix == ".webm":
        return "[option:codec] av1, or "
    return (
        "[option:codec] hevc, or " if suffix in AV_CONTAINERS else "a .mkv file without [option:codec], or "
    )


def encoder_of(path: Path, source: VideoInfo, options: EncodeOptions) -> str:
    """Return the name of the encoder of this output. Raises OutputError, BackendError."""
    if is_sequence(path):
        return path.suffix[1:].lower()
    muxer_of(path, options.codec)  # refuses a suffix that nothing is written to
    return encoder_settings(path, source, options).encoder


def losses_of_coding(coding: EncoderSettings, source: VideoInfo) -> Iterator[str]:
    """Yield descriptions of what the encoder cannot keep of the picture."""
    if source.depth > 8 and CODECS[coding.codec].deep is None:
        yield f"{source.depth}-bit color ({coding.codec} is written in 8 bits; hevc and av1 keep 10)"
    if source.alpha and not coding.alpha:
        yield f"transparency ({coding.codec} in this file has none; vp9 in .webm and prores in .mov do)"
    if not CODECS[coding.codec].tags and source.color.primaries == BT2020_NC:
        yield "the primaries of BT.2020 (y4m cannot name them)"
    if source.mastering is not None and not holds_mastering(coding):
        yield f"data on the mastering display ({coding.encoder} cannot be given it)"
    if coding.codec in ("gif", "webp", "raw") and source.sample_aspect_ratio != 1:
        yield f"pixels that are not square ({source.sample_aspect_ratio})"
    if coding.codec == "gif":
        yield "times (gif counts hundredths of a second) and all but 256 colors a frame"
