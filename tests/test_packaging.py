"""Tests that the package lists in pyproject.toml, the folders and the links agree."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mst_deploy
from mst_deploy import __version__
from mst_deploy.backends.registry import BACKENDS
from mst_deploy.cli.doctor import PACKAGES, purposes
from mst_deploy.cli.renamed import COMMANDS, OPTIONS
from mst_deploy.model.zoo import MODELS, bundle_path, shipped_photographs
from tests.conftest import ROOT

FOLDERS = ("benchmarks", "engines", "export", "training")
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed() -> None:
    core = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "mst_deploy").rglob("__init__.py")
        if not any(parent.is_symlink() for parent in path.parents)
    }
    others = {
        ".".join(("mst_deploy", *path.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(CONFIG["tool"]["setuptools"]["packages"]) == core | others


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_point_to_the_folders(folder: str) -> None:
    link = ROOT / "mst_deploy" / folder
    if not link.is_symlink():
        pytest.skip("this clone has no symbolic links")
    assert link.readlink() == Path("..") / folder
    assert CONFIG["tool"]["setuptools"]["package-dir"][f"mst_deploy.{folder}"] == folder


def test_constraints_pin_every_direct_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert {"torch", "numpy", "onnxruntime-gpu", "av", "typer", "onnx"} <= pinned
    assert "torch==2.13.0" in lines


@pytest.mark.parametrize("model", MODELS)
def test_a_model_fits_its_budget(model: str) -> None:
    assert sum(path.stat().st_size for path in bundle_path(model).iterdir()) <= 25_000_000


def test_photographs_are_packaged_with_their_sources() -> None:
    package = ROOT / "mst_deploy"
    patterns = CONFIG["tool"]["setuptools"]["package-data"]["mst_deploy"]
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    assert set((package / "assets" / "photographs").iterdir()) <= packaged
    with (package / "assets" / "photographs" / "photographs.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["file"] for row in listed] == [path.name for path in shipped_photographs()]
    assert all(row["source_repo"] and row["commit"] and row["licence"] for row in listed)


def test_all_models_and_their_styles_are_packaged() -> None:
    package = ROOT / "mst_deploy"
    patterns = CONFIG["tool"]["setuptools"]["package-data"]["mst_deploy"]
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    for kind in ("models", "styles"):
        assert {path.name for path in (package / "assets" / kind).iterdir()} == set(MODELS)
        files = {path for path in (package / "assets" / kind).rglob("*") if path.is_file()}
        assert files <= packaged
        assert {path.parent.name for path in files} == set(MODELS)


def requirements(extra: str) -> set[str]:
    """Distributions that the package, or one of its extras, brings."""
    project = CONFIG["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    found: set[str] = set()
    for line in lines:
        name = re.split(r"[\[<>=; ]", line)[0]
        if name == project["name"]:
            for inner in line.partition("[")[2].partition("]")[0].split(","):
                found |= requirements(inner)
        else:
            found.add(name)
    return found


def test_every_extra_that_messages_name_brings_the_package() -> None:
    """Every message on a missing package names an extra that exists and brings the package."""
    assert requirements("eval") > {"torch", "matplotlib"}
    for spec in BACKENDS.values():
        for distributions in spec.packages.values():
            assert set(distributions) & requirements(spec.extra)
    for package, extra in PACKAGES.items():
        assert package in requirements(extra)
    assert set(purposes()) <= set(CONFIG["project"]["optional-dependencies"])
    assert CONFIG["project"]["optional-dependencies"]["openvino"] == []  # of the base install now


def test_version_is_written_once_and_read_without_importing_anything() -> None:
    """setuptools evaluates a literal in the source; anything else it would have to import."""
    assert "version" in CONFIG["project"]["dynamic"]
    assert CONFIG["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mst_deploy.__version__"}
    source = ast.parse((ROOT / "mst_deploy" / "__init__.py").read_text(encoding="utf-8"))
    (value,) = [
        statement.value
        for statement in source.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__"
    ]
    assert ast.literal_eval(value) == __version__


def test_build_reads_the_version_where_numpy_is_missing() -> None:
    pytest.importorskip("setuptools")
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from setuptools import Distribution\n"
        "found = Distribution(); found.parse_config_files(); print(found.metadata.get_version())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split()[-1] == __version__


def test_changelog_has_this_version_and_unreleased_changes() -> None:
    headings = re.findall(
        r"^## \[([^\]]+)\](.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert headings[0] == ("Unreleased", "")
    released = dict(headings[1:])
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", released[__version__])


def test_changelog_lists_every_new_name() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for old, new in OPTIONS.items():
        assert f"| `{old}` | `{new}` |" in changelog
    for command, new in COMMANDS.items():
        assert f"| `mst {' '.join(command)}` | `{new}` |" in changelog
    for old, new in mst_deploy._RENAMED.items():
        assert f"| `mst.{old}` | `mst.{new}` |" in changelog
