"""``mst`` within this process or in one of its own: exit code, and what it wrote on stdout and stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from unittest.mock import patch

from mst_deploy.cli import main


def mst_process(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m mst_deploy ARGUMENTS``, for what only a process of its own shows."""
    return subprocess.run(
        [sys.executable, "-m", "mst_deploy", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=500,
        check=False,
    )


def mst(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``mst ARGUMENTS`` without the second that a process takes to start; exceptions that ``main`` lets
    through, which would be tracebacks, are let through."""
    words = ["mst", *map(str, arguments)]
    code: object = 0
    with TemporaryFile() as output, TemporaryFile() as errors:
        with ExitStack() as stack:
            stack.enter_context(patch.object(sys, "argv", words))
            stack.enter_context(patch.dict(os.environ, env or {}))
            if cwd is not None:
                stack.enter_context(chdir(cwd))
            stack.enter_context(redirected("stdout", 1, output))
            stack.enter_context(redirected("stderr", 2, errors))
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        assert isinstance(code, int)
        return subprocess.CompletedProcess(words, code, contents(output), contents(errors))


@contextmanager
def redirected(name: str, descriptor: int, file: IO[bytes]) -> Iterator[None]:
    """Send Python's stream ``name``, and the descriptor that libraries in C write to, to ``file``."""
    kept = os.dup(descriptor)
    getattr(sys, name).flush()
    os.dup2(file.fileno(), descriptor)
    try:
        with (
            open(descriptor, "w", encoding="utf-8", closefd=False) as stream,
            patch.object(sys, name, stream),
        ):
            yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def contents(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace(os.linesep, "\n")
