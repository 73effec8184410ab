"""Renamed options and commands: an old command line is answered with the new name."""

from __future__ import annotations

from collections.abc import Sequence

OPTIONS = {
    "--steady": "--deflicker",
    "--outside": "--background-style",
    "--every": "--sample-every",
    "--hw": "--hwaccel",
    "--tune": "--optimize-style",
    "--tune-once": "--optimize-once",
    "--narrow": "--prune-from",
    "--within": "--ci-width",
    "--load": "--max-load",
    "--least": "--min-runs",
    "--each": "--pairs-per-style",
    "--most": "--max-pairs",
}
COMMANDS = {
    ("style", "tune"): "mst style optimize",
    ("train", "retouch"): "mst train finetune-artifacts",
    ("eval", "photographs"): "mst eval identity",
    ("eval", "gatys"): "mst eval optimum",
}
STILL_VALID = {("eval", "sheet"): {"--each"}}


def renamed(arguments: Sequence[str]) -> str:
    """Return the message for the first old name among the arguments (without the program's name); "" for
    none."""
    group, name, *_ = (*arguments, "", "")
    command = (group, name)
    if command in COMMANDS:
        return f"'mst {' '.join(command)}' is now called '{COMMANDS[command]}'"
    for argument in arguments:
        if argument == "--":
            break
        option = argument.partition("=")[0]
        if option in OPTIONS and option not in STILL_VALID.get(command, ()):
            return f"the option {option} is now called {OPTIONS[option]}"
    return ""
