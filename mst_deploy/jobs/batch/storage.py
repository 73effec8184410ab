"""Where results and unfinished work of a batch are: a folder, or a remote store by the package fsspec.

A name is relative to the folder of the results. Files appear whole or not at all: they are written under
another name first. Of stores without renaming (S3), single files are atomic anyway.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from mst_deploy.errors import InputError, MissingDependency, OutputError

T = TypeVar("T")
PAUSES = (0.2, 1.0, 5.0)
"""Seconds before an operation of a remote store that failed is tried again."""
PROBE = ".mst-batch-probe"
PERMANENT = (ENOSPC, EDQUOT, EROFS)


class StorageError(OutputError):
    """Storage that takes or gives nothing any more: no result can be written there."""


class Storage(Protocol):
    """A folder of results."""

    url: str
    local: Path | None
    """The folder, where it is on this machine or a shared disk; None for a remote store."""

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError, StorageError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file. Raises StorageError."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not be there yet; return False if it is. Raises StorageError."""
        ...

    def put(self, path: Path, name: str) -> None:
        """Move a file of this machine into the storage. Raises StorageError."""
        ...

    def get(self, name: str, path: Path) -> Path:
        """Return a file of this machine with the content of a name: ``path``, or the file itself. Raises
        FileNotFoundError, StorageError."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size in bytes; None for a file that is not there. Raises StorageError."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, without it; none if it is not there."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file or folder, if it is there."""
        ...


def is_url(name: str) -> bool:
    """Return whether a name is that of a remote store (``s3://bucket/folder``)."""
    return "://" in name


def open_storage(url: str) -> Storage:
    """Open the folder of results; it is created by the first file. Raises MissingDependency, StorageError."""
    return RemoteStorage(url) if is_url(url) else LocalStorage(Path(url))


def probe(storage: Storage) -> None:
    """Write and delete a small file. Raises StorageError for storage that cannot be written to."""
    name = f"{PROBE}-{uuid.uuid4().hex[:8]}"
    data = name.encode()
    storage.write(name, data)
    if storage.read(name) != data:
        raise StorageError(f"{storage.url} gives back other bytes than were written; choose another storage")
    storage.remove(name)


class LocalStorage:
    """A folder of this machine, or of a disk that all machines have under the same name."""

    def __init__(self, folder: Path) -> None:
        self.local: Path | None = folder
        self.folder, self.url = folder, str(folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        self._replacing(name, lambda path: path.write_bytes(data))

    def create(self, name: str, data: bytes) -> bool:
        path = self._parent_of(name)
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        except OSError as error:
            raise _failed(self.url, error) from error
        return True

    def put(self, path: Path, name: str) -> None:
        target = self._parent_of(name)
        with suppress(OSError):
            path.replace(target)  # of the same disk
            return
        self._replacing(name, lambda temporary: shutil.copyfile(path, temporary))
        path.unlink(missing_ok=True)

    def get(self, name: str, path: Path) -> Path:
        found = self.folder / name
        if not found.is_file():
            raise FileNotFoundError(found)
        return found

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            return [path.name for path in (self.folder / folder).iterdir() if path.is_file()]
        except OSError:
            return []

    def remove(self, name: str) -> None:
        path = self.folder / name
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _parent_of(self, name: str) -> Path:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(self.url, error) from error
        return path

    def _replacing(self, name: str, write: Callable[[Path], Any]) -> None:
        path = self._parent_of(name)
        temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
        try:
            try:
                write(temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self.url, error) from error


class RemoteStorage:
    """A folder of a store that fsspec reaches: s3://, gs://, az://, sftp://, memory://."""

    def __init__(self, url: str, pauses: tuple[float, ...] = PAUSES) -> None:
        self.local: Path | None = None
        self.url, self.pauses = url.rstrip("/"), pauses
        self.files, self.root = filesystem(self.url)

    def read(self, name: str) -> bytes:
        return bytes(self._tried(lambda: self.files.cat_file(self._path(name))))

    def write(self, name: str, data: bytes) -> None:
        self._tried(lambda: self._placed(name, lambda path: self.files.pipe_file(path, data)))

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        self._tried(lambda: self.files.makedirs(_parent(path), exist_ok=True))
        try:
            self._tried(lambda: self.files.pipe_file(path, data, mode="create"))
        except FileExistsError:
            return False
        return True

    def put(self, path: Path, name: str) -> None:
        self._tried(lambda: self._placed(name, lambda temporary: self.files.put_file(str(path), temporary)))
        path.unlink(missing_ok=True)

    def get(self, name: str, path: Path) -> Path:
        self._tried(lambda: self.files.get_file(self._path(name), str(path)))
        return path

    def size(self, name: str) -> int | None:
        try:
            return int(self._tried(lambda: self.files.info(self._path(name)))["size"])
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        path = self._path(folder)

        def listed() -> list[dict[str, Any]]:
            self.files.invalidate_cache(path)
            return list(self.files.ls(path, detail=True))

        try:
            return [PurePosixPath(e["name"]).name for e in self._tried(listed) if e["type"] == "file"]
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError, StorageError):
            self._tried(lambda: self.files.rm(self._path(name), recursive=True))

    def _placed(self, name: str, write: Callable[[str], Any]) -> None:
        """Write under a temporary name, then move."""
        path = self._path(name)
        parent = _parent(path)
        self.files.makedirs(parent, exist_ok=True)
        temporary = f"{parent}/.{uuid.uuid4().hex[:8]}-{PurePosixPath(path).name}"
        try:
            write(temporary)
            self.files.mv(temporary, path)
        except BaseException:
            with suppress(Exception):
                self.files.rm(temporary)
            raise

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _tried(self, operation: Callable[[], T]) -> T:
        """Return what an operation gives, tried again after pauses. Raises FileNotFoundError,
        FileExistsError, StorageError."""
        for pause in (*self.pauses, None):
            try:
                return operation()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:  # every store has exceptions of its own
                final = isinstance(error, PermissionError) or getattr(error, "errno", None) in PERMANENT
                if pause is None or final:
                    raise _failed(self.url, error) from error
                time.sleep(pause)
        raise AssertionError  # the last pause is None


def filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it. Raises MissingDependency, StorageError."""
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MissingDependency("fsspec", "batch", url) from error
    scheme = url.partition("://")[0]
    try:
        files, path = fsspec.url_to_fs(url)
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}.get(scheme)
        hint = f"install it with: pip install {package}" if package else f"{error}"
        raise StorageError(f"{url} needs a package of fsspec for {scheme}://; {hint}") from error
    except ValueError as error:
        raise StorageError(f"cannot use {url}: {error}") from error
    return files, path.rstrip("/")


def identity_of(source: str) -> str:
    """Return text that changes when a source changes, without reading it. Raises InputError."""
    if not is_url(source):
        try:
            file = Path(source).stat()
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror}; check the name") from error
        return f"{file.st_size} bytes, changed at {file.st_mtime_ns} ns"
    files, path = filesystem(source)
    try:
        files.invalidate_cache()
        facts = files.info(path)
    except FileNotFoundError as error:
        raise InputError(f"{source} does not exist; check the name") from error
    except Exception as error:  # every store has exceptions of its own
        raise InputError(f"cannot read {source}: {error}") from error
    stamps = [str(facts[key]) for key in ("ETag", "etag", "LastModified", "mtime", "created") if key in facts]
    return f"{facts['size']} bytes, {', '.join(stamps)}"


def fetch(source: str, path: Path) -> None:
    """Copy a remote source to a file of this machine. Raises InputError."""
    files, name = filesystem(source)
    try:
        files.get_file(name, str(path))
    except Exception as error:  # every store has exceptions of its own
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(f"cannot read {source}: {reason}") from error


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _failed(url: str, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StorageError(
        f"cannot use the storage {url}: {reason}; make room or check its permissions, then run the same "
        "command again"
    )
