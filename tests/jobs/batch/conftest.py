"""Fixtures of the tests of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mst_deploy.jobs.batch import worker as worker_module
from tests.clips import Clip, write_clip
from tests.jobs.batch.plans import Sensitive


@pytest.fixture
def sensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "open_generator", lambda bundle, *_: Sensitive(bundle))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 frames of a variable rate, with B-frames, a key frame every 12, and sound."""
    steps = np.random.default_rng(5).integers(200, 2500, 64)
    times = tuple(int(when) for when in np.cumsum(steps))
    folder = tmp_path_factory.mktemp("batch")
    return write_clip(folder / "clip.mp4", Clip(times=times, options={"crf": "12", "g": "12"}))
