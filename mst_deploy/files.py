"""Atomic writing of files and folders, cache folders, hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mst_deploy.errors import OutputError

LOCK = ".lock"
RANDOM = 8  # letters that tempfile puts behind a prefix


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, delete it on any error.

    Works for files and folders. The temporary name keeps the suffix. A symbolic link is followed. Raises
    OutputError if the folder is not writable.
    """
    path = followed(Path(path))
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")
    with hidden_folder(path.parent, path.stem) as folder:
        try:
            temporary = folder / path.name
            yield temporary
            if temporary.is_file():  # some writers make private files; use what open() would have given
                temporary.chmod(0o666 & ~_umask())
            if path.is_dir() and temporary.is_dir():
                path.replace(folder / "previous")
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def hidden_folder(parent: Path, stem: str) -> Iterator[Path]:
    """Create a folder ``.STEM-...`` in ``parent`` for unfinished files; deleted when the block ends.

    Those of the same stem that a killed process left are deleted first: nobody holds the lock in them.
    Raises OutputError when ``parent`` cannot be written to.
    """
    from filelock import FileLock  # here, because help texts need this module, but no lock

    _clear_abandoned(parent, stem)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{stem}-", dir=parent))
    except OSError as error:
        raise OutputError(
            f"cannot write into the folder {parent}: {error.strerror}; choose another with [option:output]"
        ) from error
    lock = FileLock(folder / LOCK)
    try:
        with suppress(OSError, NotImplementedError):  # of file systems without locks nothing is cleared
            lock.acquire(timeout=0)
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def refuse_to_overwrite(path: Path, inputs: Iterable[Path], read: Iterable[Path] = ()) -> None:
    """Raise OutputError if ``path`` is one of the inputs, or of the other files that are read for it, by
    whatever name or link."""
    if not path.exists():
        return
    for what, files in (("the input itself", inputs), ("a style, mask or model that is read for it", read)):
        for other in files:
            if other.exists() and path.samefile(other):
                what = what if path == other else f"{other}, which is read for it"
                raise OutputError(f"the output {path} is {what}; choose another name with [option:output]")


def followed(path: Path) -> Path:
    """Return the file that a symbolic link leads to, there or not; other paths, and links to pipes, as they
    are."""
    leads_to_file = path.is_symlink() and (path.is_file() or not path.exists())
    return path.resolve() if leads_to_file else path


def _clear_abandoned(parent: Path, stem: str) -> None:
    """Delete hidden folders of this stem whose process is dead."""
    from filelock import FileLock

    try:
        found = [path for path in parent.iterdir() if path.name.startswith(f".{stem}-")]
    except OSError:
        return
    for folder in found:
        if len(folder.name) != len(f".{stem}-") + RANDOM or not (folder / LOCK).is_file():
            continue
        lock = FileLock(folder / LOCK)
        with suppress(OSError, NotImplementedError):  # Timeout, where it is in use, is an OSError
            lock.acquire(timeout=0)
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def user_cache(name: str) -> Path:
    """Return the folder mst/NAME in the user's cache folder. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "mst" / name


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def require_writable(path: Path, source: Path | None, *, force: bool, read: Iterable[Path] = ()) -> Path:
    """Return the path if it may be written.

    Raises OutputError when it exists, or is the input or one of the files that are ``read`` too, by whatever
    name or link.
    """
    refuse_to_overwrite(path, [] if source is None else [source], read)
    if path.exists() and not force:
        raise OutputError(
            f"{path} already exists; use [option:force] to overwrite it, or [option:output] for another name"
        )
    if path.is_dir() and not (path / "manifest.json").is_file():
        raise OutputError(f"{path} is a folder; give a file name")
    return path
