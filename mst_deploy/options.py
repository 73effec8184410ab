"""Description of a field that people can set: how the command line offers it.

Options are frozen dataclasses of the package that uses them. The type and the default of an option are those
of the field, the rest is said beside the type::

    @dataclass(frozen=True)
    class SheetOptions:
        size: Annotated[int, Option("Long side of each picture, in pixels.", minimum=32)] = 480

``cli.signature`` makes a command of it; nothing here or in those packages knows how options are typed. A help
text names other options as messages do, see ``errors``. Fields without an :class:`Option` are not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

INPUT_OUTPUT = "Input and output"
STYLE = "Style"
STROKES = "Strokes"
VIDEO = "Video"
MODEL = "Model and device"
MESSAGES = "Messages"


@dataclass(frozen=True)
class Option:
    """How a field of an options dataclass is offered to people."""

    help: str
    group: str = ""
    """Heading under which the help shows it."""
    metavar: str | None = None
    """Placeholder of the value in the help; None for the name in capitals."""
    minimum: float | None = None
    maximum: float | None = None
    parse: Callable[[str], object] | None = None
    """Function from the text that was typed to the value, or to one value of a tuple. Raises
    InvalidArgument."""
    separator: str = ""
    """Character between the values of a tuple that are given as one text. Without it the option is given
    once for each value."""
    name: str = ""
    """Name of the option where it is not that of the field: ``size`` for a field ``sizes`` that is given
    several times."""
    letter: str = ""
    """Letter that stands for it."""
    positional: bool = False
    """Whether it is an argument, given by its position."""
