"""What needs what: the core runs without the training stack, and says so when it is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "mst_deploy").rglob("*.py")
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


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if module == "mst_deploy.backends.cuda":  # its packages need a CUDA toolkit to install
        pytest.importorskip("pycuda")
    if module == "mst_deploy.backends.openvino":  # not everybody's processor
        pytest.importorskip("openvino")
    import_module(module)


def test_pictures_are_stylised_without_torch(tmp_path: Path) -> None:
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
