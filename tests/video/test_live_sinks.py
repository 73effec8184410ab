"""Live sinks, each with another program's reader at the other end, or a double of what is not here."""

from __future__ import annotations

import http.client
import io
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import av
import numpy as np
import pytest

from mst_deploy.errors import InvalidArgument, MissingDependency, OutputError
from mst_deploy.images import decode_image
from mst_deploy.video import live_encoding, mjpeg
from mst_deploy.video.capture import TestPattern
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.info import Frame
from mst_deploy.video.live_displays import find_player
from mst_deploy.video.live_sink import SinkSettings
from mst_deploy.video.live_sinks import open_live_sink
from mst_deploy.video.live_source import Picture, SinkClosed, scheme_of
from mst_deploy.video.mjpeg import MjpegSink, parse_address
from mst_deploy.video.sinks import interrupted_name
from tests.ports import free_port

PATTERN = TestPattern("test:176x96")
SETTINGS = SinkSettings(176, 96, Fraction(25))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before)


def until(condition: Any, patience: float = 30.0) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < patience, "did not happen"
        time.sleep(0.005)


def frame(number: int, step: int = 3600) -> Frame:
    return Frame(PATTERN.image(number), step * number, 0, time.monotonic())


def write_all(sink: Any, images: list[Any]) -> None:
    for number, image in enumerate(images):
        sink.write(Frame(image, 3600 * number, 0, 0.0))


def counters(file: Any, **how: Any) -> list[int | None]:
    """What is read off the frames of a file, and that their times grow."""
    with av.open(file, **how) as container:
        frames = list(container.decode(video=0))
    times = [each.pts for each in frames if each.pts is not None]
    assert times == sorted(set(times))
    return [read_counter(Picture(0.0, each).rgb()) for each in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = open_live_sink(str(path), SETTINGS)
    for number in range(20):
        sink.write(frame(number))
        assert not path.exists()
    sink.finish()
    assert sink.written == 20
    assert counters(path) == list(range(20))
    with av.open(path) as container:
        times = [float((each.pts or 0) * (each.time_base or 0)) for each in container.decode(video=0)]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_colors_and_size_of_a_file(tmp_path: Path) -> None:
    """A frame of another size is scaled; colors come back as BT.709 says."""
    path = tmp_path / "out.mp4"
    sink = open_live_sink(str(path), SETTINGS)
    image = np.zeros((192, 352, 3), np.uint8)
    image[:, :176], image[:, 176:] = (200, 40, 60), (20, 120, 220)
    for number in range(5):
        sink.write(Frame(image, 3600 * number, 0, 0.0))
    sink.finish()
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        last = list(container.decode(video=0))[-1]
        assert (context.width, context.height, int(last.colorspace), int(last.color_range)) == (176, 96, 1, 1)
    shown = last.reformat(format="rgb24", src_colorspace=1, dst_colorspace=1).to_ndarray()
    np.testing.assert_allclose(shown[48, 40], (200, 40, 60), atol=5)
    np.testing.assert_allclose(shown[48, 140], (20, 120, 220), atol=5)


def test_what_a_crash_leaves_plays(tmp_path: Path) -> None:
    """An mp4 without its end, as after kill -9: all but the last second is there."""
    path = tmp_path / "out.mp4"
    sink = open_live_sink(str(path), SETTINGS)
    for number in range(80):
        sink.write(frame(number))
    left = tmp_path / "left.mp4"
    left.write_bytes(interrupted_name(path).read_bytes())
    found = counters(left)
    assert found == list(range(len(found)))
    assert len(found) >= 50
    sink.abandon(OutputError("enough"))
    assert not path.exists()
    assert counters(interrupted_name(path))[:50] == list(range(50))


def test_key_frames_come_by_the_clock(tmp_path: Path) -> None:
    """One each second, whatever the number of frames; none is held back."""
    for step in (3600, 36000):  # 25 and 2.5 frames a second
        path = tmp_path / f"{step}.ts"
        sink = open_live_sink(str(path), SETTINGS)
        for number in range(90000 * 4 // step):
            sink.write(frame(number, step))
        sink.finish()
        with av.open(path) as container:
            packets = [each for each in container.demux(video=0) if each.pts is not None]
        keys = [float((each.pts or 0) * each.time_base) for each in packets if each.is_keyframe]
        np.testing.assert_allclose(np.diff(keys), 1.0, atol=0.41)
        assert len(keys) == 4
        assert all(each.pts == each.dts for each in packets)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists; overwrite it with force"):
        open_live_sink(str(path), SETTINGS)
    assert path.read_bytes() == b"mine"
    sink = open_live_sink(str(path), SinkSettings(176, 96, Fraction(25), force=True))
    sink.write(frame(3))
    assert path.read_bytes() == b"mine"
    sink.finish()
    assert counters(path) == [3]
    with pytest.raises(OutputError, match="does not exist; make it first"):
        open_live_sink(str(tmp_path / "no" / "out.mp4"), SETTINGS)


@pytest.mark.parametrize("name", ["out.avi", "out", "srt://host:1", "http://127.0.0.1:1", "camera"])
def test_unknown_sinks_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="known are: window"):
        open_live_sink(name, SETTINGS)


def test_udp_is_read_by_pyav() -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    found: list[int | None] = []

    def receive() -> None:
        with av.open(address, format="mpegts", timeout=(20, 3), options={"fpsprobesize": "1"}) as container:
            for each in container.decode(video=0):
                found.append(read_counter(Picture(0.0, each).rgb()))
                if len(found) == 10:
                    return

    receiver = threading.Thread(target=receive)
    receiver.start()
    sink = open_live_sink(address, SETTINGS)
    number = 0
    while receiver.is_alive() and number < 1000:
        sink.write(frame(number))
        number += 1
        time.sleep(0.02)
    receiver.join()
    sink.finish()
    assert found == list(range(found[0] or 0, (found[0] or 0) + 10))
    with pytest.raises(InvalidArgument, match="write udp://HOST:PORT"):
        open_live_sink("udp://127.0.0.1", SETTINGS)


def test_udp_without_a_receiver_is_no_error() -> None:
    sink = open_live_sink(f"udp://127.0.0.1:{free_port()}", SETTINGS)
    for number in range(10):
        sink.write(frame(number))
    sink.finish()


def test_tcp_is_read_by_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = open_live_sink(f"tcp://127.0.0.1:{server.getsockname()[1]}", SETTINGS)
        connection, _ = server.accept()
    for number in range(20):
        sink.write(frame(number))
    sink.finish()
    with connection, connection.makefile("rb") as stream:
        assert counters(io.BytesIO(stream.read()), format="mpegts") == list(range(20))


def test_a_tcp_peer_that_takes_nothing_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_encoding, "BLOCKED", 0.3)
    with pytest.raises(OutputError, match="check the address, and that the other end listens"):
        open_live_sink(f"tcp://127.0.0.1:{free_port()}", SETTINGS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = SinkSettings(640, 480, Fraction(25))
        sink = open_live_sink(f"tcp://127.0.0.1:{server.getsockname()[1]}", settings)
        connection, _ = server.accept()
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
        with pytest.raises(OutputError, match="takes nothing more"):
            write_all(sink, [noise] * 1000)  # until the buffers of both ends are full
        connection.close()
        sink.abandon(OutputError("gone"))


def test_a_tcp_peer_that_goes_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = open_live_sink(f"tcp://127.0.0.1:{server.getsockname()[1]}", SETTINGS)
        server.accept()[0].close()
        with pytest.raises(OutputError, match=r"takes nothing more \((Connection reset|Broken pipe)"):
            write_all(sink, [PATTERN.image(number) for number in range(100)])
        sink.abandon(OutputError("gone"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_disk_that_is_full(tmp_path: Path, suffix: str) -> None:
    """The file is written to a device without space, through the name of an unfinished one."""
    path = tmp_path / f"out{suffix}"
    interrupted_name(path).symlink_to("/dev/full")

    def fill() -> None:
        sink = open_live_sink(str(path), SETTINGS)
        try:
            write_all(sink, [PATTERN.image(number) for number in range(100)])
        finally:
            sink.abandon(OutputError("the disk is full"))

    with pytest.raises(OutputError, match="No space left on device"):
        fill()
    assert not path.exists()


RTMP_READER = """
import sys, av
from mst_deploy.video.counter_bars import read_counter
print("listening", flush=True)
with av.open(sys.argv[1], options={"listen": "1", "fpsprobesize": "1"}) as container:
    for number, each in enumerate(container.decode(video=0)):
        print(read_counter(each.to_ndarray(format="rgb24")), flush=True)
        if number == 9:
            break
"""


def test_rtmp_is_read_by_pyav_in_another_process() -> None:
    address = f"rtmp://127.0.0.1:{free_port()}/live/key"
    command = [sys.executable, "-c", RTMP_READER, address]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "listening\n"
    sink: Any = None
    started = time.monotonic()
    while sink is None:
        try:
            sink = open_live_sink(address, SETTINGS)
        except OutputError:
            assert time.monotonic() - started < 30
            time.sleep(0.1)
    number = 0
    while reader.poll() is None and number < 1500:
        try:
            sink.write(frame(number))
        except OutputError:
            break  # the reader has what it wants
        number += 1
        time.sleep(0.01)
    sink.abandon(OutputError("over"))
    found = [int(line) for line in reader.stdout.read().split()]
    reader.stdout.close()
    assert reader.wait(20) == 0
    assert found == list(range(found[0], found[0] + 10))


# MJPEG


@pytest.fixture
def server() -> Iterator[MjpegSink]:
    sink = open_live_sink("mjpeg:0", SETTINGS)
    assert isinstance(sink, MjpegSink)
    yield sink
    sink.finish()


def part(stream: Any) -> int | None:
    """The counter in the next picture of a stream; None at its end."""
    length = 0
    while line := stream.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        if line == b"\r\n" and length:
            return read_counter(decode_image(stream.read(length), "a part"))
    return None


def test_mjpeg_is_read_by_urllib(server: MjpegSink) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=mst-frame"
        for number in range(5):
            server.write(frame(number))
            assert part(stream) == number
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/snapshot.jpg", timeout=20) as still:
            assert read_counter(decode_image(still.read(), "the snapshot")) == 4
        server.finish()
        assert part(stream) is None


def test_a_reader_gets_the_newest_picture(server: MjpegSink) -> None:
    for number in range(5):
        server.write(frame(number))
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
        assert part(stream) == 4


def test_a_reader_that_takes_nothing_delays_nobody(
    server: MjpegSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mjpeg._Handler, "timeout", 0.5)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", server.port))
        lazy.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as stream:
            noise = np.random.default_rng(0).integers(0, 256, (96, 176, 3)).astype(np.uint8)
            until(lambda: len(server.server.connections) == 2)
            number, started = 0, time.monotonic()
            while len(server.server.connections) == 2:  # until the lazy one is sent away
                assert time.monotonic() - started < 60
                image = noise.copy()
                image[:48] = PATTERN.image(number)[:48]
                server.write(Frame(image, 0, 0, 0.0))
                assert part(stream) == number
                number += 1
            server.write(frame(0))
            assert part(stream) == 0


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 404), ("localhost:8000", 404), ("[::1]:1", 404), ("evil.test", 403), ("", 403)],
)
def test_other_host_names_and_paths(server: MjpegSink, host: str, status: int) -> None:
    """A page elsewhere whose name points to 127.0.0.1 must not see the camera."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("GET", "/nothing" if status == 404 else "/", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_port_that_is_taken(server: MjpegSink) -> None:
    with pytest.raises(OutputError, match=f"choose another port: mjpeg:{server.port + 1}"):
        open_live_sink(f"mjpeg:{server.port}", SETTINGS)


def test_addresses_of_mjpeg() -> None:
    assert parse_address("mjpeg:8000") == ("127.0.0.1", 8000)
    assert parse_address("mjpeg:0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("mjpeg:[::1]:80") == ("::1", 80)
    for wrong in ("mjpeg:", "mjpeg:x", "mjpeg:70000", "mjpeg"):
        with pytest.raises(InvalidArgument, match="write mjpeg:PORT"):
            parse_address(wrong)


# Window and virtual camera, by their doubles


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


def test_schemes() -> None:
    assert [scheme_of(name) for name in ("UDP://a:1", "a.mp4", "mjpeg:1", "c:/x.mp4")] == ["udp", "", "", ""]
