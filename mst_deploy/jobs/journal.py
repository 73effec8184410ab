"""The journal of a long job: the finished segments of a result, and the settings they were made with.

It is in a folder beside the result, ``out.mp4.parts/``, with one closed file for each part. A part counts
once the journal names it; both are forced onto the disk first, so that a crash or a power failure loses only
unfinished segments. The journal is replaced as a whole, never edited.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from mst_deploy.errors import OutputError
from mst_deploy.files import sha256_of

SCHEMA = 1
JOURNAL = "journal.json"
LOCK = "lock"
OWN_NAMES = re.compile(r"\d{6}\..*|\.\d{6}-.*|journal\.json(\.new)?|lock")
PAINTING, PAINTED, JOINED = STATES = ("painting", "painted", "joined")


@dataclass(frozen=True)
class Part:
    """One finished file of the folder."""

    name: str
    frames: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Entries:
    """Content of journal.json."""

    settings: dict[str, str]
    """Everything the pixels depend on, as text: input, model, styles, coding."""
    parts: tuple[Part, ...] = ()
    state: str = PAINTING
    """State: painting, painted (all parts exist) or joined (the result is complete, inside the folder)."""
    schema: int = SCHEMA

    @property
    def frames(self) -> int:
        return sum(part.frames for part in self.parts)


class Journal:
    """The folder of one job, held by one process at a time. A context manager."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = parts_folder(output)
        self.entries = Entries({})
        self.lock = FileLock(self.folder / LOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    def begin(self, settings: dict[str, str], *, resume: bool, force: bool = False) -> None:
        """Lock the folder; resume its job or start anew.

        Raises OutputError when it is somebody else's, when another process has it, when there is an
        unfinished job that was not to be resumed, and when that job had other settings.
        """
        strangers = _strangers(self.folder, self.output)
        if strangers:
            raise OutputError(
                f"the parts of {self.output} belong into the folder {self.folder}, which holds other files "
                f"({strangers[0]}); move it away, or choose another name with [option:output]"
            )
        self._take()
        found = read_journal(self.folder)
        if found is None or (force and not resume):
            self._empty()
            self.entries = Entries(settings)
            return self._save()
        if not resume:
            raise OutputError(
                f"there is an unfinished job in {self.folder} ({found.frames} frames); go on with it with "
                "[option:resume], or start anew with [option:force]"
            )
        self._refuse_other_settings(found.settings, settings)
        parts = tuple(self._whole(found.parts))
        state = found.state if len(parts) == len(found.parts) or found.state == JOINED else PAINTING
        self.entries = replace(found, parts=parts, state=state)
        self._forget_strangers()

    def path(self, name: str) -> Path:
        return self.folder / name

    def add(self, name: str, frames: int) -> None:
        """Record a closed file of the folder."""
        path = self.path(name)
        _to_disk(path)
        _to_disk(self.folder)
        part = Part(name, frames, path.stat().st_size, sha256_of(path))
        self.entries = replace(self.entries, parts=(*self.entries.parts, part))
        self._save()

    def mark(self, state: str, path: Path | None = None) -> None:
        """Record the state of the job, once ``path`` is flushed to the disk."""
        if path is not None:
            _to_disk(path)
        self.entries = replace(self.entries, state=state)
        self._save()

    def remove(self) -> None:
        """Delete the folder, the journal last, so that ``resume`` can clean up after a crash in between."""
        self.lock.release()
        for path in self.folder.iterdir():
            if path.name != JOURNAL:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.path(JOURNAL).unlink(missing_ok=True)
        self.folder.rmdir()

    def _take(self) -> None:
        parent = self.output.parent
        if not parent.is_dir():
            raise OutputError(f"cannot write {self.output}: the folder {parent} does not exist")
        try:
            self.folder.mkdir(exist_ok=True)
            self.lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"another process is working on {self.output}; wait for it, or choose another name with "
                "[option:output]"
            ) from None
        except OSError as error:
            raise OutputError(
                f"cannot write into the folder {parent}: {error.strerror}; choose another with "
                "[option:output]"
            ) from error

    def _save(self) -> None:
        temporary = self.path(f"{JOURNAL}.new")
        temporary.write_text(json.dumps(asdict(self.entries), indent=1) + "\n", encoding="utf-8")
        _to_disk(temporary)
        temporary.replace(self.path(JOURNAL))
        _to_disk(self.folder)

    def _whole(self, parts: tuple[Part, ...]) -> list[Part]:
        """Return the parts up to the first one that was changed or is missing."""
        whole = []
        for part in parts:
            path = self.path(part.name)
            if not path.is_file() or path.stat().st_size != part.bytes or sha256_of(path) != part.sha256:
                break
            whole.append(part)
        return whole

    def _refuse_other_settings(self, then: dict[str, str], now: dict[str, str]) -> None:
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        if names:
            changes = "; ".join(f"{name} was {then.get(name)}, now {now.get(name)}" for name in names)
            raise OutputError(
                f"the unfinished job in {self.folder} was started with other settings ({changes}); "
                "give the same ones, or start anew with [option:force] and without [option:resume]"
            )

    def _forget_strangers(self) -> None:
        """Delete files that a crash left unfinished."""
        known = {part.name for part in self.entries.parts} | {JOURNAL, LOCK}
        if self.entries.state == JOINED:
            known.add(self.output.name)
        for path in self.folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def parts_folder(output: Path) -> Path:
    """Return the folder of the parts of a result until it is finished."""
    return output.with_name(f"{output.name}.parts")


def unfinished(output: Path) -> bool:
    """Return whether there is a job to resume. A folder without a journal is left from a crash and is
    deleted."""
    folder = parts_folder(output)
    if read_journal(folder) is not None:
        return True
    if not _strangers(folder, output):
        shutil.rmtree(folder, ignore_errors=True)
    return False


def _strangers(folder: Path, output: Path) -> list[str]:
    """Return the names in a folder that no job has put there."""
    if not folder.is_dir():
        return []
    own = (output.name, f".{output.stem}-")  # the joined result, finished and under way
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if not (OWN_NAMES.fullmatch(name) or name.startswith(own))]


def read_journal(folder: Path) -> Entries | None:
    """Read the journal of a folder; None if it has none. Raises OutputError for one that cannot be used."""
    try:
        values: dict[str, Any] = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot read {folder / JOURNAL}: {error}; delete {folder} and start anew"
        ) from error
    try:
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is {values['schema']}, this program writes {SCHEMA}")
        if values["state"] not in STATES:
            raise ValueError(f"its state is {values['state']!r}")
        return Entries(**{**values, "parts": tuple(Part(**part) for part in values["parts"])})
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"cannot use {folder / JOURNAL}: {error}; delete {folder} and start anew"
        ) from error


def _to_disk(path: Path) -> None:
    """Flush a file or folder to the disk; folders are skipped on systems that cannot do it for them."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
