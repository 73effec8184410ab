"""Every option of the commands with many is in a group, and no group names an option that is gone."""

from __future__ import annotations

import pytest
from typer.main import get_command

from mst_deploy.cli import app
from mst_deploy.cli.panels import PANELS, PanelCommand

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PANELED = {name: command for name, command in COMMANDS.items() if isinstance(command, PanelCommand)}
NAMES = [name for names in PANELS.values() for name in names.split()]


def test_the_commands_with_many_options_have_groups() -> None:
    many = {name for name, command in COMMANDS.items() if len(command.params) > 20}
    assert many <= set(PANELED) == {"image", "sheet", "video", "batch", "live"}


@pytest.mark.parametrize("name", PANELED)
def test_every_option_is_in_a_group(name: str) -> None:
    for parameter in PANELED[name].params:
        if parameter.param_type_name == "option":
            assert parameter.rich_help_panel in PANELS, parameter.name  # type: ignore[attr-defined]


def test_no_group_names_an_option_that_is_gone() -> None:
    assert len(NAMES) == len(set(NAMES))
    known = {parameter.name for command in PANELED.values() for parameter in command.params}
    assert set(NAMES) <= known
