"""Outputs that a job refuses before its first frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from tests.jobs.breaking import TEN, Breaking


@pytest.mark.parametrize(
    ("name", "coding", "words"),
    [
        ("out.webm", EncodeOptions(), "webm files cannot hold audio stream 1"),
        ("out.mov", EncodeOptions("vp9"), "cannot write vp9"),
        ("out.mp4", EncodeOptions("prores"), "cannot write prores"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_frame(
    name: str, coding: EncodeOptions, words: str, short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    generator = Breaking(bundle, AssertionError("painted"), 0)
    with pytest.raises(OutputError, match=words):
        render_file(short_clip, tmp_path / name, generator, constant_plan(film), replace(TEN, encode=coding))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_wrong_usage_before_the_first_frame(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any
) -> None:
    generator = Breaking(bundle, AssertionError("painted"), 0)
    with pytest.raises(InvalidArgument, match=r"cannot write .*out.avi: unknown video type") as caught:
        render_file(short_clip, tmp_path / "out.avi", generator, constant_plan(film), TEN)
    assert caught.value.field == "output"
    assert list(tmp_path.iterdir()) == []
