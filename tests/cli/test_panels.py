"""The help of commands with many options shows every one of them under a heading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from mst_deploy.cli import app
from mst_deploy.cli.signature import FEW


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command without subcommands by its full name."""
    if hasattr(command, "commands"):
        for word, sub in command.commands.items():
            yield from commands(sub, f"{name} {word}")
    else:
        yield name, command


FOUND = {
    name: {parameter.name: parameter.rich_help_panel for parameter in command.params}
    for name, command in commands(get_command(app), "mst")
}


def test_every_option_of_a_command_with_many_is_in_a_group() -> None:
    grouped = {name for name, panels in FOUND.items() if len(panels) > FEW}
    assert grouped >= {"mst image", "mst sheet", "mst video", "mst live", "mst train joint", "mst eval model"}
    arguments = {"inputs", "source", "sinks", "model", "clip", "more", "image"}
    for name in grouped:
        without = {option for option, panel in FOUND[name].items() if panel is None}
        assert without <= arguments, name


def test_a_command_with_few_options_has_one_list() -> None:
    assert set(FOUND["mst style list"].values()) == set(FOUND["mst style make"].values()) == {None}
