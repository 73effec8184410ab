"""Ctrl-C and SIGTERM at any moment: the right exit code, no traceback, nothing hidden left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mst_deploy.files import replacing
from tests.clips import Clip, write_clip

EARLY = """
import os, signal, sys, threading
from mst_deploy.__main__ import main
delay, number = float(sys.argv[1]), int(sys.argv[2])
sys.argv = ["mst", "video", *sys.argv[3:]]
timer = threading.Timer(delay, os.kill, (os.getpid(), number))
install = signal.signal

def watched(which, handler):
    install(which, handler)
    if which == signal.SIGTERM and not timer.is_alive():
        signal.signal = install
        timer.start()

signal.signal = watched
main()
"""
"""Sends the signal so many seconds after the program has begun to listen."""


@pytest.fixture(scope="module")
def slow(clip_folder: Path) -> Path:
    return write_clip(clip_folder / "signals.mp4", Clip(width=320, height=240, frames=400, audio=0))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4, 1.0])
def test_signals_in_the_first_second(
    delay: float, number: int, code: int, slow: Path, tmp_path: Path
) -> None:
    options = [str(slow), "-s", "zodiac", "-o", str(tmp_path / "o.mp4")]
    command = [sys.executable, "-c", EARLY, str(delay), str(int(number)), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if "interrupted" not in path.name] == []


@pytest.mark.parametrize("name", ["o.mp4", "o.gif", "o%03d.png"])
def test_a_terminated_job_leaves_nothing_hidden(name: str, slow: Path, tmp_path: Path) -> None:
    process = started(slow, tmp_path / name)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 143, errors
    assert "mst: interrupted" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["o.gif", "o%03d.png"])
def test_what_a_killed_job_left_goes_with_the_next(
    name: str, slow: Path, small_clip: Path, tmp_path: Path
) -> None:
    process = started(slow, tmp_path / name)
    process.kill()
    process.communicate(timeout=60)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    command = [
        sys.executable,
        "-m",
        "mst_deploy",
        "video",
        str(small_clip),
        "-s",
        "zodiac",
        "--backend",
        "fake",
    ]
    subprocess.run([*command, "-o", str(tmp_path / name)], check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_folders_in_use_and_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / ".a-private").mkdir()
    (tmp_path / ".a-12345678").mkdir()  # without a lock it is somebody else's
    with replacing(tmp_path / "a.txt") as first, replacing(tmp_path / "a.txt") as second:
        first.write_text("one")
        second.write_text("two")
    assert (tmp_path / "a.txt").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a-12345678", ".a-private", "a.txt"]


def started(source: Path, output: Path) -> subprocess.Popen[str]:
    """A job that has begun to write."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mst_deploy", "video", source, "-s", "zodiac", "-o", output],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 120
    while not list(output.parent.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    return process
