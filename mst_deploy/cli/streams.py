"""Standard output and error set up for terminals, pipes and files of every encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress


def escape_unprintable() -> None:
    """Write characters that a terminal or pipe cannot encode as escapes, so that no message fails."""
    codecs.register_error("mst.escape", escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mst.escape")


def escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Handle encoding errors: write bytes of a file's name as they are, the rest as ``\uXXXX``.

    Where Python takes the file system for ASCII, names are the bytes that the terminal may well show. What is
    no UTF-8 is escaped like a character, so that JSON stays JSON.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    with suppress(UnicodeError):
        name = text.encode("ascii", "surrogateescape")
        name.decode("utf-8")
        return name, error.end
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{code}" for code in codes), error.end


def flush_output() -> None:
    """Flush the standard output.

    Raises OutputError when that fails; unwritten data is dropped, or Python would try again at exit.
    """
    if sys.stdout is None:  # closed by whoever started the program
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        from mst_deploy.cli.console import output_failed  # here, because it loads what draws progress

        raise output_failed(error) from error
