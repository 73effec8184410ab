"""Tests of bad input and usage: a video fails alone, a message is one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import BackendError
from mst_deploy.jobs.batch import worker as worker_module
from tests.command_line import mst
from tests.jobs.batch.plans import in_process, planned


def test_an_input_that_vanishes_fails_alone(clip: Path, tmp_path: Path) -> None:
    sources = [tmp_path / f"{name}.mp4" for name in "abc"]
    for source in sources:
        source.write_bytes(clip.read_bytes())
    plan = planned(sources, tmp_path / "out")
    sources[1].unlink()
    report = in_process(plan)
    assert [video.state for video in report.videos] == ["done", "failed", "done"]
    assert "b.mp4: No such file" in report.failed[0].reason
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("split", [True, False])
def test_nothing_stays_of_a_source_that_changes(
    split: bool, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    plan = planned([source], tmp_path / "out")
    plan = replace(plan, videos=(replace(plan.videos[0], split=split),))
    changed = "render" if split else "render_file"
    render = getattr(worker_module, changed)

    def changing(*arguments: Any, **named: Any) -> Any:
        result = render(*arguments, **named)
        source.touch()
        return result

    monkeypatch.setattr(worker_module, changed, changing)
    report = in_process(plan)
    assert "was changed" in report.failed[0].reason
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_usage_is_one_line(clip: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / clip.name).write_bytes(clip.read_bytes())
    common = ("-s", "starry-night", "--backend", "fake", "--model", "lite")
    for arguments, code, words in [
        ([clip, again / clip.name, "-o", tmp_path], 2, "would both be written"),
        ([tmp_path / "none.mp4", "-o", tmp_path], 1, "cannot read"),
        ([tmp_path, "-o", tmp_path], 1, "has no file"),
        ([clip, "-o", tmp_path, "--workers", "0"], 2, "workers"),
        ([clip, "-o", tmp_path, "--address", "auto"], None, ""),
        ([clip, "-o", "nowhere://out"], 1, "nowhere"),
    ]:
        done = mst("batch", *arguments, *common)
        assert done.returncode == code if code is not None else done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"again"}


def test_a_worker_without_the_model_is_refused(clip: Path, tmp_path: Path) -> None:
    plan = planned([clip], tmp_path / "out")
    wrong = replace(plan, setup=replace(plan.setup, model="base"))
    with pytest.raises(
        BackendError, match="no worker can do the work: has another model under the name base"
    ):
        in_process(wrong)
    old = replace(plan, setup=replace(plan.setup, version="0.0.1"))
    with pytest.raises(BackendError, match=r"pip install mst-deploy==0\.0\.1"):
        in_process(old)
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_dry_run_and_report(clip: Path, tmp_path: Path) -> None:
    common = ("-s", "starry-night", "--backend", "fake", "--model", "lite", "--json")
    done = mst("batch", clip, "-o", tmp_path / "out", "--dry-run", "--workers", "2", *common)
    values = json.loads(done.stdout)
    assert (values["frames"], values["workers"]) == (64, 2)
    assert values["seconds"] > 0
    assert not (tmp_path / "out").exists()
