"""Fixtures of the tests of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import Clip, write_clip


@pytest.fixture
def short_clip(clip_folder: Path) -> Path:
    path = clip_folder / "resumed.mp4"
    return path if path.exists() else write_clip(path, Clip(frames=36))
