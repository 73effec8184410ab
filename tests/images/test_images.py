"""Tests of reading, writing and resizing images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.files import replacing
from mst_deploy.images import (
    decode_image,
    load_image,
    pad_to_minimum,
    resize,
    resize_short_side,
    save_image,
)
from tests.pictures import picture


def test_png_round_trip_is_exact_and_rgb(tmp_path: Path) -> None:
    image = picture(20, 10, 0)
    save_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), image)
    as_opencv_sees_it = cv2.imread(str(tmp_path / "a.png"))
    assert as_opencv_sees_it is not None
    np.testing.assert_array_equal(as_opencv_sees_it[..., ::-1], image)


def test_gray_and_alpha_become_rgb() -> None:
    gray = cv2.imencode(".png", np.full((4, 5), 77, np.uint8))[1].tobytes()
    assert decode_image(gray, "gray").tolist() == np.full((4, 5, 3), 77).tolist()
    clear = cv2.imencode(".png", np.full((4, 5, 4), 9, np.uint8))[1].tobytes()
    assert decode_image(clear, "clear").shape == (4, 5, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff\xe0 not a jpeg"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"cannot read note\.txt as an image"):
        decode_image(data, "note.txt")


def test_unknown_output_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="unknown image type"):
        save_image(tmp_path / "a.heic", picture(4, 4, 0))
    assert list(tmp_path.iterdir()) == []


def test_resize_keeps_a_flat_color_and_the_aspect_ratio() -> None:
    flat = np.full((30, 60, 3), 123, np.uint8)
    small = resize_short_side(flat, 10)
    assert small.shape == (10, 20, 3)
    assert (small == 123).all()
    assert (resize(flat, 90, 70) == 123).all()


def test_padding_repeats_the_edge() -> None:
    image = picture(3, 12, 0)
    padded = pad_to_minimum(image, 8)
    assert padded.shape == (12, 8, 3)
    np.testing.assert_array_equal(padded[:, :3], image)
    np.testing.assert_array_equal(padded[:, 7], image[:, 2])
    assert pad_to_minimum(padded, 8) is padded


def write_half(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError


def test_replacing_keeps_the_old_file_on_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        write_half(temporary)
    assert target.read_text() == "old"
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_a_folder(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"), replacing(tmp_path / "no" / "file"):
        pass
