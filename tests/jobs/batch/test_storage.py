"""Tests of the stores of a batch: remote, failing and full ones; leases."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mst_deploy.errors import OutputError
from mst_deploy.jobs.batch.segment_files import LEASE_SECONDS, Lease, SegmentFiles
from mst_deploy.jobs.batch.storage import LocalStorage, RemoteStorage, StorageError, open_storage
from tests.command_line import mst
from tests.jobs.batch.plans import in_process, planned, whole


def test_results_in_a_remote_store(clip: Path, tmp_path: Path) -> None:
    """Input and result in fsspec's store in memory; nothing else is left there."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe_file("/batch-in/clip.mp4", clip.read_bytes())
    plan = planned(["memory://batch-in/*.mp4"], "memory://batch-out")  # type: ignore[list-item]
    split = replace(plan, videos=(replace(plan.videos[0], split=True),))
    for each in (split, replace(plan, videos=(replace(plan.videos[0], split=False),))):
        report = in_process(each)
        assert report.failed == []
        assert [Path(name).name for name in files.find("/batch-out")] == [each.videos[0].name]
        local = whole(plan, clip, tmp_path / "local.mp4")
        assert files.cat_file(f"/batch-out/{each.videos[0].name}") == local
        files.rm("/batch-out", recursive=True)


def test_a_store_that_fails_now_and_then_costs_only_time(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    dice, failures = random.Random(1), [0]

    def unsteady(name: str) -> Any:
        call = getattr(files, name)

        def operation(*arguments: Any, **named: Any) -> Any:
            if dice.random() < 0.1:
                failures[0] += 1
                raise OSError("connection reset")
            return call(*arguments, **named)

        return operation

    plan = planned([clip], "memory://unsteady")
    for name in ("pipe_file", "put_file", "cat_file", "mv", "makedirs", "ls"):
        monkeypatch.setattr(files, name, unsteady(name), raising=False)
    monkeypatch.setattr(RemoteStorage.__init__, "__defaults__", ((0.0,) * 5,))
    replaced = replace(
        plan, storage=open_storage("memory://unsteady"), videos=(replace(plan.videos[0], split=True),)
    )
    assert in_process(replaced).failed == []
    assert failures[0] > 3
    monkeypatch.undo()
    assert [Path(name).name for name in files.find("/unsteady")] == [plan.videos[0].name]


def test_storage_that_cannot_be_written_to_ends_the_batch_in_one_line(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "file").write_text("")
    done = mst("batch", clip, "-o", tmp_path / "file", "-s", "starry-night", "--backend", "fake")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = mst("batch", clip, "-o", "/proc/out", "-s", "starry-night", "--backend", "fake", "--model", "lite")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot use the storage /proc/out" in done.stderr


def test_a_disk_that_becomes_full_stops_the_batch(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned([clip], tmp_path / "out")
    put, puts = LocalStorage.put, [0]

    def full(self: LocalStorage, path: Path, name: str) -> None:
        puts[0] += 1
        if puts[0] == 3:
            raise StorageError("cannot use the storage: No space left on device")
        put(self, path, name)

    monkeypatch.setattr(LocalStorage, "put", full)
    notes: list[str] = []
    report = in_process(plan, notes)
    assert [video.reason for video in report.failed] == ["cannot use the storage: No space left on device"]
    assert not (tmp_path / "out" / plan.videos[0].name).exists()
    monkeypatch.undo()
    assert in_process(plan).failed == []  # goes on
    assert [path.name for path in (tmp_path / "out").iterdir()] == [plan.videos[0].name]


def test_other_settings_are_refused_and_a_changed_source_is_not(clip: Path, tmp_path: Path) -> None:
    files = SegmentFiles(LocalStorage(tmp_path), "out.mp4")
    files.begin({"input": "a", "size": "1"}, force=False)
    files.storage.write(files.path("000000.json"), b"{}")
    with pytest.raises(OutputError, match="size was 1, now 2"):
        files.begin({"input": "a", "size": "2"}, force=False)
    files.begin({"input": "a", "size": "1"}, force=False)
    assert files.found() == (0, {0})
    files.begin({"input": "b", "size": "1"}, force=False)
    assert files.found() == (0, set())


def test_two_batches_never_work_on_one_result(tmp_path: Path) -> None:
    files = SegmentFiles(LocalStorage(tmp_path), "out.mp4")
    now = [1000.0]
    first, second = (Lease(files, lambda: now[0]) for _ in range(2))
    first.take()
    with pytest.raises(OutputError, match="another batch"):
        second.take()
    now[0] += LEASE_SECONDS / 2
    first.renew()
    now[0] += LEASE_SECONDS / 2 + 1
    with pytest.raises(OutputError, match="another batch"):
        second.take()
    now[0] += LEASE_SECONDS
    second.take()  # the first one is dead
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    second.owner["process"] = dead.pid
    second.renewed = 0
    second.renew()
    first.take()  # on one machine a dead process is known at once
