"""Every order of closing clip, frames and model ends in words: tried in processes of their own.

A mistake here does not raise, it ends the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import Clip, write_clip

BEGIN = """
import sys, time
import mst_deploy as mst
from mst_deploy import MstError
path, backend = sys.argv[1:]
model = mst.Stylizer("lite", backend=backend)
clip = mst.open_video(path)
frames = model.frames(clip, "udnie", size="32", deflicker=DEFLICKER)
def rest():
    try:
        print("frames", sum(1 for _ in frames))
    except MstError as error:
        print("raised", type(error).__name__, error)
"""
ORDERS = {
    "clip while frames are made": "next(frames); clip.close(); rest()",
    "clip before the first frame": "clip.close(); rest()",
    "clip after a wait": "next(frames); time.sleep(0.5); clip.close(); time.sleep(0.2); rest()",
    "clip twice": "next(frames); clip.close(); clip.close(); rest()",
    "frames, then clip": "next(frames); frames.close(); clip.close(); rest()",
    "clip, then frames": "next(frames); clip.close(); frames.close(); rest()",
    "model while frames are made": "next(frames); model.__exit__(None, None, None); rest(); clip.close()",
    "model and clip": "next(frames); model.__exit__(None, None, None); clip.close(); rest()",
    "with, as the documentation has it": "\nwith clip:\n    next(frames)\nrest()",
    "nothing at all": "next(frames)",
    "nothing, and an error": "next(frames); sys.exit(0)",
    "clip is forgotten": "next(frames); del clip; import gc; gc.collect(); rest()",
    "frames are forgotten": "next(frames); del frames, rest; clip.close()",
    "end of the frames": "rest(); rest(); clip.close(); rest()",
    "written after closing": (
        "made = [next(frames)]; clip.close(); mst.write_video(path + '.out.mp4', made, clip); rest()"
    ),
}


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Path:
    return write_clip(clip_folder / "closing.mp4", Clip(width=320, height=180, frames=50))


def tried(order: str, backend: str, clip: Path, *, deflicker: bool = False) -> str:
    """What a process prints that closes in one order; it must end well."""
    code = BEGIN.replace("DEFLICKER", str(deflicker)) + ORDERS[order]
    command = [sys.executable, "-c", code, str(clip), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    for line in done.stdout.splitlines():
        assert line.startswith(("frames ", "raised InputError", "raised BackendError")), line
    return done.stdout


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_closing(order: str, clip: Path) -> None:
    tried(order, "fake", clip)


@pytest.mark.parametrize("order", [order for order in ORDERS if "model" in order or "with" in order])
def test_real_networks_too(order: str, clip: Path) -> None:
    tried(order, "onnxrt", clip)


def test_frames_that_are_averaged_too(clip: Path) -> None:
    tried("clip while frames are made", "fake", clip, deflicker=True)


def test_what_is_closed_too_early_says_so(clip: Path) -> None:
    assert "raised InputError" in tried("clip before the first frame", "fake", clip)
    assert "was closed while its frames were still being read" in tried("clip twice", "fake", clip)
    assert "raised BackendError the model was closed" in tried("model while frames are made", "onnxrt", clip)
