"""Messages in the spelling of the command line: options for fields, and exit codes."""

from __future__ import annotations

from mst_deploy.errors import InvalidArgument, MstError, error_line, with_options

FLAGS = {
    "output": "-o",
    "as_json": "--json",
    "devices": "--list",
    "everything": "--all",
    "smallest": "--min",
    "typical": "--opt",
    "largest": "--max",
    "compiled": "--compile",
    "times": "--preview",
}
"""Options whose names differ from their fields."""


def flag(field: str) -> str:
    """Return the option of a field: ``sample_every`` -> ``--sample-every``."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def worded(text: str) -> str:
    """Return a message with its options as they are typed."""
    return with_options(text, flag)


def one_line(error: BaseException) -> str:
    """Return message and notes of an error in one line, each as by :func:`worded`."""
    return error_line(error, worded)


def exit_code(error: MstError) -> int:
    """Return the exit code for an error: 2 for wrong usage, as the option parser does, else 1."""
    return 2 if isinstance(error, InvalidArgument) else 1
