"""Messages name fields; only the command line knows how its options are spelled."""

from __future__ import annotations

import ast
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from mst_deploy.cli import app
from mst_deploy.cli.errors import flag, one_line, worded
from mst_deploy.errors import InvalidArgument, Message, OutputError, error_line
from mst_deploy.video.codecs import EncodeOptions
from tests.conftest import ROOT

PROGRAMS = {
    "benchmarks/canvas_speed.py",
    "benchmarks/comparisons/__main__.py",
    "benchmarks/comparisons/ablation.py",
    "benchmarks/memory.py",
    "benchmarks/quality/clips.py",
    "benchmarks/quality/external.py",
    "benchmarks/scaling.py",
    "benchmarks/stills.py",
    "benchmarks/throughput.py",
    "training/averaging.py",
    "training/compare.py",
    "training/throughput.py",
}
"""Run with ``python -m``, with options of their own."""
FOREIGN = re.compile(r"--(query-gpu|query-compute-apps|format|always|dirty|abbrev|exclude|head)\b")
"""Arguments of nvidia-smi, git and ray."""
FLAG = re.compile(r"--[a-z]")
NAMED = re.compile(r"\[option:([a-z_]+)\]|field=\"([a-z_]+)\"")
COMMAND = re.compile(r"\[(mst [a-z ]+): ([a-z_]+)")
LIBRARY_ONLY = {
    "canvas",
    "films",
    "frames_each",
    "function",
    "identity_share",
    "padding",
    "schedule",
    "sinks",
    "strength_share",
    "time",
    "widths",
}
"""Fields of functions, recipes, YAML files and programs of ``python -m`` that no option of mst sets."""


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of every module outside the command line."""
    for folder, _, names in os.walk(ROOT / "mst_deploy", followlinks=True):
        for path in sorted(Path(folder) / name for name in names if name.endswith(".py")):
            name = path.relative_to(ROOT / "mst_deploy").as_posix()
            if not name.startswith("cli/") and name not in PROGRAMS:
                yield name, path.read_text(encoding="utf-8")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and value of every string literal, docstrings and the constant parts of f-strings too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def options_of_commands() -> set[str]:
    """Every option of every command of ``mst``."""
    found: set[str] = set()
    waiting = [get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {option for parameter in command.params for option in parameter.opts}
    return found


def test_no_text_outside_the_command_line_holds_an_option_of_it() -> None:
    found = [
        f"{name}:{line}: {text!r}"
        for name, source in sources()
        for line, text in texts(source)
        if FLAG.search(FOREIGN.sub("", text))
    ]
    assert found == []


def test_the_search_for_options_finds_them_in_every_kind_of_text() -> None:
    source = '"""Doc --one."""\nx = 1\nprint(f"{x} --two", "a" "--three")\n'
    assert sorted(line for line, text in texts(source) if FLAG.search(text)) == [1, 3, 3]


def test_every_field_that_a_message_names_is_an_option_of_a_command() -> None:
    options = options_of_commands()
    assert {"--resume", "--deflicker", "-o"} <= options
    named = {a or b for _, source in sources() for a, b in NAMED.findall(source)}
    assert len(named) > 40
    assert {name for name in named if flag(name) not in options} == LIBRARY_ONLY


def test_every_command_that_a_message_names_has_the_option() -> None:
    found = {pair for _, source in sources() for pair in COMMAND.findall(source)}
    assert ("mst export", "opset") in found
    for words, field in found:
        command = get_command(app)
        for word in words.split()[1:]:
            command = command.commands[word]  # type: ignore[attr-defined]
        assert flag(field) in {option for parameter in command.params for option in parameter.opts}


def test_a_message_reads_as_fields_in_python_and_as_options_on_the_command_line() -> None:
    error = OutputError("full; go on with [option:resume], or [mst build: size=640x360, force]")
    error.add_note(Message("see [option:sample_every]"))
    assert str(error) == "full; go on with resume, or mst build (size=640x360, force)"
    assert error_line(error) == f"{error}; see sample_every"
    assert one_line(error) == (
        "full; go on with --resume, or mst build --size 640x360 --force; see --sample-every"
    )
    assert worded("choose another with [option:output]") == "choose another with -o"
    assert worded("plain [text]: a=b") == "plain [text]: a=b"


def test_an_invalid_argument_says_which_field_what_is_wrong_and_what_to_do() -> None:
    with pytest.raises(InvalidArgument) as caught:
        EncodeOptions("ffv1", crf=3)
    error = caught.value
    assert (error.field, error.hint) == ("crf", "leave crf out")
    assert str(error) == f"{error.problem}; leave crf out"
    assert one_line(error).endswith("; leave --crf out")
    plain = InvalidArgument("it is not so")
    assert (str(plain), plain.field, plain.problem, plain.hint) == ("it is not so", "", "it is not so", "")


def test_errors_survive_a_process_boundary_with_their_fields() -> None:
    error = InvalidArgument(field="size", problem="[option:size] is odd", hint="give [option:crf]")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field, again.hint) == (str(error), "size", "give crf")
    assert one_line(again) == "--size is odd; give --crf"
