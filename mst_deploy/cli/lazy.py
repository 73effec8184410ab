"""Groups of commands of which a call loads only the one that it names."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from copy import copy
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mst_deploy.cli.commands import Command, Group


class LazyGroup(TyperGroup):
    """Group whose commands are imported, and their options made, when they are first asked for; its help is
    made of their summaries."""

    def __init__(self, *, entries: Mapping[str, Command | Group], **settings: Any) -> None:
        super().__init__(**settings)
        self.entries = entries
        self.commands = LoadedCommands(entries)

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help`` with a default that is a bool: Typer imports pydantic to convert any other."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.entries]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        listed = copy(self)
        listed.commands = {
            name: TyperCommand(name, help=entry.summary) for name, entry in self.entries.items()
        }
        super(LazyGroup, listed).format_help(ctx, formatter)


class LoadedCommands(UserDict[str, Any]):
    """Commands by name, each loaded when it is read."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, Command | Group):
            self.data[name] = found = load(name, found)
        return found


def load(name: str, entry: Command | Group) -> Any:
    """Return Typer's command or group of this name."""
    if isinstance(entry, Group):
        return LazyGroup(name=name, help=entry.summary, no_args_is_help=True, entries=entry.commands)
    from mst_deploy.cli.signature import expand_options

    module, _, function = entry.function.partition(":")
    alone = typer.Typer(add_completion=False)
    alone.command(name)(expand_options(getattr(import_module(f"mst_deploy.cli.{module}"), function)))
    return typer.main.get_command(alone)
