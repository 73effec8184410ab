"""Files of the service: styles and clips that were uploaded, and what videos became. All have random names.

FOLDER/styles/ID.safetensors     ID is the SHA-256 of the picture, so the same picture is one style
FOLDER/clips/ID/clip             an upload
FOLDER/jobs/ID/                  job.json, the result, and the parts of an unfinished one
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from mst_deploy.errors import BundleError, InvalidArgument, OutputError
from mst_deploy.model.film import STYLE_SUFFIX, Style, load_style, save_style
from mst_deploy.serve.problems import Refused

if TYPE_CHECKING:
    from mst_deploy.serve.limits import Limits

ID = re.compile(r"[0-9a-f]{32}")
PARTS = ("styles", "clips", "jobs")


def new_id() -> str:
    """Return a name that cannot be guessed: 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


class Library:
    """The folder of one service, held by one process at a time. A context manager."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        try:
            for part in PARTS:
                (folder / part).mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise OutputError(
                f"cannot write into {folder}: {error.strerror}; choose another with [option:folder]"
            ) from error
        self.lock = FileLock(folder / "lock")

    def __enter__(self) -> Self:
        try:
            self.lock.acquire(timeout=5)
        except Timeout:
            raise OutputError(
                f"another service uses {self.folder}; end it, or choose another with [option:folder]"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    def clip(self, identity: str) -> Path:
        """Return an uploaded clip, which counts as used now. Raises Refused (404)."""
        return self._found("clips", identity, "clip")

    def job(self, identity: str) -> Path:
        """Return the folder of a job, there or not. Raises Refused (404) for what can be no name of one."""
        return self.folder / "jobs" / _checked(identity)

    def new_clip(self) -> Path:
        """Return the path for a new upload; its folder is made."""
        path = self.folder / "clips" / new_id() / "clip"
        path.parent.mkdir()
        return path

    @staticmethod
    def discard(clip: Path) -> None:
        """Delete an uploaded clip with all that is beside it."""
        shutil.rmtree(clip.parent, ignore_errors=True)

    def style(self, identity: str) -> Style | None:
        """Return an uploaded style, which counts as used now; None if there is none of that name."""
        if not ID.fullmatch(identity):
            return None
        path = self.folder / "styles" / f"{identity}{STYLE_SUFFIX}"
        if not path.is_file():
            return None
        with suppress(OSError):
            path.touch()
        return load_style(path)

    def styles(self, model_id: str) -> dict[str, Style]:
        """Return the uploaded styles of a model by their ids, oldest first."""
        found = {}
        for path in sorted((self.folder / "styles").glob(f"*{STYLE_SUFFIX}"), key=_used):
            with suppress(BundleError):
                style = load_style(path)
                if style.model_id == model_id:
                    found[path.stem] = style
        return found

    def add_style(self, identity: str, style: Style) -> None:
        """Keep an uploaded style."""
        save_style(self.folder / "styles" / f"{identity}{STYLE_SUFFIX}", style)

    def require_space(self) -> None:
        """Raise Refused (507) when the files of the service have reached their limit."""
        if sum(_sizes(self.folder)) >= self.limits.quota:
            raise Refused(
                507, "the service holds as many files as it may", "delete results, or wait", retry=60
            )

    def expire(self, in_use: Callable[[Path], bool], now: float | None = None) -> int:
        """Delete what was not used for ``limits.keep`` seconds; return how many things."""
        limit = (time.time() if now is None else now) - self.limits.keep
        old = [
            path
            for part in PARTS
            for path in (self.folder / part).iterdir()
            if _used(path) < limit and not in_use(path)
        ]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(old)

    def _found(self, part: str, identity: str, name: str) -> Path:
        path = self.folder / part / _checked(identity) / name
        if not path.is_file():
            raise Refused(404, f"there is no such {name}", "it may have been deleted after its time")
        with suppress(OSError):
            path.parent.touch()
        return path


def _checked(identity: str) -> str:
    if not ID.fullmatch(identity):
        raise Refused(404, "there is nothing of that name")
    return identity


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return time.time()


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                yield path.stat().st_size


def unknown_style(name: str, known: list[str]) -> InvalidArgument:
    """Return the error for a style that is neither shipped nor uploaded."""
    return InvalidArgument(
        field="style",
        problem=f"there is no style {name[:100]!r}",
        hint=f"shipped are {', '.join(known)}; others are uploaded first",
    )
