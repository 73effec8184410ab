"""Tests of dependencies: the core runs without the training stack, and reports what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAINTING = ROOT / "examples" / "paintings" / "zodiac.jpg"

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder, _, files in os.walk(ROOT / "mst_deploy", followlinks=True)  # rglob stops at links
    for path in (Path(folder) / name for name in files if name.endswith(".py"))
    if path.name != "__main__.py"
)

# A finder in front of all others that hides the training stack.
BLOCKER = """
import sys
import tomllib
ABSENT = {"torch", "onnxscript", "lightning", "tensorrt", "tensorrt_rtx", "pycuda", "openvino", "matplotlib"}
ABSENT |= {"ray"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def without_training_stack(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, cwd=cwd, check=False
    )


def without_pyav(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    only = BLOCKER.replace(BLOCKER.partition("ABSENT = ")[2].partition("\n")[0], '{"av"}')
    return subprocess.run(
        [sys.executable, "-c", only + code], capture_output=True, text=True, cwd=cwd, check=False
    )


def mst(*arguments: object) -> str:
    """The program as ``mst ARGUMENTS``."""
    return f"""
sys.argv = ["mst", *{[str(argument) for argument in arguments]!r}]
from mst_deploy.cli import main
main()
"""


def test_all_folders_are_imported_from() -> None:
    """Every package that is installed, with all its modules."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package in setup["packages"]:
        folder = ROOT / setup["package-dir"].get(package, package.replace(".", "/"))
        names = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
        assert {package, *(f"{package}.{name}" for name in names)} <= {*MODULES}


# Modules whose package no extra of the tests installs: it has no wheel everywhere.
NEEDS = {
    "mst_deploy.backends.trt.cuda": "cuda.bindings",
    "mst_deploy.backends.openvino": "openvino",
    "mst_deploy.jobs.batch.ray_workers": "ray",
    "mst_deploy.benchmarks.comparisons.tflite": "ai_edge_litert",
    **dict.fromkeys(
        (f"mst_deploy.serve.{name}" for name in ("app", "guard", "jobs", "library", "problems", "service")),
        "fastapi",
    ),
    **dict.fromkeys((f"mst_deploy.serve.{name}" for name in ("sockets", "uploads")), "fastapi"),
    **dict.fromkeys((f"mst_deploy.serve.{name}" for name in ("connections", "run")), "uvicorn"),
}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if module in NEEDS:
        pytest.importorskip(NEEDS[module])
    import_module(module)


def test_pictures_are_stylized_without_torch(tmp_path: Path) -> None:
    code = f"""
sys.argv = ["mst", "image", {str(PAINTING)!r}, "-s", "zodiac", "--size", "64", "-o", "out.png"]
from mst_deploy.cli import main
main()
"""
    done = without_training_stack(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["export", "-o", "x"], "export"),
        (["image", str(PAINTING), "-s", "zodiac", "--backend", "pytorch"], "export"),
        (["image", str(PAINTING), "-s", "zodiac", "--backend", "openvino"], ""),
        (["build", "base", "--size", "1280x720"], "rtx"),
        (["build", "base", "--size", "1280x720", "--flavor", "rtx"], "rtx"),
        (["build", "base", "--size", "1280x720", "--flavor", "tensorrt"], "tensorrt"),
        (["image", str(PAINTING), "-s", "zodiac", "--backend", "trt"], "rtx"),
        (["train", "joint", "--content", ".", "--style", ".", "--vgg", "v", "--inception", "i"], "train"),
    ],
)
def test_missing_packages_are_named_with_the_line_that_installs_them(
    arguments: list[str], extra: str, tmp_path: Path
) -> None:
    code = f"""
sys.argv = ["mst", *{arguments!r}]
from mst_deploy.cli import main
main()
"""
    done = without_training_stack(code, tmp_path)
    assert done.returncode == 1
    wanted = f"'mst-deploy[{extra}]'" if extra else "mst-deploy"
    assert re.search(rf"pip install {re.escape(wanted)}[;\n]", done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


READ_NO_VIDEO = [
    "benchmarks.command",
    "engines.command",
    "export.command",
    "training.command",
    "pipeline.render",
    "pipeline.still",
    "stylizer",
    "styles.plan",
    "backends.pytorch",
    "backends.onnxrt",
    "backends.trt.runner",
    "model.checkpoints",
    "model.io_wrappers",
    "backends.parity",
]


@pytest.fixture(scope="module")
def failed_without_pyav(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The modules that did not import, and why. One process for all: PyTorch takes seconds."""
    code = f"""
import importlib, json
failed = {{}}
for module in {READ_NO_VIDEO!r}:
    try:
        importlib.import_module("mst_deploy." + module)
    except Exception as error:
        failed[module] = repr(error)
print(json.dumps(failed))
"""
    done = without_pyav(code, tmp_path_factory.mktemp("imports"))
    assert done.returncode == 0, done.stderr
    failed: dict[str, str] = json.loads(done.stdout)
    return failed


@pytest.mark.parametrize("module", READ_NO_VIDEO)
def test_what_reads_no_video_imports_without_pyav(module: str, failed_without_pyav: dict[str, str]) -> None:
    assert f"mst_deploy.{module}" in MODULES
    assert module not in failed_without_pyav, failed_without_pyav[module]


def test_videos_do_not_import_without_pyav(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    done = without_pyav("import mst_deploy.video.reader", tmp_path)
    assert done.returncode == 1
    assert "No module named 'av'" in done.stderr


def test_benchmarks_and_pictures_work_without_pyav(tmp_path: Path) -> None:
    easy = ("--size", "48x32", "--seconds", "1", "--min-runs", "2", "--ci-width", "0.5", "--max-load", "1")
    code = mst("bench", "latency", "--backend", "fake", *easy, "--no-cold", "--no-ceilings", "-o", "a.json")
    done = without_pyav(code, tmp_path)
    if "too busy" not in done.stderr:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "a.json").exists()
    done = without_pyav(mst("image", PAINTING, "-s", "zodiac", "--size", "32", "-o", "out.png"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("command", [("video",), ("bench", "video")])
def test_videos_without_pyav_say_what_to_install(command: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ("a.mp4", "-s", "zodiac") if command == ("video",) else ("a.mp4",)
    done = without_pyav(mst(*command, *arguments), tmp_path)
    assert done.returncode == 1
    assert "pip install mst-deploy" in done.stderr
    assert "'av'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
