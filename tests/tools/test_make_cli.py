"""The page of all commands against the program that it is made from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.docs import make_cli

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def section(command: str) -> str:
    found = re.search(rf"^## {command}$(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def help_of(command: str) -> str:
    """What the program prints, wide enough not to break a line."""
    done = subprocess.run(
        [sys.executable, "-m", "mst_deploy", *command.split()[1:], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "400", "TERM": "dumb", "NO_COLOR": "1"},
    )
    return done.stdout


def test_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.docs.make_cli", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}run: python -m tools.docs.make_cli"


def test_check_writes_nothing_and_fails_on_an_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "cli.md"
    old.write_text(PAGE.replace("--deflicker", "--steady"), encoding="utf-8")
    monkeypatch.setattr(make_cli, "FILE", old)
    monkeypatch.setattr(sys, "argv", ["make_cli", "--check"])
    with pytest.raises(SystemExit) as stopped:
        make_cli.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().out == "out of date: cli.md\n"
    assert "--steady" in old.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["make_cli"])
    make_cli.main()
    assert old.read_text(encoding="utf-8") == PAGE


@pytest.mark.parametrize("command", ["mst video", "mst build", "mst bench latency", "mst style make"])
def test_options_are_those_that_the_help_prints(command: str) -> None:
    """Compared with the printed help, which another part of the program makes."""
    printed = help_of(command)
    promised = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section(command)))
    rows = [line for line in printed.splitlines() if re.match(r"\W*\*?\s*(--|-\w\b)", line)]
    offered = {name for row in rows for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", row)} - {"--help"}
    assert len(offered) > 5
    assert offered <= promised
    defaults = re.findall(r"\[default: ([^\];]+)", printed)
    assert defaults
    for default in defaults:
        assert f"| {default}" in section(command)


def test_every_link_of_the_index_has_its_section() -> None:
    links = dict(re.findall(r"^\| \[`(mst [^`]+)`\]\(#([^)]+)\)", PAGE, flags=re.MULTILINE))
    assert [f"## {name}" for name in links] == re.findall(r"^## mst .*", PAGE, flags=re.MULTILINE)
    assert all(link == name.replace(" ", "-") for name, link in links.items())
