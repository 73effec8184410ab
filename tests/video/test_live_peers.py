"""Live video with the ffmpeg program at the other end: pictures, sound in step, a peer that dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from mst_deploy.cli import app
from mst_deploy.errors import OutputError
from mst_deploy.video.capture import TestPattern, clicks
from mst_deploy.video.counter_bars import read_counter
from mst_deploy.video.live_source import Picture
from tests.offsets import offsets
from tests.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg"),
]
FAKE = ("--model", "lite", "--backend", "fake", "--style", "udnie", "--json", "--quiet")
IN_STEP = 0.04
"""Seconds by which sound and picture may differ at the other end."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s of the test picture, 176x96 at 25, with its clicks as AAC."""
    path = tmp_path_factory.mktemp("peers") / "clip.mkv"
    pattern, done = TestPattern("test:176x96@25"), 0
    with av.open(path, "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 176, 96, "yuv420p"
        video.codec_context.options = {"tune": "zerolatency", "preset": "ultrafast"}
        video.codec_context.gop_size = 25
        sound: Any = container.add_stream("aac", rate=48000, layout="stereo")
        for number in range(12 * 25):
            frame = av.VideoFrame.from_ndarray(pattern.image(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            while done < (number + 1) * 1920:
                samples = np.ascontiguousarray(clicks(done, done + 1024))
                sound_frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
                sound_frame.sample_rate, sound_frame.pts, sound_frame.time_base = (
                    48000,
                    done,
                    Fraction(1, 48000),
                )
                container.mux(sound.encode(sound_frame))
                done += 1024
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


@contextmanager
def ffmpeg(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program while the block runs, and half a second longer if it is about to end."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        for _ in range(50):
            if process.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()


def live(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["live", *arguments, *FAKE])
    assert result.exit_code == 0, (result.output, result.exception)
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["captured"] == report["stylized"] + sum(report["dropped"].values())
    return report


def assert_in_step(path: Path, frames: int = 5, seconds: int = 2) -> None:
    """At least so many counters, which grow, and so many clicks, within 40 ms of their pictures."""
    with av.open(path) as container:
        numbers = [read_counter(Picture(0.0, frame).rgb()) for frame in container.decode(video=0)]
    read = [number for number in numbers if number is not None]
    assert len(read) >= frames
    assert all(after > before for before, after in pairwise(read))
    found = offsets(path, 25)
    assert len(found) >= seconds
    assert max(map(abs, found)) < IN_STEP, found


def test_mpeg_ts_both_ways(clip: Path, tmp_path: Path) -> None:
    sent, received = free_port(), free_port()
    path = tmp_path / "received.ts"
    feed = ("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts", f"udp://127.0.0.1:{sent}")
    soon = ("-analyzeduration", "500000", "-probesize", "200000")
    keep = (*soon, "-i", f"udp://127.0.0.1:{received}", "-t", "3", "-c", "copy", str(path))
    with ffmpeg(*keep), ffmpeg(*feed) as feeding:
        report = live(f"udp://127.0.0.1:{sent}", f"udp://127.0.0.1:{received}", "--seconds", "5")
        feeding.kill()
    assert report["captured"] > 100
    assert_in_step(path)


@pytest.mark.parametrize(("scheme", "muxer"), [("http", "mpegts"), ("rtmp", "flv")])
def test_pulled_from_ffmpeg(clip: Path, tmp_path: Path, scheme: str, muxer: str) -> None:
    address, path = f"{scheme}://127.0.0.1:{free_port()}/live/x", tmp_path / "out.mkv"
    with ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", muxer, "-listen", "1", address) as serving:
        report = live(address, str(path), "--seconds", "3.5", "--retry", "20")
        serving.kill()
    assert report["captured"] > 60
    assert_in_step(path)


@pytest.mark.parametrize(
    ("scheme", "listen"), [("rtmp", ("-listen", "1")), ("rtsp", ("-rtsp_flags", "listen"))]
)
def test_pushed_to_ffmpeg(tmp_path: Path, scheme: str, listen: tuple[str, str]) -> None:
    address, path = f"{scheme}://127.0.0.1:{free_port()}/live/x", tmp_path / "received.mkv"
    with ffmpeg(*listen, "-i", address, "-c", "copy", str(path)):
        time.sleep(1)  # until it listens
        live("test:176x96@25", address, "--seconds", "3.5")
    assert_in_step(path)


def test_from_and_to_a_pipe(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.ts"
    feed = ["ffmpeg", "-loglevel", "error", "-re", "-t", "3.5", "-i", str(clip)]
    with (
        subprocess.Popen([*feed, "-c", "copy", "-f", "mpegts", "-"], stdout=subprocess.PIPE) as feeding,
        path.open("wb") as file,
    ):
        command = [sys.executable, "-m", "mst_deploy", "live", "-", "-", *FAKE[:-2]]
        ended = subprocess.run(command, stdin=feeding.stdout, stdout=file, stderr=subprocess.PIPE, check=True)
    assert b"0 unfinished" in ended.stderr
    assert_in_step(path, 2, 1)  # what was sent during the start comes at once, and is dropped


def test_a_receiver_that_is_killed_leaves_the_file(tmp_path: Path) -> None:
    address, path = f"rtmp://127.0.0.1:{free_port()}/live/x", tmp_path / "out.mkv"
    with ffmpeg("-listen", "1", "-i", address, "-f", "null", "-") as receiver:
        time.sleep(1)
        killer = threading.Timer(1.5, receiver.kill)
        killer.start()
        result = CliRunner().invoke(
            app, ["live", "test:176x96@25", address, str(path), *FAKE, "--seconds", "3"]
        )
        killer.join()
    assert isinstance(result.exception, OutputError)
    assert f"{address}: {address} takes nothing more" in str(result.exception)
    report = json.loads(result.stdout)
    assert report["sinks"][address]["error"]
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == report["sinks"][str(path)]["written"]
    assert_in_step(path)
