"""Errors that the user can fix.

    MstError
    ├── InvalidArgument      a value that cannot be used
    ├── InputError           a file that cannot be read: missing, wrong kind, damaged, unsupported
    │   └── BundleError      a model bundle or style that is damaged, stale or foreign
    ├── OutputError          a file that cannot be written
    ├── BackendError         a runtime that cannot do what was asked on this machine
    │   └── MissingDependency   ... because a package is not installed
    ├── VerificationError    a result that failed its own check and was not kept
    └── NoisyMachine         a measurement that other programs or an unsteady clock have spoiled

Messages say what failed, what was found and what to do. Where one names an option it is written
``[option:sample_every]``, and a command as ``[mst build: size=640x360, force]``: in Python a message reads
``sample_every`` and ``mst build (size=640x360, force)``; the command line prints both as they are typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Self

OPTION = re.compile(r"\[option:([a-z_]+)\]")
COMMAND = re.compile(r"\[(mst [a-z -]+): ([^\]]*)\]")


class Message(str):
    """Text for people that names options: a str in Python's spelling, with the template it came from."""

    template: str

    def __new__(cls, template: str) -> Self:
        source = template_of(template)
        text = COMMAND.sub(r"\1 (\2)", OPTION.sub(r"\1", source))
        message = super().__new__(cls, text)
        message.template = source
        return message


def template_of(text: str) -> str:
    """Return the template of a message; other text is returned as it is."""
    return text.template if isinstance(text, Message) else text


def with_options(text: str, spelled: Callable[[str], str]) -> str:
    """Return a message or template with each option spelled by ``spelled`` and commands in full.

    >>> with_options("[mst build: size=640x360, force]", lambda name: f"/{name}")
    'mst build /size 640x360 /force'
    """

    def command(found: re.Match[str]) -> str:
        parts = (part.partition("=") for part in found[2].split(", "))
        return " ".join([found[1], *(f"{spelled(name)} {value}".rstrip() for name, _, value in parts)])

    return COMMAND.sub(command, OPTION.sub(lambda found: spelled(found[1]), template_of(text)))


class MstError(Exception):
    """Base class of all errors with a message meant for people."""

    def __init__(self, message: str = "") -> None:
        super().__init__(Message(message))


class InvalidArgument(MstError, ValueError):
    """An argument outside what the function accepts.

    ``field`` is the name of the argument, empty if there is no single one; ``problem`` says what is wrong
    with it, ``hint`` what to do. The message is ``problem; hint``; one text alone is all problem.
    """

    def __init__(self, message: str = "", *, field: str = "", problem: str = "", hint: str = "") -> None:
        self.field, self.problem, self.hint = field, Message(problem or message), Message(hint)
        super().__init__("; ".join(template_of(part) for part in (self.problem, self.hint) if part))


class InputError(MstError):
    """A file that cannot be read: missing, of the wrong kind, damaged or unsupported."""


class BundleError(InputError):
    """A model bundle or a style file that cannot be trusted."""


class OutputError(MstError):
    """A file that cannot be written."""


class BackendError(MstError):
    """A runtime or device that cannot do what was requested."""


class MissingDependency(BackendError):
    """A package that is not installed; the message contains the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra = package, extra
        wanted = f"'mst-deploy[{extra}]'" if extra else "mst-deploy"
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"install it with: pip install {wanted}"
        )


class VerificationError(MstError):
    """A check at the end of a job failed; nothing was written."""


class NoisyMachine(MstError):
    """Times that vary too much to be reported."""


def error_line(error: BaseException, worded: Callable[[str], str] = str) -> str:
    """Return message and notes of an error in one line; ``worded`` turns each of them into plain text."""
    message = error.args[0] if isinstance(error, MstError) and error.args else str(error)
    parts = (message, *getattr(error, "__notes__", ()))
    return "; ".join(" ".join(worded(part).split()) for part in parts)
