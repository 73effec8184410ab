"""Contact sheets: where pictures and names stand, and how many columns there are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from mst_deploy.contact_sheet import SheetLayout, best_columns, contact_sheet, shortened
from mst_deploy.errors import InvalidArgument
from tests.pictures import picture


def cells_of(count: int, width: int = 120, height: int = 90) -> list[Any]:
    """Pictures of one dark color each, all different."""
    return [np.full((height, width, 3), (index * 7, 90, 40), np.uint8) for index in range(count)]


def test_pictures_follow_each_other_along_the_rows_and_nothing_else_is_colored() -> None:
    cells = cells_of(5)
    sheet = contact_sheet(cells, [""] * 5, columns=2)
    boxes = []
    for cell in cells:
        rows, columns = np.nonzero((sheet == cell[0, 0]).all(axis=-1))
        assert len(rows) == 120 * 90
        top, left = rows.min(), columns.min()
        np.testing.assert_array_equal(sheet[top : top + 90, left : left + 120], cell)
        boxes.append((top, left))
    tops, lefts = zip(*boxes, strict=True)
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]
    assert (sheet != 255).any(axis=-1).sum() == 5 * 120 * 90
    assert sheet.shape[1] - (lefts[1] + 120) == lefts[0] == lefts[1] - lefts[0] - 120  # even margins
    assert sheet.shape[0] > tops[4] + 90


def test_each_name_stands_below_its_picture_in_the_middle() -> None:
    labels = ["udnie", "wave", "the-scream"]
    cells = cells_of(3, 240, 120)
    named, bare = contact_sheet(cells, labels, 3), contact_sheet(cells, ["", "", ""], 3)
    layout = SheetLayout(3, 3, 240, 120)
    ink = (named != bare).any(axis=-1)
    widths = []
    for index in range(3):
        left, top = layout.position(index)
        strip = ink[top + 120 : top + 120 + layout.label_height, left : left + 240]
        rows, columns = np.nonzero(strip)
        assert abs((columns.min() + columns.max()) / 2 - 120) <= 3
        assert rows.max() - rows.min() >= 6  # 12 pixels is the size of the font, with what hangs below
        widths.append(columns.max() - columns.min())
        ink[top + 120 : top + 120 + layout.label_height, left : left + 240] = False
    assert not ink.any()
    assert widths[1] < widths[0] * 1.3 < widths[2]


def test_names_that_are_too_wide_are_cut() -> None:
    assert shortened("wave", 4, len) == "wave"
    assert shortened("starry-night", 9, len) == "starry..."
    assert shortened("a b c d e", 5, len) == "a..."  # no blank before the dots
    assert shortened("starry-night", 2, len) == ""
    cells = cells_of(2, 60, 40)
    sheet = contact_sheet(cells, ["w" * 200, "w" * 200], 2)
    layout = SheetLayout(2, 2, 60, 40)
    gap = sheet[:, layout.gap + 60 : layout.position(1)[0]]
    assert (gap == 255).all()


@pytest.mark.parametrize("shape", [(64, 48), (64, 36), (36, 64), (50, 50), (96, 20), (9, 90)])
def test_no_other_number_of_columns_is_nearer_to_four_by_three(shape: tuple[int, int]) -> None:
    for count in (1, 2, 3, 7, 13):
        cells = cells_of(count, *shape)
        made = contact_sheet(cells, [""] * count)
        ratios = {}
        for columns in range(1, count + 1):
            other = contact_sheet(cells, [""] * count, columns)
            ratios[columns] = max(
                other.shape[1] / other.shape[0] / (4 / 3), 4 / 3 * other.shape[0] / other.shape[1]
            )
        chosen = best_columns(count, *shape)
        assert made.shape == contact_sheet(cells, [""] * count, chosen).shape
        assert ratios[chosen] == pytest.approx(min(ratios.values()))


def test_a_sheet_of_twelve_styles_is_about_four_by_three() -> None:
    for width, height in itertools.product((480,), (480, 360, 320, 270)):
        wide, high = SheetLayout(13, best_columns(13, width, height), width, height).size
        assert 1.0 < wide / high < 1.75


def test_one_picture_and_more_columns_than_pictures() -> None:
    image = picture(80, 60, 0)
    sheet = contact_sheet([image], ["a"], columns=9)
    assert sheet.shape[1] < 2 * 80
    np.testing.assert_array_equal(sheet[4:64, 4:84], image)


@pytest.mark.parametrize(
    ("cells", "labels", "columns", "problem"),
    [
        ([], [], None, "0 pictures"),
        (cells_of(2), ["a"], None, "2 pictures and 1 labels"),
        ([cells_of(1)[0], picture(20, 20, 0)], ["a", "b"], None, "of one size"),
        ([np.zeros((4, 4), np.uint8)], ["a"], None, "must be an array"),
        (cells_of(1), ["a"], 0, "at least one column"),
    ],
)
def test_what_gives_no_sheet(cells: Any, labels: list[str], columns: int | None, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        contact_sheet(cells, labels, columns)
