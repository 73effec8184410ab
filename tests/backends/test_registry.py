"""A backend is one module and one line; the list of them loads nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mst_deploy.backends import load_backend, open_generator
from mst_deploy.backends.registry import BACKENDS, BackendSpec, offered, precision_of
from mst_deploy.benchmarks.latency import GENERATOR, Case, describe
from mst_deploy.cli import app
from mst_deploy.errors import MissingDependency
from mst_deploy.images import load_image, save_image
from mst_deploy.model.bundle import Bundle
from tests.pictures import picture

TOY = """
from mst_deploy.backends import BackendBase, check_call
from mst_deploy.backends.fake import FakeStyleEncoder

class Turned(BackendBase):
    device = "cpu"

    def __init__(self, bundle, precision):
        self.manifest, self.precision = bundle.manifest, precision

    def __call__(self, frames, films, canvas=None):
        check_call(self.manifest, frames, films, canvas)
        return frames[..., ::-1].copy()

def open_generator(bundle, device, precision="fp32"):
    return Turned(bundle, precision)

def open_style_encoder(bundle, device, precision="fp32"):
    return FakeStyleEncoder(bundle)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackendSpec:
    """A backend that swaps red and blue."""
    (tmp_path / "turned_colors.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "turned_colors", raising=False)
    spec = BackendSpec("toy", "turned_colors", precisions=("fp32", "int8"))
    monkeypatch.setitem(BACKENDS, "toy", spec)
    return spec


def test_a_backend_is_one_module_and_one_line(toy: BackendSpec, tmp_path: Path, bundle: Bundle) -> None:
    source = tmp_path / "in.png"
    save_image(source, picture(48, 40, 0))
    output = tmp_path / "out.png"
    arguments = ["image", str(source), "-s", "zodiac", "--backend", "toy:int8", "-o", str(output)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(load_image(output), picture(48, 40, 0)[..., ::-1])
    with open_generator(bundle, "toy:int8") as generator:
        assert generator.precision == "int8"  # type: ignore[attr-defined]


def test_benchmarks_read_what_a_backend_computes_in(toy: BackendSpec, bundle: Bundle) -> None:
    assert {"toy", "toy:int8"} <= set(offered())
    row = describe(Case(GENERATOR, bundle.path, "toy:int8", "cpu", (64, 48), 1), bundle, "cpu")
    assert row["precision"] == "int8"
    assert precision_of("toy", "cuda", "fp16") == "fp32"


def test_a_missing_package_names_the_extra_of_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_absent.py").write_text("import absent_runtime.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    needy = BackendSpec("needy", "needs_absent", {"absent_runtime": ("absent-runtime",)}, extra="absent")
    monkeypatch.setitem(BACKENDS, "needy", needy)
    with pytest.raises(MissingDependency, match=r"the backend needy .*pip install 'mst-deploy\[absent\]'"):
        load_backend("needy")
    monkeypatch.setitem(BACKENDS, "needy", BackendSpec("needy", "needs_absent"))
    with pytest.raises(ModuleNotFoundError):  # not one of its packages: a defect, not an advice
        load_backend("needy")


@pytest.mark.parametrize("name", BACKENDS)
def test_every_module_offers_what_a_backend_must(name: str) -> None:
    spec = BACKENDS[name]
    assert spec.name == name
    try:
        module = import_module(spec.module)
    except ModuleNotFoundError as error:
        if error.name not in spec.packages:
            raise
        pytest.skip(f"{error.name} is not installed")
    assert callable(module.open_generator)
    assert callable(module.open_style_encoder)


def test_the_help_offers_every_backend_but_those_for_tests() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    (text,) = (parameter.help for parameter in commands["image"].params if "--backend" in parameter.opts)
    names = ["onnxrt", "onnxrt:int8", "openvino", "openvino:bf16", "openvino:int8", "trt", "pytorch"]
    names.append("triton:URL")
    assert offered() == names
    shown = f"{', '.join(names[:-1])} or {names[-1]}"
    assert text == f"What runs the model: auto (the fastest that works here, see mst doctor), {shown}."


def test_help_and_the_list_of_backends_load_no_framework() -> None:
    code = (
        "import sys; sys.argv = ['mst', 'video', '--help']\n"
        "import mst_deploy.backends.registry\n"
        "from mst_deploy.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'numpy', 'torch', 'onnxruntime', 'av', 'cv2', 'openvino'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--backend" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
