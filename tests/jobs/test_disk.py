"""Disks that are full, may become full, or fill up during a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import OutputError
from mst_deploy.jobs import disk
from mst_deploy.jobs.journal import parts_folder, read_journal
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from tests.events import notes_to
from tests.jobs.breaking import TEN, Breaking, go_on


def test_a_full_disk_is_noticed_before(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Breaking(bundle, AssertionError("started"), 0)
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1_000_000)
    with pytest.raises(OutputError, match=r"nearly full: the job needs about .* 1.0 MB are free"):
        render_file(short_clip, tmp_path / "out.mp4", generator, constant_plan(film), TEN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("missing", "said"), [(1, 1), (0, 0)])
def test_a_disk_that_may_become_full_is_said(
    missing: int,
    said: int,
    short_clip: Path,
    tmp_path: Path,
    bundle: Any,
    film: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One byte less than parts and result are expected to take is worth a note, and no more."""
    needed = 2 * disk.expected_bytes("h264", 64, 48, 36) + disk.RESERVE
    free = iter([needed - missing])
    monkeypatch.setattr(disk, "free_bytes", lambda path: next(free, 10**12))
    notes: list[str] = []
    generator = Breaking(bundle, RuntimeError(), 99)
    listener = notes_to(notes.append)
    render_file(short_clip, tmp_path / "out.mp4", generator, constant_plan(film), TEN, listener)
    assert len(notes) == said
    assert all("may become full" in note for note in notes)


def test_a_disk_that_fills_up_is_noticed_in_time(
    short_clip: Path, tmp_path: Path, bundle: Any, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills during the job, which stops before a part fails, and continues once space is free."""
    output = tmp_path / "out.mp4"
    folder = parts_folder(output)
    monkeypatch.setattr(
        disk, "free_bytes", lambda path: 10**6 if len(list(folder.glob("0*.mp4"))) == 2 else 10**12
    )
    with pytest.raises(
        OutputError, match=r"nearly full: 1.0 MB are free, going on needs .*with resume"
    ) as caught:
        render_file(short_clip, output, Breaking(bundle, RuntimeError(), 99), constant_plan(film), TEN)
    assert caught.value.__notes__[0].startswith("the first 20 frames are kept")
    found = read_journal(folder)
    assert found is not None
    assert [part.frames for part in found.parts] == [10, 10]
    monkeypatch.setattr(disk, "free_bytes", lambda path: 10**12)
    assert go_on(short_clip, output, bundle, film).resumed == 20
