"""Windows and virtual cameras, by doubles of the player and of pyvirtualcam."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from mst_deploy.errors import MissingDependency, OutputError
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.live_displays import find_player
from mst_deploy.video.live_sinks import open_live_sink
from mst_deploy.video.live_source import SinkClosed
from tests.video.live_frames import PATTERN, SETTINGS, frame, until, write_all

pytestmark = pytest.mark.usefixtures("threads_end")


def player(folder: Path, code: str) -> None:
    program = folder / "ffplay"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code}\n", "utf-8")
    program.chmod(0o755)


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if sys.platform == "win32":
        pytest.skip("the double is a script")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_window_gets_raw_frames(screen: Path) -> None:
    """Not a real window: a program called ffplay that keeps its input and its arguments."""
    player(
        screen,
        f"open({str(screen / 'arguments')!r}, 'w').write(' '.join(sys.argv))\n"
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(screen / 'raw')!r}, 'wb').write(sys.stdin.buffer.read())",
    )
    assert find_player() == "ffplay"
    sink = open_live_sink("window", SETTINGS)
    for number in range(3):
        sink.write(frame(number))
    until(lambda: (screen / "arguments").exists() and (screen / "arguments").read_text())
    time.sleep(0.2)
    sink.finish()
    until(lambda: (screen / "raw").exists())
    raw = np.frombuffer((screen / "raw").read_bytes(), np.uint8).reshape(-1, 96, 176, 3)
    assert [read_counter(image) for image in raw] == [0, 1, 2]
    assert "-pixel_format rgb24 -video_size 176x96 -framerate 25" in (screen / "arguments").read_text()


def test_a_window_that_is_closed_and_one_that_breaks(screen: Path) -> None:
    player(screen, "sys.stdin.buffer.read(10)")
    sink = open_live_sink("window", SETTINGS)
    with pytest.raises(SinkClosed, match="the window was closed"):
        write_all(sink, [PATTERN.image(0)] * 100)
    player(screen, "print('no such option', file=sys.stderr); sys.exit(3)")
    sink = open_live_sink("window", SETTINGS)
    with pytest.raises(OutputError, match=r"ffplay has ended \(no such option\)"):
        write_all(sink, [PATTERN.image(0)] * 100)


def test_without_a_player_or_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(OutputError, match=r"needs ffplay .* or mpv; install one of them"):
        open_live_sink("window", SETTINGS)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert find_player() == "ffplay"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert find_player() is None


class Camera:
    """pyvirtualcam's class, as far as it is used."""

    made: ClassVar[list[Camera]] = []
    missing = False

    def __init__(self, width: int, height: int, fps: float, *, device: str | None = None) -> None:
        if self.missing:
            raise RuntimeError("'v4l2loopback' backend: No v4l2 loopback devices found\nmore")
        self.size, self.fps, self.device = (width, height), fps, device or "/dev/video9"
        self.sent: list[Any] = []
        self.closed = False
        self.made.append(self)

    def send(self, image: Any) -> None:
        assert image.shape == (self.size[1], self.size[0], 3)
        assert image.flags.c_contiguous
        self.sent.append(image)

    def close(self) -> None:
        self.closed = True


def test_a_virtual_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a real device: a double of pyvirtualcam."""
    module = ModuleType("pyvirtualcam")
    module.Camera = Camera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    sink: Any = open_live_sink("virtual-camera:/dev/video3", SETTINGS)
    for number in range(3):
        sink.write(frame(number))
    sink.finish()
    (camera,) = Camera.made
    assert (camera.size, camera.fps, camera.device, camera.closed) == ((176, 96), 25.0, "/dev/video3", True)
    assert [read_counter(image) for image in camera.sent] == [0, 1, 2]
    assert "/dev/video3" in sink.hint
    monkeypatch.setattr(Camera, "missing", True)
    with pytest.raises(OutputError, match="sudo modprobe v4l2loopback exclusive_caps=1") as refused:
        open_live_sink("virtual-camera", SETTINGS)
    assert "\n" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingDependency, match=r"pip install 'mst-deploy\[live\]'"):
        open_live_sink("virtual-camera", SETTINGS)
