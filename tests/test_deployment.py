"""The container file and the systemd unit: what they start exists, and what they copy is what is needed."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import Any

import pytest
from typer.main import get_command

from mst_deploy.cli import app
from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
UNIT = (ROOT / "docs" / "mst-serve.service").read_text("utf-8")
GUIDE = (ROOT / "docs" / "deployment.md").read_text("utf-8")


def commands() -> list[list[str]]:
    """Return every ``mst`` command with its arguments."""
    default = re.search(r'^CMD (\["serve".*\])$', DOCKERFILE, re.MULTILINE)
    started = re.findall(r"/opt/mst/bin/mst ([^`\n]+)", UNIT + GUIDE)
    shown = re.findall(r"mst-data:/data mst \\\n +(serve [^\n]+)", GUIDE)
    assert default
    assert len(started) == 2
    assert len(shown) == 1
    return [json.loads(default[1]), *(shlex.split(line) for line in started + shown)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_what_is_started_exists(words: list[str]) -> None:
    """Parsed by the command itself, without running it."""
    program: Any = get_command(app)
    name, *arguments = words
    program.commands[name].make_context(name, [word.replace("%d/", "/run/") for word in arguments])
    assert "0.0.0.0" not in arguments or "--token" in arguments


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    folders = settings["tool"]["setuptools"]["package-dir"].values()
    needed = {folder.split("/")[0] for folder in folders} | {"mst_deploy", "pyproject.toml"}
    needed |= {settings["project"]["readme"], *settings["project"]["license-files"], "constraints.txt"}
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == needed


def test_nobody_is_root() -> None:
    """Each target ends as the user that the first stage made; the unit has a user of its own."""
    targets = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    user = re.search(r"useradd --uid (\d+)", DOCKERFILE)
    assert user
    assert [stage.split()[2] for stage in targets] == ["wheel", "base", "cuda", "cpu"]
    assert all(stage.rstrip().endswith(f"USER {user[1]}") for stage in targets[2:])
    assert "DynamicUser=yes" in UNIT
    extras = set(re.findall(r"\[([a-z,]+)\]\"", DOCKERFILE))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {name for each in extras for name in each.split(",")} <= set(known)
