"""Tests of the hints for old names of options and commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from mst_deploy.cli import app
from mst_deploy.cli.renamed import COMMANDS, OPTIONS, renamed
from tests.command_line import mst


def every_command(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and commands of the program, groups included."""
    yield name.strip(), command
    for child, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, f"{name} {child}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["video", "a.mp4", "-s", "udnie", "--steady"], "the option --steady is now called --deflicker"),
        (["video", "a.mp4", "--every=2"], "the option --every is now called --sample-every"),
        (["style", "tune", "a.jpg"], "'mst style tune' is now called 'mst style optimize'"),
        (["train", "retouch"], "'mst train retouch' is now called 'mst train finetune-artifacts'"),
    ],
)
def test_old_names_are_answered_with_the_new_ones(old: list[str], new: str) -> None:
    result = mst(*old)
    assert (result.returncode, result.stderr.strip()) == (2, f"mst: {new}")


def test_an_option_that_is_left_where_it_was_is_no_old_name() -> None:
    assert renamed(["eval", "sheet", "--each"]) == ""
    assert renamed(["eval", "images", "--each", "2"]) != ""


def test_new_names_exist() -> None:
    """Every name that is offered in place of an old one is an option of some command, or a command."""
    commands = dict(every_command(get_command(app)))
    options = {option for command in commands.values() for p in command.params for option in p.opts}
    assert set(OPTIONS.values()) <= options
    assert set(COMMANDS.values()) <= {f"mst {name}" for name in commands}
    assert not {*OPTIONS} & (options - {"--each"})
