"""Live sources: the test picture, files, networks with PyAV at the other end, devices by a double."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.video import devices as device_module
from mst_deploy.video import live_streams
from mst_deploy.video.capture import TestPattern, open_live_source
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.devices import Device, device_address, devices
from mst_deploy.video.live_source import CaptureOptions, LiveSourceBase, Picture, hidden, live_info
from mst_deploy.video.live_streams import Returning
from tests.ports import free_port


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_the_test_picture_keeps_time() -> None:
    with open_live_source("test:96x64@100") as source:
        assert (source.info.width, source.info.height, source.info.rate) == (96, 64, Fraction(100))
        started = time.monotonic()
        pictures = list(islice(source.pictures(), 12))
        assert time.monotonic() - started >= 11 / 100 - 0.001, "it does not run ahead"
    numbers = [read_counter(picture.rgb()) for picture in pictures]
    for one, two in pairwise(zip(numbers, pictures, strict=True)):
        assert one[0] is not None
        assert two[0] is not None
        assert two[1].captured - one[1].captured == pytest.approx((two[0] - one[0]) / 100)
    assert isinstance(source, TestPattern)
    assert [source.shown[number or 0] for number in numbers] == [each.captured for each in pictures]


def test_the_test_picture_skips_what_it_could_not_show_in_time() -> None:
    with open_live_source("test:96x64@100") as source:
        pictures = source.pictures()
        first = read_counter(next(pictures).rgb())
        time.sleep(0.1)
        second = next(pictures)
        assert first is not None
        assert (read_counter(second.rgb()) or 0) - first >= 9
        assert time.monotonic() - second.captured < 5


def test_a_live_source_is_a_frame_source() -> None:
    with open_live_source("test:96x64@50") as source:
        frames = list(islice(source, 3))
    assert frames[0].pts == 0
    assert frames[1].image.shape == (64, 96, 3)
    assert (frames[1].captured or 0) - (frames[0].captured or 0) == pytest.approx(frames[1].pts / 90000)
    assert source.problems() == ()


@pytest.mark.parametrize("name", ["test:", "test:20", "test:0x9", "test:9x9", "test:320x180@0", "test:a"])
def test_wrong_test_pictures_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        open_live_source(name)


@pytest.mark.parametrize("name", ["srt://127.0.0.1:1", "foo://x"])
def test_unknown_addresses_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="ffmpeg -i srt" if "srt" in name else "known are: camera"):
        open_live_source(name)


def test_a_file_runs_at_its_own_pace(small_clip: Path) -> None:
    """12 frames at 29.97 a second, twice: the second turn begins one frame after the last of the first."""
    with open_live_source(str(small_clip), CaptureOptions(loop=True)) as source:
        started = time.monotonic()
        pictures = list(islice(source.pictures(), 24))
        assert time.monotonic() - started >= 23 * 1001 / 30000 - 0.01
    steps = [two.captured - one.captured for one, two in pairwise(pictures)]
    np.testing.assert_allclose(steps, 1001 / 30000, atol=1e-6)
    np.testing.assert_array_equal(pictures[12].rgb(), pictures[0].rgb())
    with open_live_source(str(small_clip)) as source:
        assert sum(1 for _ in source.pictures()) == 12


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_live_source(str(tmp_path / "none.mp4"))


@contextmanager
def sender(address: str, start: int = 0, rate: int = 25) -> Iterator[None]:
    """Another program: sends the counter as H.264 in MPEG-TS, with PyAV and FFmpeg's own UDP."""
    stop = threading.Event()
    pattern = TestPattern("test:176x96")

    def send() -> None:
        with av.open(address, "w", format="mpegts") as container:
            stream: Any = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 176, 96, "yuv420p"
            stream.codec_context.options = {"tune": "zerolatency", "preset": "ultrafast"}
            stream.codec_context.gop_size = 10
            number = 0
            while not stop.wait(1 / rate):
                frame = av.VideoFrame.from_ndarray(pattern.image(start + number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
                number += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_udp_with_a_sender_that_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "SILENCE", 1.0)
    address = f"udp://127.0.0.1:{free_port()}"
    notes: list[str] = []
    seen: list[int] = []
    with sender(address), open_live_source(address, CaptureOptions(on_note=notes.append)) as source:
        pictures = source.pictures()
        seen += [read_counter(each.rgb()) or 0 for each in islice(pictures, 5)]
    assert (source.info.width, source.info.height) == (176, 96)
    assert seen == list(range(seen[0], seen[0] + 5))
    pictures.close()

    with sender(address):
        source = open_live_source(address, CaptureOptions(on_note=notes.append))
        pictures = source.pictures()
        next(pictures)
    again = sender(address, start=5000)
    starter = threading.Timer(1.5, again.__enter__)
    starter.start()
    for each in pictures:  # first what was sent before, then nothing for a while
        number = read_counter(each.rgb())
        if number is not None and number >= 5000:
            break
    source.__exit__(None, None, None)
    pictures.close()
    starter.join()
    again.__exit__(None, None, None)
    assert "waiting up to 30 s" in notes[0]
    assert "is back" in notes[1]


def test_a_stream_whose_size_changes_in_the_middle(tmp_path: Path) -> None:
    """As a camera that is turned, or a sender that adapts to its network: H.264 with new parameters."""
    path = tmp_path / "changing.ts"
    with path.open("wb") as file:
        for part, (width, height) in enumerate(((176, 96), (96, 64))):
            pattern, packets = TestPattern(f"test:{width}x{height}"), BytesIO()
            with av.open(packets, "w", format="mpegts") as container:
                stream: Any = container.add_stream("libx264", rate=25)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.options = {"tune": "zerolatency", "preset": "ultrafast"}
                for number in range(10):
                    frame = av.VideoFrame.from_ndarray(pattern.image(10 * part + number), format="rgb24")
                    frame.pts, frame.time_base = 10 * part + number, Fraction(1, 25)
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
            file.write(packets.getvalue())
    with live_streams.open_stream(str(path)) as source:
        images = [picture.rgb() for picture in source.pictures()]
    assert [read_counter(image) for image in images] == list(range(20))
    assert [image.shape for image in images] == [(96, 176, 3)] * 10 + [(64, 96, 3)] * 10


def test_a_network_source_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_streams, "ANSWER", 0.3)
    with pytest.raises(InputError, match="does not answer"):
        open_live_source(f"udp://127.0.0.1:{free_port()}", CaptureOptions(retry=0))
    with pytest.raises(InputError, match="Connection refused"):
        open_live_source(f"tcp://127.0.0.1:{free_port()}", CaptureOptions(retry=0))


class Scripted(LiveSourceBase):
    """Gives so many pictures, then breaks off or ends."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        super().__init__()
        self.info = live_info("scripted", 48, 40, Fraction(25))
        self.count, self.error, self.closed = count, error, False

    def pictures(self) -> Generator[Picture, None, None]:
        for number in range(self.count):
            yield Picture(float(number), np.zeros((40, 48, 3), np.uint8))
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


def test_a_source_is_opened_again_until_it_is_back() -> None:
    script: list[Any] = [
        Scripted(3, InputError("cam sends nothing more")),
        InputError("cam is not there"),
        InputError("cam is not there"),
        Scripted(2),
        Scripted(1),
    ]
    opened: list[Any] = []
    notes: list[str] = []

    def open_next() -> Any:
        item = script.pop(0) if script else InputError("gone for good")
        if isinstance(item, Exception):
            raise item
        opened.append(item)
        return item

    source = Returning("cam", open_next, CaptureOptions(retry=0.5, on_note=notes.append))
    pictures = source.pictures()
    assert len(list(islice(pictures, 6))) == 6
    with pytest.raises(InputError, match="cam has ended, and did not come back: gone for good"):
        next(pictures)
    assert all(each.closed for each in opened)
    assert notes.count("cam is back") == 2


def test_stopping_ends_the_wait() -> None:
    script = [Scripted(1)]

    def open_next() -> Any:
        if script:
            return script.pop()
        raise InputError("gone")

    source = Returning("cam", open_next, CaptureOptions(retry=60))
    threading.Timer(0.1, source.stop).start()
    started = time.monotonic()
    assert len(list(source.pictures())) == 1
    assert time.monotonic() - started < 30


def test_devices_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in ((10, "Capture Card"), (0, "HD Webcam"), (2, "HD Webcam Infrared")):
        (tmp_path / f"video{number}").mkdir()
        (tmp_path / f"video{number}" / "name").write_text(name + "\n", "utf-8")
    loopback = tmp_path / "virtual" / "video11"
    loopback.mkdir(parents=True)
    (loopback / "name").write_text("mst\n", "utf-8")
    (tmp_path / "video11").symlink_to(loopback, target_is_directory=True)
    monkeypatch.setattr(device_module, "SYSTEM", "linux")
    monkeypatch.setenv("DISPLAY", ":7")
    found = devices(tmp_path)
    cameras = ["/dev/video0", "/dev/video2", "/dev/video10", "/dev/video11"]
    assert [each.address for each in found if each.kind == "camera"] == cameras
    assert Device("virtual-camera", "/dev/video11", "mst") in found
    assert Device("screen", ":7", "display :7") in found
    monkeypatch.setattr(device_module, "devices", lambda: found)
    monkeypatch.setattr(av, "ContainerFormat", lambda name, mode: name)
    for name, address in (
        ("camera", "/dev/video0"),
        ("camera:1", "/dev/video2"),
        ("camera:HD Webcam", "/dev/video0"),
        ("camera:infrared", "/dev/video2"),
        ("screen", ":7"),
    ):
        assert device_address(name)[0] == address
    with pytest.raises(InputError, match="no camera called 'Foo'; there are: 0 'HD Webcam', 1 'HD"):
        device_address("camera:Foo")
    with pytest.raises(InputError, match="no camera called '4'"):
        device_address("camera:4")


def test_a_camera_by_its_double(small_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a real camera: a clip is opened in its place. What is asked of PyAV is compared."""
    asked: list[Any] = []
    real = av.open

    def opened(address: Any, *arguments: Any, **how: Any) -> Any:
        asked.append((address, how["format"]))
        if len(asked) == 3:
            raise av.FFmpegError(16, "Device or resource busy")
        return real(small_clip)

    monkeypatch.setattr(device_module, "SYSTEM", "win32")
    monkeypatch.setattr(device_module, "devices", lambda: [Device("camera", "Cam", "Cam")])
    monkeypatch.setattr(av, "ContainerFormat", lambda name, mode: name)
    monkeypatch.setattr(av, "open", opened)
    with open_live_source("camera", CaptureOptions(retry=0)) as source:
        assert (source.info.width, source.info.height) == (64, 48)
        pictures = list(islice(source.pictures(), 20))  # the clip has 12: it is opened a second time
    assert asked == [("video=Cam", "dshow")] * 2
    assert pictures[0].rgb().shape == (48, 64, 3)
    with pytest.raises(InputError, match="in use by another program"):
        open_live_source("camera")


@pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")
def test_the_real_driver_is_asked_for_a_camera_and_a_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg itself, as installed; only the device nodes are missing."""
    found = [Device("camera", str(tmp_path / "video0"), "Cam"), Device("screen", ":987", "display :987")]
    monkeypatch.setattr(device_module, "devices", lambda: found)
    with pytest.raises(InputError, match=r"cannot open camera \(No such file"):
        open_live_source("camera")
    with pytest.raises(InputError, match=r"cannot open screen \("):
        open_live_source("screen")


def test_passwords_are_hidden() -> None:
    assert hidden("rtsp://me:se:cret@host/1") == "rtsp://me:***@host/1"
    assert hidden("rtsp://host:554/a@b:c") == "rtsp://host:554/a@b:c"
    with pytest.raises(InputError) as refused:
        open_live_source(f"rtsp://me:secret@127.0.0.1:{free_port()}/1", CaptureOptions(retry=0))
    assert "secret" not in str(refused.value)
