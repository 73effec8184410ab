"""The files of a split video until its result is there, in a folder beside it, ``out.mp4.batch/``.

    lease.json          the batch that works on it, and when it last said so
    settings.json       everything the result depends on
    scan-000007.npz     what the scan found about segment 7
    scan.json           written when the scan is complete
    000007-1f0c…a9.nut  segment 7; its name contains the beginning of its SHA-256
    000007.json         the record of segment 7: it counts as painted once this is there

A segment that is painted twice is no harm: the record names one of the files.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mst_deploy.errors import InputError, OutputError
from mst_deploy.files import sha256_of
from mst_deploy.jobs.batch.scan import SegmentScan
from mst_deploy.jobs.batch.storage import Storage

SCANNED = re.compile(r"scan-(\d{6})\.npz")
RECORDED = re.compile(r"(\d{6})\.json")
LEASE = "lease.json"
SETTINGS = "settings.json"
LEASE_SECONDS = 60.0
"""Seconds after which a lease that was not renewed is void."""
RENEW_SECONDS = 10.0


@dataclass(frozen=True)
class Record:
    """One painted segment."""

    file: str
    frames: int
    bytes: int
    sha256: str
    seconds: float
    """Seconds of work."""
    made_by: str
    """Kind of machine: results of different kinds may differ in rounding."""


class SegmentFiles:
    """The unfinished files of one result in a storage."""

    def __init__(self, storage: Storage, result: str) -> None:
        self.storage, self.result = storage, result
        self.folder = f"{result}.batch"

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def put_scan(self, scan: SegmentScan) -> None:
        self.storage.write(self.path(f"scan-{scan.number:06d}.npz"), scan.packed())

    def scan(self, number: int) -> SegmentScan:
        """Return the scan of a segment. Raises InputError for a damaged one."""
        data = self.storage.read(self.path(f"scan-{number:06d}.npz"))
        try:
            return SegmentScan.unpacked(data)
        except Exception as error:  # NumPy's errors for damaged files have no common class
            raise InputError(
                f"cannot read the scan of segment {number} of {self.result}: {error}; delete "
                f"{self.storage.url}/{self.folder} and start again"
            ) from error

    def put_scan_end(self, segments: int, frames: int, notes: tuple[str, ...]) -> None:
        """Record that the scan is complete."""
        values = {"segments": segments, "frames": frames, "notes": notes}
        self.storage.write(self.path("scan.json"), json.dumps(values).encode())

    def scan_end(self) -> dict[str, Any] | None:
        """Return number of segments and frames, and notes; None until the scan is complete."""
        try:
            values: dict[str, Any] = json.loads(self.storage.read(self.path("scan.json")))
        except (FileNotFoundError, ValueError):
            return None
        return values

    def put_segment(self, number: int, path: Path, frames: int, seconds: float, made_by: str) -> None:
        """Move a closed segment into the storage and record it."""
        digest = sha256_of(path)
        record = Record(
            f"{number:06d}-{digest[:16]}{path.suffix}", frames, path.stat().st_size, digest, seconds, made_by
        )
        self.storage.put(path, self.path(record.file))
        self.storage.write(self.path(f"{number:06d}.json"), json.dumps(asdict(record)).encode())

    def record(self, number: int) -> Record | None:
        """Return the record of a segment; None if it is not painted."""
        try:
            return Record(**json.loads(self.storage.read(self.path(f"{number:06d}.json"))))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def get_segment(self, number: int, folder: Path) -> Path | None:
        """Return a file of this machine with a painted segment; None, and no record any more, for one that is
        missing or damaged."""
        record = self.record(number)
        if record is not None:
            try:
                found = self.storage.get(self.path(record.file), folder / record.file)
                if found.stat().st_size == record.bytes and sha256_of(found) == record.sha256:
                    return found
            except FileNotFoundError:
                pass
            self.storage.remove(self.path(f"{number:06d}.json"))
        return None

    def found(self) -> tuple[int, set[int]]:
        """Return the number of segments, from the first, that are scanned; and those that are painted."""
        names = self.storage.names(self.folder)
        scanned = {int(match[1]) for name in names if (match := SCANNED.fullmatch(name))}
        painted = {int(match[1]) for name in names if (match := RECORDED.fullmatch(name))}
        ready = 0
        while ready in scanned:
            ready += 1
        return ready, painted

    def begin(self, settings: dict[str, str], *, force: bool) -> None:
        """Begin, or go on with what was begun with the same settings.

        What was made of a source that has changed since is discarded. Raises OutputError for unfinished work
        with other settings, unless ``force`` discards it.
        """
        try:
            before = json.loads(self.storage.read(self.path(SETTINGS)))
        except (FileNotFoundError, ValueError):
            before = None
        if before == settings:
            return
        if before is not None and before.get("input") == settings["input"] and not force:
            names = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
            changes = "; ".join(f"{n} was {before.get(n)}, now {settings.get(n)}" for n in sorted(names))
            raise OutputError(
                f"the unfinished work in {self.storage.url}/{self.folder} was started with other settings "
                f"({changes}); give the same ones, or start anew with [option:force]"
            )
        for name in self.storage.names(self.folder):
            if name != LEASE:
                self.storage.remove(self.path(name))
        self.storage.write(self.path(SETTINGS), json.dumps(settings).encode())

    def remove(self) -> None:
        """Delete everything unfinished."""
        self.storage.remove(self.folder)


class Lease:
    """The right of one batch to work on a result, so that two batches do not work on the same one."""

    def __init__(self, files: SegmentFiles, clock: Callable[[], float] = time.time) -> None:
        self.files, self.clock = files, clock
        self.owner = {"host": socket.gethostname(), "process": os.getpid(), "token": uuid.uuid4().hex}
        self.renewed = 0.0

    def take(self) -> None:
        """Take the lease, or that of a batch that is dead. Raises OutputError if a living batch has it."""
        name = self.files.path(LEASE)
        self.renewed = self.clock()
        if self.files.storage.create(name, self._content()):
            return
        try:
            other = json.loads(self.files.storage.read(name))
            alive = self._alive(other)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            other, alive = {}, False
        if alive:
            raise OutputError(
                f"another batch (process {other['process']} on {other['host']}) is working on "
                f"{self.files.result}; wait for it, or choose another folder with [option:output]"
            )
        self.files.storage.write(name, self._content())

    def renew(self) -> None:
        """Write the time again if it is time to."""
        if self.clock() - self.renewed > RENEW_SECONDS:
            self.renewed = self.clock()
            self.files.storage.write(self.files.path(LEASE), self._content())

    def release(self) -> None:
        self.files.storage.remove(self.files.path(LEASE))

    def _content(self) -> bytes:
        return json.dumps({**self.owner, "time": self.renewed}).encode()

    def _alive(self, other: dict[str, Any]) -> bool:
        if self.clock() - float(other["time"]) > LEASE_SECONDS:
            return False
        if other["host"] != self.owner["host"] or os.name == "nt":  # there signal 0 would end the process
            return True
        try:
            os.kill(int(other["process"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
