"""Tests of bundles: they match their manifest, or are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mst_deploy.errors import BundleError
from mst_deploy.model.bundle import Bundle, open_bundle


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "model"))


def edit(folder: Path, **changes: object) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def flip(folder: Path) -> None:
    data = bytearray((folder / "generator.onnx").read_bytes())
    data[1000] ^= 1
    (folder / "generator.onnx").write_bytes(data)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit flipped": (flip, "generator.onnx is not the file"),
    "graph missing": (lambda f: (f / "style_encoder.onnx").unlink(), "style_encoder.onnx is missing"),
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "not json": (lambda f: (f / "manifest.json").write_text("{"), "cannot read"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "schema None"),
    "future schema": (lambda f: edit(f, schema=99), "schema 99"),
    "unknown entry": (lambda f: edit(f, surprise=1), "unknown entries"),
    "no layers": (lambda f: edit(f, film_layers=None), "incomplete"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_bundles_are_refused(case: str, copy: Path) -> None:
    damage, message = CASES[case]
    damage(copy)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


def test_untouched_copy_opens(copy: Path, bundle: Bundle) -> None:
    assert open_bundle(copy).manifest == bundle.manifest


def test_a_file_is_no_bundle(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="not a model bundle"):
        open_bundle(bundle.generator)


def test_json_round_trip(bundle: Bundle) -> None:
    written = json.loads(bundle.manifest.to_json())
    assert written == json.loads((bundle.path / "manifest.json").read_text(encoding="utf-8"))
    assert written["film_size"] == bundle.manifest.layout.size
