"""``mst sheet``: one picture in many styles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.contact_sheet import SheetLayout, best_columns
from mst_deploy.images.files import load_image, save_image
from mst_deploy.model.zoo import styles_for
from mst_deploy.stylizer import Stylizer, open_video
from tests.command_line import mst
from tests.pictures import picture

FAKE = ("--backend", "fake", "--size", "96")


@pytest.fixture
def photo(tmp_path: Path) -> Any:
    image = picture(96, 72, 0)
    save_image(tmp_path / "a.png", image)
    return image


def cell(sheet: Any, layout: SheetLayout, index: int) -> Any:
    left, top = layout.position(index)
    return sheet[top : top + layout.height, left : left + layout.width]


def test_all_shipped_styles_after_the_source(photo: Any, tmp_path: Path) -> None:
    done = mst("sheet", "a.png", *FAKE, "-o", "s.png", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    with Stylizer(backend="fake") as stylizer:
        assert found["styles"] == list(styles_for(stylizer.manifest.model_id))
    sheet = load_image(tmp_path / "s.png")
    layout = SheetLayout(13, best_columns(13, 96, 72), 96, 72)
    assert (found["width"], found["height"]) == layout.size == (sheet.shape[1], sheet.shape[0])
    np.testing.assert_array_equal(cell(sheet, layout, 0), photo)
    for index in range(1, 13):
        np.testing.assert_array_equal(cell(sheet, layout, index), 255 - photo)


def test_chosen_styles_in_their_order(photo: Any, tmp_path: Path) -> None:
    """Each cell is what ``mst image`` makes with that style."""
    save_image(tmp_path / "art.jpg", picture(120, 100, 5))
    styles = ("zodiac", "art.jpg", "udnie")
    options = [word for style in styles for word in ("--style", style)]
    rendering = ("--model", "lite", "--strength", "0.7")
    done = mst(
        "sheet", "a.png", *options, *rendering, "--size", "96", "--columns", "4", "-o", "s.png", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    sheet, layout = load_image(tmp_path / "s.png"), SheetLayout(4, 4, 96, 72)
    assert sheet.shape[1::-1] == layout.size
    for index, style in enumerate(styles, start=1):
        assert (
            mst("image", "a.png", "-s", style, *rendering, "-o", f"{index}.png", cwd=tmp_path).returncode == 0
        )
        np.testing.assert_array_equal(cell(sheet, layout, index), load_image(tmp_path / f"{index}.png"))


def test_the_first_frame_of_a_video(small_clip: Path, tmp_path: Path) -> None:
    done = mst(
        "sheet",
        small_clip,
        *FAKE,
        "-s",
        "udnie",
        "--size",
        "64",
        "--columns",
        "1",
        "-o",
        "s.png",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with open_video(small_clip) as clip:
        first = next(iter(clip)).image
    sheet, layout = load_image(tmp_path / "s.png"), SheetLayout(2, 1, 64, 48)
    np.testing.assert_array_equal(cell(sheet, layout, 0), first)
    np.testing.assert_array_equal(cell(sheet, layout, 1), 255 - first)


def test_the_long_side_of_a_cell_is_the_size(tmp_path: Path) -> None:
    save_image(tmp_path / "tall.png", picture(50, 100, 0))
    done = mst(
        "sheet", "tall.png", "-s", "udnie", "--backend", "fake", "--columns", "2", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["output"] == "tall-sheet.jpg"
    assert (found["width"], found["height"]) == SheetLayout(2, 2, 240, 480).size
    assert load_image(tmp_path / "tall-sheet.jpg").shape == (found["height"], found["width"], 3)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    alpha = np.full((72, 96), 255, np.uint8)
    alpha[:, :48] = 0
    save_image(tmp_path / "a.png", picture(96, 72, 0), alpha)
    assert mst("sheet", "a.png", *FAKE, "-s", "udnie", "-o", "s.png", cwd=tmp_path).returncode == 0
    sheet = load_image(tmp_path / "s.png")
    for index in range(2):
        shown = cell(sheet, SheetLayout(2, best_columns(2, 96, 72), 96, 72), index)
        assert (shown[:, :48] == 255).all()
        assert (shown[:, 48:] != 255).any()


def test_wrong_input_is_reported_in_one_line(photo: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "there.jpg").write_bytes(b"mine")
    cases = [
        (("broken.jpg",), 1, "cannot read broken.jpg as an image"),
        (("none.jpg",), 1, "none.jpg does not exist"),
        (("none.mp4",), 1, "none.mp4"),
        (("a.png", "-s", "starry-nigth"), 2, "did you mean 'starry-night'?"),
        (("a.png", "--strength", "0@0", "--strength", "1@3"), 2, "a picture has no time"),
        (("a.png", "-o", "s.xyz"), 2, "unknown image type '.xyz'"),
        (("a.png", "-o", "there.jpg"), 1, "there.jpg already exists; use --force"),
        (("a.png", "-o", "a.png", "--force"), 1, "the output a.png is the input itself"),
        (("a.png", "--columns", "0"), 2, "columns"),
        (("a.png", "--model", "light"), 2, "no model 'light'"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, code, words in cases:
        done = mst("sheet", *arguments, "--backend", "fake", cwd=tmp_path)
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)
        assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.jpg").read_bytes() == b"mine"


def test_force_and_quiet(photo: Any, tmp_path: Path) -> None:
    (tmp_path / "s.png").write_bytes(b"old")
    done = mst("sheet", "a.png", *FAKE, "-s", "udnie", "-o", "s.png", "--force", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert load_image(tmp_path / "s.png").ndim == 3


def test_a_model_without_shipped_styles_asks_for_some(
    photo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mst_deploy.stylizer.styles_for", lambda model_id: {})
    done = mst("sheet", "a.png", *FAKE, "-o", "s.png", cwd=tmp_path)
    assert done.returncode == 2
    assert "has no shipped styles to show; name pictures or style files with --style" in done.stderr
