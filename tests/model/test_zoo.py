"""What a person calls a model."""

from __future__ import annotations

from pathlib import Path

import pytest

import mst_deploy as mst
from mst_deploy.errors import InvalidArgument
from mst_deploy.model.bundle import open_bundle
from mst_deploy.model.zoo import (
    MODELS,
    bundle_path,
    load_shipped_styles,
    resolve_model,
    shipped_name,
    styles_for,
)


def test_names_and_nothing_are_shipped_models() -> None:
    assert resolve_model() == resolve_model(None) == bundle_path("base") == resolve_model("base")
    assert resolve_model("lite") == bundle_path("lite")
    for model in MODELS:
        assert open_bundle(bundle_path(model)).manifest.name == model


def test_a_name_goes_before_a_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lite").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("lite") == bundle_path("lite")
    assert resolve_model("./lite").samefile(tmp_path / "lite")
    assert resolve_model(Path("lite")).samefile(tmp_path / "lite")


@pytest.mark.parametrize("wanted", ["light", "default", "./lite", Path("lite")])
def test_what_is_nowhere_is_refused(
    wanted: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match=r"neither shipped \(base, lite\) nor a file or folder"):
        resolve_model(wanted)


def test_only_shipped_names_have_a_place() -> None:
    with pytest.raises(InvalidArgument, match=r"no shipped model '\.\./base'; shipped are base, lite"):
        bundle_path("../base")


@pytest.mark.parametrize("model", MODELS)
def test_styles_are_found_by_the_identity_of_the_model(model: str) -> None:
    identity = open_bundle(bundle_path(model)).manifest.model_id
    assert list(styles_for(identity)) == [style.name for style in load_shipped_styles(model)]
    assert shipped_name(identity) == model


def test_other_models_have_no_styles_and_no_name() -> None:
    assert styles_for("feedfeedfeedfeed") == {}
    assert shipped_name("feedfeedfeedfeed") is None


def test_models_are_opened_by_name() -> None:
    for name in MODELS:
        with mst.Stylizer(name, backend="fake") as stylizer:
            assert stylizer.manifest.name == name
            assert stylizer.plan("udnie").timeline.label == "udnie"
