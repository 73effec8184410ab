"""Tests of blind sheets (no names, determined by the seed, balanced) and of counted or rejected forms."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from mst_deploy.benchmarks.quality import sheet
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images import load_image, save_image
from tests.command_line import mst
from tests.pictures import picture

PAIRS = ["road", "sky", "wall"]
COLORS = {"ours": (200, 30, 30), "theirs": (30, 200, 30), "third": (30, 30, 200)}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """Sheets and key of two systems that paint everything in a color of their own."""
    folder, key = tmp_path / "sheets", tmp_path / "key.json"
    written(tmp_path, folder, key, seed=4)
    return folder, key


def written(source: Path, folder: Path, key: Path, seed: int) -> list[sheet.Sheet]:
    artworks, results = {}, {name: {} for name in COLORS}  # type: dict[str, Path], dict[str, dict[str, Path]]
    for number, pair in enumerate(PAIRS):
        artworks[pair] = source / f"{pair}-artwork.png"
        save_image(artworks[pair], picture(60, 80, number))
        for name, color in COLORS.items():
            results[name][pair] = source / f"{pair}-{name}.png"
            save_image(results[name][pair], np.full((90, 120, 3), color, np.uint8))
    return sheet.write_sheets(
        folder, key, artworks, results, sheet.matches(list(COLORS)), seed=seed, size=640
    )


def test_each_sheet_shows_what_the_key_says(made: tuple[Path, Path]) -> None:
    folder, key = made
    sheets = sheet.read_key(key)
    assert Counter(s.pair for s in sheets.values()) == dict.fromkeys(PAIRS, 2)
    for name, entry in sheets.items():
        page = load_image(folder / f"{name}.png")
        height, width = page.shape[:2]
        assert width == 2 * 640 + 3 * sheet.GAP  # both at 640 pixels
        for system, column in ((entry.a, width // 4), (entry.b, 3 * width // 4)):
            assert tuple(page[height - 200, column]) == COLORS[system]
    names = {path.name for path in folder.iterdir()}
    assert names == {*(f"{name}.png" for name in sheets), sheet.FORM, sheet.HOW}
    for path in (folder / sheet.FORM, folder / sheet.HOW):
        assert not any(word in path.read_text() for word in (*COLORS, *PAIRS))


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        written(tmp_path, tmp_path / name, tmp_path / f"{name}.json", seed)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert (tmp_path / "one.json").read_bytes() != (tmp_path / "other.json").read_bytes()


def test_either_system_is_a_on_half_of_the_sheets() -> None:
    pairs = [f"{number}" for number in range(20)]
    for seed in range(5):
        drawn = sheet.draw_lots(pairs, [("x", "y"), ("x", "z")], seed)
        assert Counter((s.a, s.b) for s in drawn) == {
            ("x", "y"): 10,
            ("y", "x"): 10,
            ("x", "z"): 10,
            ("z", "x"): 10,
        }
        assert len({s.sheet for s in drawn}) == 40
        assert [s.pair for s in drawn] != sorted(s.pair for s in drawn)


def test_who_is_compared_with_whom() -> None:
    assert sheet.matches(["a", "b", "c"]) == [("a", "b"), ("a", "c")]
    assert sheet.matches(["a", "b", "c"], each=True) == [("a", "b"), ("a", "c"), ("b", "c")]
    with pytest.raises(InvalidArgument, match="two systems are called 'a'"):
        sheet.matches(["a", "b", "a"])
    with pytest.raises(InvalidArgument, match="found 1"):
        sheet.matches(["a"])


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path, made: tuple[Path, Path]) -> None:
    folder, key = made
    before = {path: path.read_bytes() for path in [key, *folder.iterdir()]}
    with pytest.raises(InputError, match="is there already"):
        written(tmp_path, folder, tmp_path / "new.json", 0)
    with pytest.raises(InputError, match="is there already"):
        written(tmp_path, tmp_path / "new", key, 0)
    with pytest.raises(InputError, match="must not see it"):
        written(tmp_path, tmp_path / "new", tmp_path / "new" / "key.json", 0)
    artworks = {"a": tmp_path / "road-artwork.png", "b": tmp_path / "road-artwork.png"}
    lost = {
        name: {"a": tmp_path / f"road-{name}.png", "b": tmp_path / "lost.png"} for name in ("ours", "theirs")
    }
    with pytest.raises(InputError, match=r"has no result for b: there is no .*lost\.png"):
        sheet.write_sheets(
            tmp_path / "new", tmp_path / "n.json", artworks, lost, [("ours", "theirs")], seed=0, size=640
        )
    (tmp_path / "lost.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot read .*lost\.png"):
        sheet.write_sheets(
            tmp_path / "new", tmp_path / "n.json", artworks, lost, [("ours", "theirs")], seed=0, size=640
        )
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "n.json").exists()
    assert before == {path: path.read_bytes() for path in [key, *folder.iterdir()]}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def filled(folder: Path, key: Path, path: Path, choose: dict[str, str]) -> Path:
    """A form whose manner goes to one system of a pair of them, and whose publish is always equal."""
    sheets = sheet.read_key(key)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(sheet.COLUMNS)
        for name, entry in sheets.items():
            winner = choose[entry.second]
            manner = "a" if entry.a == winner else " B " if entry.b == winner else winner
            writer.writerow(
                [str(int(name)), manner, "=", "A: rims, and clouds" if entry.pair == "sky" else ""]
            )
    return path


def test_votes_go_to_the_system_behind_the_letter(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Small letters, spaces and lost leading zeros are understood; both forms count."""
    folder, key = made
    sheets = sheet.read_key(key)
    forms = [
        sheet.read_form(
            filled(folder, key, tmp_path / "1.csv", {"theirs": "ours", "third": "third"}), sheets
        ),
        sheet.read_form(filled(folder, key, tmp_path / "2.csv", {"theirs": "ours", "third": "="}), sheets),
    ]
    counted = sheet.count(forms, sheets)
    assert counted["ours", "theirs"] == {"manner": sheet.Votes(6, 0, 0), "publish": sheet.Votes(0, 0, 6)}
    assert counted["ours", "third"] == {"manner": sheet.Votes(0, 3, 3), "publish": sheet.Votes(0, 0, 6)}
    rows = {tuple(row[name] for name in ("second", "question")): row for row in sheet.as_json(counted)}
    assert rows["theirs", "manner"]["share"] == 1
    assert rows["theirs", "publish"]["share"] is None
    text = sheet.table(counted)
    assert "| ours against theirs | manner | 6 : 0 | 0 | 100% | 61% .. 100% |" in text
    assert "| ours against third | publish | 0 : 0 | 6 |  |  |" in text
    remarks = sheet.complaints(forms, sheets)
    assert len(remarks) == 4
    assert all(remark.startswith("sky (A ") and remark.endswith("A: rims, and clouds") for remark in remarks)


def test_empty_answers_are_no_votes(made: tuple[Path, Path]) -> None:
    folder, key = made
    sheets = sheet.read_key(key)
    counted = sheet.count([sheet.read_form(folder / sheet.FORM, sheets)], sheets)
    assert all(
        votes == sheet.Votes(0, 0, 0) for questions in counted.values() for votes in questions.values()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sheet,manner,publish,complaint\n001,C,A,\n", r"line 2: manner is 'C'; answer A, B or ="),
        ("sheet,manner,publish,complaint\n001,A,A,\n1,B,A,\n", "line 3: sheet 001 comes twice"),
        ("sheet,manner,publish,complaint\n099,A,A,\n", "knows no sheet '099'"),
        ("sheet,manner,publish,complaint\n001,A,A,rims, clouds\n", "too many cells"),
        ("sheet,manner,complaint\n001,A,\n", "no column 'publish'"),
        ("", r"no column 'sheet' \(found none\)"),
    ],
)
def test_forms_that_cannot_be_counted(
    made: tuple[Path, Path], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "form.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        sheet.read_form(tmp_path / "form.csv", sheet.read_key(made[1]))


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "sheets": [{"sheet": "1"}]}'])
def test_a_foreign_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(InputError, match=r"cannot read the key .*key\.json"):
        sheet.read_key(tmp_path / "key.json")


@pytest.mark.parametrize(("votes", "of"), [(0, 10), (3, 10), (26, 38), (38, 38), (1, 1)])
def test_wilsons_interval_ends_where_the_score_test_does(votes: int, of: int) -> None:
    """p for which |votes / of - p| is 1.96 standard errors under p itself, found by bisection."""
    share = votes / of

    def excess(p: float) -> float:
        return (share - p) ** 2 - 1.959963984540054**2 * p * (1 - p) / of

    found = sheet.wilson(votes, of)
    assert found.share == share
    low = 0 if votes == 0 else brentq(excess, 1e-12, share - 1e-9 if share == 1 else share)
    high = 1 if votes == of else brentq(excess, max(share, 1e-9), 1 - 1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_a_share_of_nothing_is_not_known() -> None:
    assert np.isnan(sheet.wilson(0, 0).share)
    with pytest.raises(InvalidArgument, match="3 of 2 votes"):
        sheet.wilson(3, 2)


def test_sheets_of_a_model_and_of_results_from_the_command_line(tmp_path: Path) -> None:
    """Model painted on the spot, results of another system from a folder; then the votes."""
    for role in ("content", "style", "theirs"):
        (tmp_path / role).mkdir()
        for index in range(2):
            save_image(tmp_path / role / f"{index}.png", picture(96, 96, index + len(role)))
    pictures = ["--content", str(tmp_path / "content"), "--style", str(tmp_path / "style")]
    systems = ["--system", "lite", "--system", f"theirs={tmp_path / 'theirs'}"]
    common = ["eval", "sheet", *pictures, *systems, "-o", str(tmp_path / "out")]
    made = mst(*common, "--seed", "3", "--json", "--device", "cpu")
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert (found["sheets"], found["compared"]) == (2, [["lite", "theirs"]])
    assert json.loads((tmp_path / "out-key.json").read_text())["seed"] == 3
    assert {p.name for p in (tmp_path / "out-results" / "lite").iterdir()} == {
        "0.png",
        "1.png",
        "made_with.json",
    }
    again = mst(*common)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    form = tmp_path / "out" / "form.csv"
    answered = form.read_text().replace(",,,", ",A,=,")
    form.write_text(answered)
    votes = mst("eval", "sheet", "--answers", str(form), str(form), "--key", str(tmp_path / "out-key.json"))
    assert votes.returncode == 0, votes.stderr
    assert "| lite against theirs | publish | 0 : 0 | 4 |" in votes.stdout
    assert "| lite against theirs | manner | 2 : 2 | 0 | 50% |" in votes.stdout
    keyless = mst("eval", "sheet", "--answers", str(form))
    assert "give it with --key" in keyless.stderr
    assert "Traceback" not in keyless.stderr
    lonely = mst("eval", "sheet", *pictures, *systems[:2], "-o", str(tmp_path / "x"))
    assert "needs two systems, found 1" in lonely.stderr
    assert not (tmp_path / "x").exists()
