"""The table of commands against the commands themselves, and what a call imports."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest
from typer.main import get_command

from mst_deploy.cli import app
from mst_deploy.cli.commands import COMMANDS, Command, Group


def commands(table: Mapping[str, Command | Group], words: str = "mst") -> Iterator[tuple[str, Command]]:
    """Yield every command of the table by its full name."""
    for word, entry in table.items():
        if isinstance(entry, Group):
            yield from commands(entry.commands, f"{words} {word}")
        else:
            yield f"{words} {word}", entry


def first_paragraph(docstring: str) -> str:
    return " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())


def test_summaries_are_the_beginnings_of_docstrings() -> None:
    found = {}
    for name, command in commands(COMMANDS):
        module, function = command.function.split(":")
        found[name] = first_paragraph(getattr(import_module(f"mst_deploy.cli.{module}"), function).__doc__)
    assert found == {name: command.summary for name, command in commands(COMMANDS)}
    assert len(found) == 31


def test_loaded_commands_have_their_names_and_the_whole_help() -> None:
    program: Any = get_command(app)
    for name, command in commands(COMMANDS):
        loaded = program
        for word in name.split()[1:]:
            loaded = loaded.commands[word]
        assert loaded.name == name.split()[-1]
        assert first_paragraph(loaded.help) == command.summary


@pytest.mark.parametrize(
    ("arguments", "loaded", "modules"),
    [
        (["--help"], [], 12),
        (["style", "--help"], [], 12),
        (["no-such-command"], [], 12),
        (["train", "joint", "--help"], ["train"], 30),
    ],
)
def test_a_call_imports_no_command_but_its_own(arguments: list[str], loaded: list[str], modules: int) -> None:
    code = (
        f"import json, sys; sys.argv = ['mst', *{arguments!r}]\n"
        "from mst_deploy.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('mst_deploy')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    homes = {command.function.split(":")[0] for _, command in commands(COMMANDS)}
    assert [name for name in sorted(homes) if f"mst_deploy.cli.{name}" in found] == loaded
    assert len(found) <= modules
