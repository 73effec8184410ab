"""Outputs that are written from the beginning to the end: standard output, named pipes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mst_deploy.errors import OutputError
from mst_deploy.video.demuxing import PIPE


class Unseekable:
    """Standard output, or a pipe, as a file for a muxer: it can be written but not sought.

    Raises OutputError for a terminal, and for outputs that cannot be opened.
    """

    def __init__(self, path: Path = PIPE) -> None:
        self.path, self.file = path, sys.stdout.buffer
        self.name = "the standard output" if path == PIPE else str(path)
        if path != PIPE:
            try:
                self.file = path.open("wb")
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}; check the name") from error
        if self.file.isatty():
            if path != PIPE:
                self.file.close()
            raise OutputError(
                f"{self.name} is a terminal, which cannot show a video; send it to a file or a "
                "program (> out.mkv, | ...), or name a file with [option:output]"
            )

    def write(self, data: bytes) -> int:
        """Write bytes. Raises OutputError when the reader has closed the pipe."""
        try:
            return self.file.write(data)
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # for what is still buffered
            raise OutputError(f"nobody reads {self.name} any more") from error

    def close(self) -> None:
        """Flush the buffer; the standard output itself stays open."""
        try:
            self.file.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
            raise OutputError(f"nobody reads {self.name} any more") from error
        finally:
            if self.path != PIPE:
                self.file.close()
