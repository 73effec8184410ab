"""Jobs in processes that are killed at random moments and resumed: no frame is lost or changed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import Clip, probe, write_clip
from tests.jobs.breaking import everything

JOB = """
import sys, time
from pathlib import Path
from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.jobs.render_file import render_file
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.styles.plan import constant_plan
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import resolve_model

class Slow(FakeGenerator):
    def __call__(self, frames, films, canvas=None):
        time.sleep(0.004)
        return super().__call__(frames, films)

bundle = open_bundle(resolve_model())
style_plan = constant_plan(bundle.manifest.layout.identity())
print("ready", flush=True)
options = RenderOptions(part_frames=15, resume=True)
render_file(Path(sys.argv[1]), Path(sys.argv[2]), Slow(bundle), style_plan, options)
"""


@pytest.fixture(scope="module")
def long_clip(clip_folder: Path) -> Path:
    """200 frames of a rate that varies, with B-frames and two sound tracks."""
    steps = np.random.default_rng(5).integers(200, 2500, 200)
    times = tuple(int(time) for time in np.cumsum(steps))
    return write_clip(clip_folder / "killed.mp4", Clip(times=times, audio=2))


def start(source: Path, output: Path) -> subprocess.Popen[str]:
    """A job in a process of its own, everything imported."""
    process = subprocess.Popen([sys.executable, "-c", JOB, source, output], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    assert process.wait(timeout=120) == 0
    assert process.stdout is not None
    process.stdout.close()


def kill_and_go_on(source: Path, folder: Path, moments: list[float]) -> Path:
    """A job killed at each of the moments (seconds after its start) and always taken up again."""
    output = folder / "out.mp4"
    for moment in moments:
        process = start(source, output)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    finish(start(source, output))
    return output


@pytest.fixture(scope="module")
def undisturbed(long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, float]:
    """What a job gives that runs through, and the seconds it takes."""
    output = tmp_path_factory.mktemp("undisturbed") / "out.mp4"
    process = start(long_clip, output)
    started_with = time.monotonic()
    finish(process)
    return everything(output), time.monotonic() - started_with


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 8))])
def test_kill_at_random_moments(
    seed: int, long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    moments = random.Random(seed)
    output = kill_and_go_on(
        long_clip, tmp_path, [moments.uniform(0, seconds), moments.uniform(0, seconds / 2)]
    )
    assert everything(output) == expected
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
def test_one_job_killed_twenty_times(long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path) -> None:
    """Killed early enough that most of the kills find it at work, and late enough that it gets on."""
    expected, seconds = undisturbed
    moments = random.Random(20)
    output = kill_and_go_on(long_clip, tmp_path, [moments.uniform(0, seconds / 3) for _ in range(20)])
    assert everything(output) == expected
    assert list(tmp_path.iterdir()) == [output]


def test_parts_change_neither_frames_nor_times(
    long_clip: Path, undisturbed: tuple[Any, float], tmp_path: Path
) -> None:
    """All 200 times and every sound packet are those of the source."""
    (times, frames, audio), _ = undisturbed
    before = probe(long_clip)
    assert times == before.times
    assert audio == before.audio
    assert len(frames) == 200
