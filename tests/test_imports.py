"""What needs what: the core runs without the training stack, and says so when it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder, _, files in os.walk(ROOT / "mst_deploy", followlinks=True)  # rglob stops at links
    for path in (Path(folder) / name for name in files if name.endswith(".py"))
    if path.name != "__main__.py"
)

# A finder in front of all others that makes the training stack look absent.
BLOCKER = """
import sys
ABSENT = {"torch", "onnxscript", "lightning", "tensorrt", "pycuda", "openvino", "matplotlib"}
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
    assert {"mst_deploy.training.loop", "mst_deploy.benchmarks.quality.sheet", "mst_deploy.video.reader"} <= {
        *MODULES
    }


# Modules whose package no extra of the tests installs: it needs a CUDA toolkit, or has no wheel everywhere.
NEEDS = {
    "mst_deploy.backends.trt.cuda": "pycuda",
    "mst_deploy.backends.openvino": "openvino",
    "mst_deploy.benchmarks.comparisons.tflite": "ai_edge_litert",
}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if module in NEEDS:
        pytest.importorskip(NEEDS[module])
    import_module(module)


def test_pictures_are_stylized_without_torch(tmp_path: Path) -> None:
    painting = ROOT / "examples" / "paintings" / "zodiac.jpg"
    code = f"""
sys.argv = ["mst", "image", {str(painting)!r}, "-s", "zodiac", "--size", "64", "-o", "out.png"]
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
        (["image", "a.png", "-s", "zodiac", "--backend", "pytorch"], "export"),
        (["image", "a.png", "-s", "zodiac", "--backend", "openvino"], "openvino"),
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
    assert f"pip install 'mst-deploy[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "module",
    [
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
    ],
)
def test_what_reads_no_video_imports_without_pyav(module: str, tmp_path: Path) -> None:
    done = without_pyav(f"import mst_deploy.{module}", tmp_path)
    assert done.returncode == 0, done.stderr


def test_benchmarks_and_pictures_work_without_pyav(tmp_path: Path) -> None:
    easy = ("--size", "48x32", "--seconds", "1", "--min-runs", "2", "--ci-width", "0.5", "--max-load", "1")
    code = mst("bench", "latency", "--backend", "fake", *easy, "--no-cold", "--no-ceilings", "-o", "a.json")
    done = without_pyav(code, tmp_path)
    if "too busy" not in done.stderr:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "a.json").exists()
    painting = ROOT / "examples" / "paintings" / "zodiac.jpg"
    done = without_pyav(mst("image", painting, "-s", "zodiac", "--size", "32", "-o", "out.png"), tmp_path)
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
