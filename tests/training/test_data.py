"""Tests of sources, crops and numbered samples: held-out images are excluded, bad files are skipped and
counted."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mst_deploy.datasets import ImageFile, fingerprint, load_images, read_hash_list
from mst_deploy.errors import InputError
from mst_deploy.training.data import group_weights, random_crop, shift_colors
from mst_deploy.training.samples import Batch, Samples, Share, batches, collate
from tests.pictures import picture
from tests.training.toys import CONFIG, contents, pixels_of, stored, styles


def add_to_tar(archive: tarfile.TarFile, image: ImageFile) -> None:
    info = tarfile.TarInfo(f"group/{image.name}")
    info.size = len(image.data)
    archive.addfile(info, io.BytesIO(image.data))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_folders_tars_and_lists_without_what_is_held_out(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    images = [stored(f"{i}.png", i) for i in range(5)]
    for image in (*images[:2], images[4]):
        (tmp_path / "a" / image.name).write_bytes(image.data)
    with tarfile.open(tmp_path / "b.tar", mode) as archive:  # type: ignore[call-overload]
        for image in images[2:4]:
            add_to_tar(archive, image)
    (tmp_path / "list.txt").write_text("# the last\n\na/4.png\n")
    (tmp_path / "held.txt").write_text(f"# a comment\n\n{images[3].sha256}  some name\n")
    held = read_hash_list(tmp_path / "held.txt")
    sources = [tmp_path / "a", tmp_path / "b.tar", tmp_path / "list.txt"]
    found = load_images(sources, held)
    assert [image.name for image in found] == ["0.png", "1.png", "4.png", "a/4.png", "group/2.png"]
    assert [image.data for image in found] == [images[i].data for i in (0, 1, 4, 4, 2)]
    assert [image.name for image in load_images(sources, held, keep=True)] == ["group/3.png"]


def test_fingerprint_is_of_the_content() -> None:
    a, b = contents(), [ImageFile(f"other/{image.name}", content=image.data) for image in contents()]
    assert fingerprint(a) == fingerprint(b) != fingerprint(a[:2])


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        load_images([tmp_path])
    with pytest.raises(InputError, match="neither a folder nor a tar"):
        load_images([tmp_path / "absent"])
    (tmp_path / "list.txt").write_text("absent.png\n")
    with pytest.raises(InputError, match=r"names absent\.png, which does not exist"):
        load_images([tmp_path / "list.txt"])


def test_groups_weigh_alike() -> None:
    images = [ImageFile(name) for name in ("a/1", "a/2", "a/3", "b/1", "c/1")]
    odds = group_weights(images, ["c"], 3.0)
    np.testing.assert_allclose(odds, [1 / 15, 1 / 15, 1 / 15, 1 / 5, 3 / 5])


def test_crops_are_inside_and_repeatable() -> None:
    image = picture(90, 70, 0)
    crops = [random_crop(image, 32, 1.5, np.random.default_rng(5)) for _ in range(2)]
    assert crops[0].shape == (32, 32, 3)
    np.testing.assert_array_equal(crops[0], crops[1])


def test_color_shift_leaves_grays_alone() -> None:
    ramp = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(shift_colors(ramp, np.random.default_rng(1)), ramp)


# --- bad files -------------------------------------------------------------------------------


def encoded(pixels: NDArray[Any], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def test_unusual_pictures_are_read(tmp_path: Path) -> None:
    """16 bits a channel, gray, and CMYK as printers send it."""
    deep = (pixels_of(1).astype(np.uint16)) * 257
    from_deep = ImageFile("deep.png", content=encoded(deep)).decode()
    np.testing.assert_allclose(from_deep, pixels_of(1)[..., ::-1], atol=1)
    gray = ImageFile("gray.png", content=encoded(pixels_of(1)[..., 0])).decode()
    np.testing.assert_array_equal(gray, pixels_of(1)[..., :1].repeat(3, axis=2))
    pillow = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    pillow.fromarray(pixels_of(2)).convert("CMYK").save(file, "JPEG", quality=100)
    decoded = ImageFile("print.jpg", content=file.getvalue()).decode().astype(int)
    assert np.abs(decoded - pixels_of(2)).mean() < 8


def test_bad_files_are_passed_over_and_named() -> None:
    bad = [
        ImageFile("a-text.jpg", content=b"these are words, not pixels"),
        ImageFile("b-dot.png", content=encoded(np.zeros((1, 1, 3), np.uint8))),
        ImageFile("c-empty.jpg"),
        ImageFile("d-cut.jpg", content=encoded(pixels_of(0), ".jpg")[:40]),
    ]
    good = contents()
    stage = replace(CONFIG.stages[0], batch=8)
    samples = Samples(CONFIG, stage, [*bad, *good], styles(), None)
    batch = next(batches(samples, collate, 8, 0, Share(), pin=False))
    assert len(batch) == 8
    named = {reason.split(" ")[2 if reason.startswith("cannot") else 0] for reason in batch.skipped}
    assert named == {image.name for image in bad}


def test_nothing_but_bad_files_is_an_error_not_a_loop() -> None:
    bad = [ImageFile(f"{i}.jpg", content=b"words") for i in range(30)]
    samples = Samples(CONFIG, CONFIG.stages[0], bad, styles(), None)
    for workers in (0, 1):
        with pytest.raises(InputError, match="none of 20 images in a row") as caught:
            next(batches(samples, collate, 2, 0, Share(workers=workers), pin=False))
        assert "Traceback" not in str(caught.value)


def test_a_file_that_vanishes_is_passed_over(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(stored("", index).data)
    images = load_images([tmp_path])
    (tmp_path / "0.png").unlink()
    samples = Samples(CONFIG, CONFIG.stages[0], images, styles(), None)
    batch = next(batches(samples, collate, 2, 0, Share(), pin=False))
    assert len(batch) == 2
    assert any("No such file" in reason for reason in batch.skipped)


# --- numbered samples ------------------------------------------------------------------------


def first_batches(config: object, share: Share, start: int = 0) -> list[Batch]:
    stage = replace(CONFIG.stages[0], batch=4)
    samples = Samples(config, stage, contents(), styles(), None)  # type: ignore[arg-type]
    source = batches(samples, collate, 4, start, share, pin=False)
    return [next(source) for _ in range(3)]


def test_samples_do_not_depend_on_who_makes_them() -> None:
    config = replace(CONFIG, temporal_weight=1.0)
    alone = first_batches(config, Share())
    halves = [first_batches(config, Share(rank=rank, ranks=2, workers=rank)) for rank in (0, 1)]
    for whole, left, right in zip(alone, *halves, strict=True):
        assert torch.equal(whole.contents, torch.cat([left.contents, right.contents]))
        assert whole.moved is not None
        assert left.moved is not None
        assert torch.equal(whole.moved[:2], left.moved)
        assert torch.equal(whole.shifts, torch.cat([left.shifts, right.shifts]))
        assert whole.views == [*left.views, *right.views]
    later = first_batches(config, Share(), start=4)
    assert torch.equal(later[0].contents, alone[1].contents)


def test_every_photograph_comes_once_a_pass() -> None:
    samples = Samples(CONFIG, CONFIG.stages[0], contents(), styles(), None)
    passes = [[samples._photo(number) for number in range(start, start + 3)] for start in (0, 3, 6)]
    assert all(sorted(seen) == [0, 1, 2] for seen in passes)


def test_second_window_lies_where_it_says() -> None:
    """Without noise, both windows agree exactly where they overlap."""
    config = replace(CONFIG, temporal_weight=1.0, temporal_noise=0.0)
    for batch in first_batches(config, Share()):
        assert batch.moved is not None
        for first, second, (down, right) in zip(
            batch.contents, batch.moved, batch.shifts.tolist(), strict=True
        ):
            rolled = torch.roll(second, (down, right), (0, 1))
            inside = slice(6, 26)
            assert torch.equal(first[inside, inside], rolled[inside, inside])
