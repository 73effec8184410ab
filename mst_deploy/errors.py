"""Every error that is the user's to fix. The command line prints its message and exits with 1, or with 2
for an argument that cannot be used (``exit_code``).

    MstError
    ├── InvalidArgument      a value that cannot be used
    ├── InputError           a file that cannot be read: missing, wrong kind, damaged, unsupported
    │   └── BundleError      a model bundle or style that is damaged, stale or foreign
    ├── OutputError          a file that cannot be written
    ├── BackendError         a runtime that cannot do what was asked on this machine
    │   └── MissingDependency   ... because a package is not installed
    ├── VerificationError    a result that failed its own check and was not kept
    └── NoisyMachine         a measurement that other programs or an unsteady clock have spoiled

Messages say what failed, what was found and what to do.
"""

from __future__ import annotations


class MstError(Exception):
    """Base of all errors with a message meant for people."""


class InvalidArgument(MstError, ValueError):
    """An argument outside what the function accepts."""


class InputError(MstError):
    """A file that cannot be read as what it should be."""


class BundleError(InputError):
    """A model bundle or a style file that cannot be trusted."""


class OutputError(MstError):
    """A file that cannot be written."""


class BackendError(MstError):
    """A runtime or device that is not what was asked for."""


class MissingDependency(BackendError):
    """A package that is not installed; the message carries the line that installs it."""

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


def exit_code(error: MstError) -> int:
    """Return the exit code for an error: 2 for wrong usage, as the option parser does, else 1."""
    return 2 if isinstance(error, InvalidArgument) else 1


def error_line(error: BaseException) -> str:
    """Message and notes of an error in one line."""
    return "; ".join(" ".join(str(part).split()) for part in (error, *getattr(error, "__notes__", ())))
