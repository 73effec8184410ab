"""Write docs/cli.md, every command with its arguments and options, from the program itself.

    python -m tools.docs.make_cli [--check]

With ``--check`` nothing is written and the exit code says whether the document is up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer

from mst_deploy.cli import app
from tools.docs import DOCS

FILE = DOCS / "cli.md"
HEAD = """# Command line

All commands of `mst` with their arguments, options and defaults. This page is made from the program by
`python -m tools.docs.make_cli`; `mst COMMAND --help` prints the same.

Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted.
"""
EXTRA = re.compile(r"  \[([^\[\]]+)\]$")  # click appends default, range and "required" to the help


def main() -> None:
    """Write the document, or compare it with the program."""
    made = document()
    current = FILE.is_file() and FILE.read_text(encoding="utf-8") == made
    print("up to date" if current else f"out of date: {FILE.name}")
    if not current and "--check" in sys.argv:
        raise SystemExit(1)
    FILE.write_text(made, encoding="utf-8")


def document() -> str:
    """Return the whole page as Markdown."""
    commands = dict(walk(typer.main.get_command(app), "mst"))
    rows = [f"| [`{name}`](#{anchor(name)}) | {summary(command)} |" for name, command in commands.items()]
    index = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return "\n".join([HEAD, index, "", *(section(name, command) for name, command in commands.items())])


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) of every command without subcommands, in the order of ``--help``."""
    if hasattr(command, "commands"):
        for child in command.list_commands(command.context_class(command)):
            yield from walk(command.commands[child], f"{name} {child}")
    elif not command.hidden:
        yield name, command


def anchor(heading: str) -> str:
    """Return the link target that Markdown viewers give a heading of words and hyphens."""
    return heading.replace(" ", "-")


def summary(command: Any) -> str:
    """Return the first sentence of the help."""
    return cell(re.split(r"(?<=[.])\s", command.help.strip(), maxsplit=1)[0].rstrip("."))


def section(name: str, command: Any) -> str:
    """Return the section of a command: help, usage, and a table of its parameters for each panel of
    ``--help``."""
    context = command.context_class(command, info_name=name)
    shown = [parameter for parameter in command.params if parameter.get_help_record(context) is not None]
    panels: dict[str, list[str]] = {}
    for parameter in shown:
        panel = getattr(parameter, "rich_help_panel", None) or ""
        panels.setdefault(panel, []).append(row(parameter, context))
    usage = " ".join(
        [name, "[OPTIONS]"]
        + [spelled(parameter) for parameter in shown if parameter.param_type_name == "argument"]
    )
    paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n", command.help.strip())]
    parts = [f"## {name}", *paragraphs, f"```\n{usage}\n```"]
    for panel, rows in panels.items():
        head = ["| argument or option | meaning | default; range |", "|---|---|---|"]
        parts += [f"**{panel}**"] if panel else []
        parts.append("\n".join([*head, *rows]))
    return "\n\n".join(parts) + "\n"


def row(parameter: Any, context: Any) -> str:
    """Return one line of a table: names with the placeholder of the value, help, default and range."""
    _, text = parameter.get_help_record(context)
    extra = EXTRA.search(text)
    facts = extra[1].split("; ") if extra else []
    facts = [fact.removeprefix("default: ") for fact in facts]
    help_text = text[: extra.start()] if extra else text
    return f"| {names(parameter)} | {cell(help_text)} | {cell('; '.join(facts))} |"


def names(parameter: Any) -> str:
    """Return the names: ``-o``, ``--output OUTPUT``; for a switch that can be turned off, both names."""
    if parameter.param_type_name == "argument":
        return f"`{cell(spelled(parameter))}`"
    options = sorted(parameter.opts, key=lambda name: name.startswith("--"))
    value = "" if parameter.is_flag else f" {spelled(parameter)}"
    together = ", ".join(f"`{name}`" for name in [*options[:-1], f"{options[-1]}{value}"])
    off = ", ".join(f"`{name}`" for name in parameter.secondary_opts)
    return cell(f"{together} or {off}" if off else together)


def spelled(parameter: Any) -> str:
    """Return the placeholder of a value: the program's name for it, in brackets if optional."""
    chosen = str(parameter.metavar or parameter.name.upper())
    if parameter.param_type_name != "argument":
        return chosen
    if parameter.nargs == -1 and not chosen.endswith("..."):
        chosen += "..."
    return chosen if parameter.required or chosen.startswith("[") else f"[{chosen}]"


def cell(text: str) -> str:
    """Return text escaped for one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    main()
