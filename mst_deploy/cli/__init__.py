"""The command line: ``mst``. Commands parse, call the library, print; nothing heavy is imported here.

Exit codes: 0 done; 1 an error, reported in one line on stderr; 2 a wrong option or argument; 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from mst_deploy import __version__
from mst_deploy.cli.commands import COMMANDS
from mst_deploy.cli.errors import exit_code, one_line
from mst_deploy.cli.lazy import LazyGroup
from mst_deploy.cli.renamed import renamed
from mst_deploy.cli.streams import escape_unprintable, flush_output
from mst_deploy.errors import MissingDependency, MstError


class Root(LazyGroup):
    """``mst`` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(entries=COMMANDS, **settings)


app = typer.Typer(
    name="mst",
    cls=Root,
    help="Render videos and pictures in the style of any painting.",
    epilog="Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"mst {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Render videos and pictures in the style of any painting."""


def main() -> None:
    """Run the command line: errors meant for people become one line and exit code 1, or 2 for wrong usage."""
    escape_unprintable()
    if hint := renamed(sys.argv[1:]):
        _fail(hint, 2)
    try:
        try:
            app()
        except SystemExit:  # as every command ends, also a good one
            flush_output()
            raise
    except MstError as error:
        _fail(one_line(error), exit_code(error))
    except ModuleNotFoundError as error:
        from mst_deploy.cli.options import CORE

        missing = (error.name or "").partition(".")[0]
        if missing not in CORE:
            raise
        _fail(str(MissingDependency(missing, "", "this command")), 1)
    except OSError as error:  # a name that is too long, an output that takes no more
        _fail(one_line(error), 1)


def _fail(message: str, code: int) -> NoReturn:
    with suppress(OSError):
        print(f"mst: {message}", file=sys.stderr)
    with suppress(MstError):  # the first error is reported
        flush_output()
    raise SystemExit(code) from None
