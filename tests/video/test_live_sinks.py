"""Live sinks for files and networks, each with another program's reader at the other end."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.video import live_encoding
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.info import Frame
from mst_deploy.video.live_sink import SinkSettings
from mst_deploy.video.live_sinks import open_live_sink
from mst_deploy.video.live_source import Picture, scheme_of
from mst_deploy.video.sinks import interrupted_name
from tests.ports import free_port
from tests.video.live_frames import PATTERN, SETTINGS, frame, write_all

pytestmark = pytest.mark.usefixtures("threads_end")


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


def test_schemes() -> None:
    assert [scheme_of(name) for name in ("UDP://a:1", "a.mp4", "mjpeg:1", "c:/x.mp4")] == ["udp", "", "", ""]
