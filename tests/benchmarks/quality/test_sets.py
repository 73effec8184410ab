"""Tests of evaluation sets: the pairing of pictures, and sets that cannot be measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mst_deploy.benchmarks.quality import external
from mst_deploy.benchmarks.quality.sets import Pair, check, identity, pair_in_order, read_pairs, write_pairs
from mst_deploy.errors import InputError
from mst_deploy.images import load_image, save_image
from tests.pictures import picture

ROLES = ("content", "style", "stylized")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three pictures in each of three folders."""
    made = [tmp_path / role for role in ROLES]
    for folder in made:
        folder.mkdir()
        for index in range(3):
            save_image(folder / f"{index}.png", picture(40, 32, index))
    return made


def test_names_pair_in_order_and_survive_a_file(folders: list[Path], tmp_path: Path) -> None:
    pairs = pair_in_order(*folders)
    assert [pair.name for pair in pairs] == ["0.png", "1.png", "2.png"]
    check(pairs)
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert read_pairs(tmp_path / "pairs.csv", *folders) == pairs


def test_one_photograph_with_many_artworks(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "stylized,style,content,group\n0.png,0.png,2.png,cubism\n1.png,1.png,2.png,\n"
    )
    first, second = read_pairs(tmp_path / "p.csv", *folders)
    assert first == Pair(folders[0] / "2.png", folders[1] / "0.png", folders[2] / "0.png", "cubism")
    assert second.group == ""


def test_artworks_as_people_see_them(folders: list[Path], tmp_path: Path) -> None:
    """They stand in the list, and sets with others cannot be compared."""
    plain = pair_in_order(*folders)
    seen = tmp_path / "artwork"
    seen.mkdir()
    for index in range(3):
        save_image(seen / f"{index}.png", picture(64, 64, index))
    pairs = [replace(pair, artwork=seen / pair.style.name) for pair in plain]
    assert [pair.seen for pair in plain] == [pair.style for pair in plain]
    assert [pair.seen for pair in pairs] == [pair.artwork for pair in pairs]
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert read_pairs(tmp_path / "pairs.csv", *folders) == pairs
    assert identity(pairs) != identity(plain)
    (seen / "1.png").unlink()
    with pytest.raises(InputError, match=r"line 3: there is no picture .*artwork.1\.png"):
        read_pairs(tmp_path / "pairs.csv", *folders)


def test_unequal_counts(folders: list[Path]) -> None:
    (folders[1] / "2.png").unlink()
    with pytest.raises(InputError, match=r"equally many.*content 3.*style 2.*stylized 3"):
        pair_in_order(*folders)


def test_pictures_of_another_size(folders: list[Path]) -> None:
    save_image(folders[2] / "1.png", picture(40, 36, 1))
    with pytest.raises(InputError, match=r"1\.png has 40x36 pixels, its photograph 1\.png 40x32"):
        check(pair_in_order(*folders))


def test_artworks_of_another_size_are_refused_for_artfid_only(folders: list[Path]) -> None:
    save_image(folders[1] / "1.png", picture(64, 48, 1))
    check(pair_in_order(*folders))
    with pytest.raises(InputError, match="must have one size, found 40x32, 64x48"):
        check(pair_in_order(*folders), one_size=True)


def test_pictures_too_small_to_measure(folders: list[Path]) -> None:
    save_image(folders[1] / "1.png", picture(31, 200, 1))
    with pytest.raises(InputError, match=r"1\.png has 31x200 pixels; 32 a side is the least"):
        check(pair_in_order(*folders))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.png,0.png,0.png", "0.png,0.png,1.png"], "1 of the listed pairs come more than once"),
        (["0.png,0.png,0.png", "1.png,0.png,0.png"], "1 of the listed results come more than once"),
    ],
)
def test_duplicates(folders: list[Path], tmp_path: Path, rows: list[str], message: str) -> None:
    (tmp_path / "p.csv").write_text("\n".join(["content,style,stylized", *rows]))
    with pytest.raises(InputError, match=message):
        check(read_pairs(tmp_path / "p.csv", *folders))


def test_changed_pictures_are_noticed_by_their_hash(folders: list[Path], tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", pair_in_order(*folders))
    shutil.copy(folders[0] / "0.png", folders[0] / "1.png")
    with pytest.raises(InputError, match=r"line 3: .*1\.png is not the picture the list was made with"):
        read_pairs(tmp_path / "pairs.csv", *folders)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("content,style\na,b", "no column 'stylized'"),
        ("content,style,stylized\n", "lists no pairs"),
        ("content,style,stylized\n0.png,9.png,0.png", "line 2: there is no style picture"),
    ],
)
def test_bad_lists(folders: list[Path], tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "p.csv", *folders)


def test_a_text_file_named_png(folders: list[Path]) -> None:
    (folders[0] / "0.png").write_text("no picture")
    with pytest.raises(InputError, match=r"cannot read .*0\.png as an image"):
        check(pair_in_order(*folders))


def test_every_file_is_listed_once_whatever_the_case_of_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    pairs = pair_in_order(tmp_path, tmp_path, tmp_path)
    assert [pair.name for pair in pairs] == ["a.JPG", "b.jpg"]
    assert np.unique([pair.name for pair in pairs]).size == 2


def test_somebody_elses_program_keeps_what_belongs_to_a_pair(folders: list[Path], tmp_path: Path) -> None:
    """Group and artwork stay, so that its report can be compared with that of the set."""
    pairs = [replace(pair, group="g", artwork=pair.style) for pair in pair_in_order(*folders)]
    folders[1].rename(tmp_path / "artwork")
    shutil.copytree(tmp_path / "artwork", folders[1])
    write_pairs(tmp_path / "pairs.csv", pairs)
    program = tmp_path / "theirs.py"
    program.write_text("def theirs(content, style, alpha):\n    return 1 - content\n")
    external.main(program, "theirs", tmp_path, tmp_path / "negatives")
    made = read_pairs(tmp_path / "negatives.csv", folders[0], folders[1], tmp_path / "negatives")
    assert identity(made) == identity(read_pairs(tmp_path / "pairs.csv", *folders))
    assert [pair.group for pair in made] == ["g"] * 3
    for pair in made:
        np.testing.assert_array_equal(load_image(pair.stylized), 255 - load_image(pair.content))
