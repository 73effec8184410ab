"""Every command of the README runs; commands and links of all documents are valid."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import torch
import typer

from mst_deploy.cli import app, commands
from mst_deploy.model.checkpoints import load_checkpoint
from mst_deploy.perceptual.vgg import Vgg19
from tests.clips import Clip, probe, write_clip
from tests.conftest import ROOT
from tests.pictures import picture

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern)
)
PIPED = [line for line in SHELL if line.startswith("pip install")]
COMMANDS = [line for line in SHELL if line.startswith("mst ")]
LONG = ("mst export", "mst train", "mst style optimize")
SHORT = "--steps 3 --precision fp32"  # processors that lack bfloat16 take minutes to imitate it


FEW_FRAMES = Clip(width=256, height=144, frames=11, step=15000)
SHORT_CLIP, SHIPPED_CLIP = "short clip", "shipped clip"


def is_long(line: str) -> bool:
    return line.startswith(LONG) or "--optimize-style" in line


def needs_the_clip(line: str) -> bool:
    """Whether the length of the clip makes a difference, or a later command needs the output."""
    return not is_long(line) and ("bunny.mp4" in line or line.startswith("mst style make"))


@pytest.fixture(scope="module")
def folder_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the place with one of the clips, which all commands share."""

    @cache
    def folder(clip: str) -> Path:
        folder = tmp_path_factory.mktemp("readme")
        made_before = shutil.ignore_patterns("bunny-*")  # by whoever ran the first line here
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=made_before)
        if clip == SHORT_CLIP:
            (folder / "examples" / "bunny.mp4").unlink()
            write_clip(folder / "examples" / "bunny.mp4", FEW_FRAMES)
        for kind in ("photos", "paintings"):
            (folder / kind).mkdir()
            for index in range(2):
                cv2.imwrite(str(folder / kind / f"{index}.png"), picture(300, 280, 50 * index))
        write_clip(folder / "few.mp4", Clip(width=96, height=64, frames=4))
        torch.manual_seed(0)
        cached = folder / "torch" / "hub" / "checkpoints"  # as if it had been downloaded before
        cached.mkdir(parents=True)
        torch.save(Vgg19().state_dict(), cached / "vgg19-dcbb9e9d.pth")
        return folder

    return folder


@pytest.fixture(params=[SHORT_CLIP, pytest.param(SHIPPED_CLIP, marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, folder_with: Callable[[str], Path]) -> Path:
    """A place to run the README from top to bottom: the examples and something to train with.

    A clip as long as the shipped one, but of a few small frames, takes its place; with the shipped one,
    commands run that read it.
    """
    return folder_with(request.param)


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = shlex.split(line)
    assert arguments[0] == "mst"
    return subprocess.run(
        [sys.executable, "-m", "mst_deploy", *arguments[1:]],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=500,
        env={**os.environ, "TORCH_HOME": str(folder / "torch"), "XDG_CACHE_HOME": str(folder / "cache")},
    )


@pytest.mark.parametrize(
    ("folder", "line"),
    [pytest.param(SHORT_CLIP, line, id=line, marks=[pytest.mark.slow] * is_long(line)) for line in COMMANDS]
    + [
        pytest.param(SHIPPED_CLIP, line, id=f"shipped clip: {line}", marks=pytest.mark.slow)
        for line in COMMANDS
        if needs_the_clip(line)
    ],
    indirect=["folder"],
)
def test_command(line: str, folder: Path) -> None:
    """As written; only training (in float32) and optimizing are cut short, the latter by a small clip too."""
    line = line.replace("--steps 20000", SHORT)
    if "--optimize-style" in line:
        line = line.replace("examples/bunny.mp4", "few.mp4")
    less = "--steps 1 --frames 1 --size 180"
    if "--for" not in line:
        less += " --for few.mp4"  # not the shipped photographs
    done = run(line.replace("style optimize", f"style optimize {less}"), folder)
    assert done.returncode == 0, done.stderr
    if " -o " in line:
        assert (folder / shlex.split(line)[-1]).exists()
    if line.startswith("mst train"):
        assert load_checkpoint(folder / "run" / "weights.safetensors").training["steps_done"] == 3


def test_first_line_makes_the_clip_it_promises(folder: Path) -> None:
    first, _, command = PIPED[0].partition(" && ")
    assert first == "pip install ."
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    promised = re.search(r"it becomes `([^`]+)`", README)
    assert promised is not None
    before, after = probe(folder / "examples" / "bunny.mp4"), probe(folder / promised[1])
    assert (after.times, after.audio, after.size) == (before.times, before.audio, before.size)


def test_second_line_is_the_one_that_ci_runs() -> None:
    assert PIPED[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_python_block_runs(folder: Path) -> None:
    """As written; only the model is the fake one, which takes no time."""
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    assert "mst.Stylizer()" in code
    code = code.replace("mst.Stylizer()", 'mst.Stylizer(backend="fake")')
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = probe(folder / "examples" / "bunny.mp4"), probe(folder / "starry-bunny.mp4")
    assert (after.times, after.audio) == (before.times, before.audio)
    assert min(after.size) == 90


def test_quick_start_comes_within_one_screen() -> None:
    """The picture and the command that makes one, before anything else is explained."""
    lines = README.splitlines()
    assert lines.index(PIPED[0]) < 24
    assert any("docs/header.jpg" in line for line in lines[:10])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = without_code((ROOT / document).read_text(encoding="utf-8"))
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", text):
        if target.startswith("http"):
            continue
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors_of(path), f"{document} links to {target}#{anchor}"


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors_of(path: Path) -> set[str]:
    """The targets that GitHub gives headings: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documented_commands_and_options_exist(document: str) -> None:
    """Of every line that starts with ``mst`` in a block of code: nothing in it has another name now."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        if line.startswith("mst "):
            words = line.partition("  #")[0].split()[1:]
            command, name = typer.main.get_command(app), "mst"
            while hasattr(command, "commands"):
                word = words.pop(0)
                assert word in command.commands, f"{document}: {line}"
                command, name = command.commands[word], f"{name} {word}"
            known = {option for parameter in command.params for option in parameter.opts}
            known |= {option for parameter in command.params for option in parameter.secondary_opts}
            used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= known, f"{document}: {sorted(used - known)} in: {line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documented_files_exist(document: str) -> None:
    """Python files and data files of the project, by their path from its root or from the package."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|json|txt|csv|toml))`", text):
        if not name.startswith(("runs/", "its/")) and "NAME" not in name:  # of the reader
            places = (ROOT, ROOT / "mst_deploy", (ROOT / document).parent)
            assert any((place / name).is_file() for place in places), f"{document} names {name}"
    for module in re.findall(r"python -m ((?:mst_deploy|tools)[\w.]+)", text):
        assert find_spec(module) is not None, f"{document} names {module}"


def test_architecture_shows_the_layers_that_are_checked() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = "\n".join(config["tool"]["importlinter"]["contracts"][0]["layers"])
    assert f"```\n{layers}\n```" in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_table_has_the_commands_of_a_user() -> None:
    for name in ("video", "image", "style", "doctor", "export", "build"):
        assert f"| `mst {name}` |" in README


def test_every_command_stands_in_the_table() -> None:
    """The table of docs/cli.md, against the one that the program is put together from."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, entry in commands.COMMANDS.items():
        inner = entry.commands if isinstance(entry, commands.Group) else ()
        for words in [f"{name} {word}" for word in inner] or [name]:
            assert f"| [`mst {words}`](#mst-{words.replace(' ', '-')}) |" in page


def test_file_map_names_every_folder() -> None:
    folders = {
        path.name
        for path in ROOT.iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.name in ("examples", "docs")
    }
    for name in folders:
        assert f"`{name}/`" in README
