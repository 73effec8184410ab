"""How the command line spells what messages name: the options of fields, and exit codes."""

from __future__ import annotations

from mst_deploy.errors import InvalidArgument, MstError, error_line, with_options

FLAGS = {
    "output": "-o",
    "smallest": "--min",
    "typical": "--opt",
    "largest": "--max",
    "compiled": "--compile",
}
"""Options that are not called as their fields are."""


def flag(field: str) -> str:
    """``sample_every`` -> ``--sample-every``."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def worded(text: str) -> str:
    """A message with its options as they are typed."""
    return with_options(text, flag)


def one_line(error: BaseException) -> str:
    """Message and notes of an error in one line, as :func:`worded`."""
    return error_line(error, worded)


def exit_code(error: MstError) -> int:
    """Return the exit code for an error: 2 for wrong usage, as the option parser does, else 1."""
    return 2 if isinstance(error, InvalidArgument) else 1
