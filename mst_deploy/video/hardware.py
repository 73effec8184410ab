"""NVIDIA's video decoder and encoder through PyAV: availability, and the modes of ``hwaccel``.

``off`` never uses them. ``on`` uses them or raises an error. ``auto`` uses them where they can do the job,
else software; which one was used is part of the result.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import av
from av.codec.hwaccel import HWAccel

from mst_deploy.errors import BackendError
from mst_deploy.video.options import check_hwaccel


@cache
def device_opens() -> bool:
    """Return whether a CUDA device can be opened for decoding."""
    try:
        codec = av.Codec("h264", "r")
        HWAccel("cuda").create(codec)
    except (av.FFmpegError, NotImplementedError, ValueError):
        return False
    return True


@cache
def encoder_opens(name: str, pix_fmt: str) -> bool:
    """Return whether an encoder starts on this machine, by trying it: FFmpeg lists all that it was built
    with."""
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = 256, 256, pix_fmt
        context.time_base = Fraction(1, 25)
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def decoding(mode: str) -> HWAccel | None:
    """Return the hardware decoder to open a file with; None means software. Raises BackendError for ``on``
    without hardware."""
    check_hwaccel(mode)
    if mode == "off":
        return None
    if device_opens():
        return HWAccel("cuda", allow_software_fallback=mode == "auto")
    if mode == "on":
        raise BackendError(
            "[option:hwaccel] on needs an NVIDIA GPU with its driver, and none could be opened; use "
            "[option:hwaccel] auto or [option:hwaccel] off"
        )
    return None


def use_encoder(mode: str, name: str | None, pix_fmt: str) -> bool:
    """Return whether to encode with a hardware encoder. Raises BackendError for ``on`` where it does not
    start."""
    check_hwaccel(mode)
    if mode == "off":
        return False
    if name is not None and encoder_opens(name, pix_fmt):
        return True
    if mode == "on":
        what = "this codec has no hardware encoder" if name is None else f"{name} does not start ({pix_fmt})"
        raise BackendError(
            f"[option:hwaccel] on: {what} on this machine; use [option:hwaccel] auto, "
            "[option:hwaccel] off or another [option:codec]"
        )
    return False
