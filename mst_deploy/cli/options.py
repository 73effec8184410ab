"""Options that several commands share, and the check for packages that a command needs.

Dataclasses are for commands made by ``signature.expand_options``, the other options for functions that Typer
takes as they are, such as programs run with ``python -m``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.backends.options import BACKENDS_HELP, MODEL_HELP
from mst_deploy.cli.errors import exit_code, one_line
from mst_deploy.errors import MissingDependency, MstError
from mst_deploy.options import INPUT_OUTPUT, MESSAGES, Option
from mst_deploy.reporter import Reporter

CORE = ("av",)
"""Packages that are installed with the program itself although parts of it work without them: PyAV, for
videos."""
ModelOption = Annotated[str | None, typer.Option(metavar="MODEL", help=MODEL_HELP)]
BackendOption = Annotated[str, typer.Option(help=f"What runs the model: {BACKENDS_HELP}.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is an NVIDIA GPU.")]
VggOption = Annotated[
    Path | None, typer.Option(help="VGG-19: .pth or .safetensors. Default: downloaded once.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]


@dataclass(frozen=True)
class QuietOptions:
    """What a command without a result prints."""

    quiet: Annotated[bool, Option("Show nothing but errors.", MESSAGES, letter="q")] = False

    def reporter(self) -> Reporter:
        """Return the reporter of notes and progress on the terminal."""
        return terminal(quiet=self.quiet)


@dataclass(frozen=True)
class JsonOptions:
    """How a command prints its result."""

    as_json: Annotated[bool, Option("Print the result as one JSON object.", MESSAGES)] = False


@dataclass(frozen=True)
class MessageOptions:
    """What a command prints: notes and progress on stderr, the result on stdout."""

    quiet: Annotated[bool, Option("Show nothing but errors.", MESSAGES, letter="q")] = False
    as_json: Annotated[bool, Option("Print the result as one JSON object.", MESSAGES)] = False

    @property
    def silent(self) -> bool:
        """Return whether notes and progress are left out."""
        return self.quiet or self.as_json

    def reporter(self) -> Reporter:
        """Return the reporter of notes and progress on the terminal."""
        return terminal(quiet=self.silent)


@dataclass(frozen=True)
class LimitOptions:
    """Limits of what is read."""

    max_pixels: Annotated[
        int | None,
        Option(
            "Refuse pictures (inputs, styles, masks) of more pixels, before they are decoded. Default: "
            "300000000.",
            INPUT_OUTPUT,
            minimum=1,
        ),
    ] = None

    def applied(self) -> AbstractContextManager[None]:
        """Return a block in which larger pictures are refused."""
        from mst_deploy.images.files import MAX_PIXELS, limited_pixels

        return limited_pixels(self.max_pixels or MAX_PIXELS)


def run_alone(main: Callable[..., object]) -> None:
    """Run a module's own command line, for ``python -m``: errors meant for people are one line, as in
    ``mst``."""
    try:
        typer.run(main)
    except MstError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None


def terminal(*, quiet: bool) -> Reporter:
    """Return the reporter that shows notes and progress; Rich is imported only when it is used."""
    from mst_deploy.cli.console import Terminal

    return Terminal(quiet=quiet)


@contextmanager
def requires(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import of a package in the block into an error with the command that installs it.

    Raises MissingDependency that names the extra, unless the package comes with the program itself.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mst_deploy"):
            raise
        raise MissingDependency(missing, "" if missing in CORE else extra, purpose) from error
