"""Live sinks that show raw frames: a window of a player, a virtual camera."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import Any

from mst_deploy.errors import MissingDependency, OutputError
from mst_deploy.video.info import Image
from mst_deploy.video.live_sink import LiveSinkBase, SinkSettings
from mst_deploy.video.live_source import SinkClosed

VIRTUAL_CAMERA_HELP = (
    "there is no virtual camera; on Linux make one with: sudo modprobe v4l2loopback exclusive_caps=1 "
    "card_label=mst; on Windows and macOS install OBS and start its virtual camera once"
)
PLAYERS = {
    "ffplay": "ffplay -hide_banner -loglevel error -fflags nobuffer -flags low_delay -framedrop "
    "-probesize 32 -f rawvideo -pixel_format rgb24 -video_size {width}x{height} -framerate {rate} "
    "-window_title mst -i -",
    "mpv": "mpv -really-quiet -profile=low-latency -untimed -cache=no -title=mst -demuxer=rawvideo "
    "-demuxer-rawvideo-w={width} -demuxer-rawvideo-h={height} -demuxer-rawvideo-fps={rate} "
    "-demuxer-rawvideo-mp-format=rgb24 -",
}
"""Programs that show raw frames from their standard input, best first."""


class WindowSink(LiveSinkBase):
    """A window of ffplay or mpv, which receive raw frames. Closing the window ends the sink."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(name, settings)
        player = find_player()
        if player is None:
            raise OutputError(
                "a window needs ffplay (part of FFmpeg) or mpv; install one of them, "
                "or use another sink: mjpeg:8000 shows the result in a browser"
            )
        line = PLAYERS[player].format(
            width=settings.width, height=settings.height, rate=f"{float(settings.rate):g}"
        )
        self.player = player
        self.process = subprocess.Popen(
            line.split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )  # Ctrl-C is ours alone, so that the window is closed after the last frame

    def send(self, image: Image, pts: int) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(image.tobytes())
            self.process.stdin.flush()
        except OSError:
            code = self.process.wait()
            said = self.process.stderr.read().decode(errors="replace").strip() if self.process.stderr else ""
            self.finish()
            if code:
                raise OutputError(
                    f"{self.player} has ended ({said.splitlines()[-1] if said else code})"
                ) from None
            raise SinkClosed("the window was closed") from None

    def finish(self) -> None:
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.terminate()
            self.process.wait(2)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class VirtualCameraSink(LiveSinkBase):
    """A camera that other programs can choose, through pyvirtualcam."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        super().__init__(name, settings)
        try:
            import pyvirtualcam
        except ModuleNotFoundError as error:
            raise MissingDependency("pyvirtualcam", "live", "virtual-camera") from error
        device = name.partition(":")[2] or None
        try:
            self.camera: Any = pyvirtualcam.Camera(
                settings.width, settings.height, float(settings.rate), device=device
            )
        except (RuntimeError, OSError, ValueError) as error:
            first = str(error).strip().splitlines()
            raise OutputError(f"{VIRTUAL_CAMERA_HELP} ({first[0] if first else name})") from error
        self.hint = f"choose the camera {self.camera.device} in the other program (OBS: Sources, +, camera)"

    def send(self, image: Image, pts: int) -> None:
        try:
            self.camera.send(image)
        except (RuntimeError, OSError) as error:
            raise OutputError(f"the virtual camera takes nothing more ({error})") from error

    def finish(self) -> None:
        self.camera.close()


def find_player() -> str | None:
    """Return the program that can show a window here; None without such a program or a display."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return next((player for player in PLAYERS if shutil.which(player)), None)
