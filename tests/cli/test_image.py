"""``mst image``: whole runs on small pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from mst_deploy.images import load_image, save_image
from mst_deploy.images.files import load_picture
from tests.command_line import mst
from tests.pictures import picture

FAKE = ("--style", "udnie", "--backend", "fake")


def transparent(path: Path, hidden: tuple[int, int, int]) -> Any:
    """A picture whose left half is transparent, with ``hidden`` stored behind it; gives its alpha."""
    image = picture(48, 40, 0)
    alpha = np.full((40, 48), 255, np.uint8)
    alpha[:, :24], image[:, :24] = 0, hidden
    save_image(path, image, alpha)
    return alpha


def test_transparency_is_kept_and_what_is_hidden_behind_it_does_not_show(tmp_path: Path) -> None:
    """The same result for a green and a magenta background that nobody sees."""
    alpha = transparent(tmp_path / "green.png", (0, 255, 0))
    transparent(tmp_path / "magenta.png", (255, 0, 255))
    (tmp_path / "out").mkdir()
    inputs = ("green.png", "magenta.png")
    done = mst("image", *inputs, "-s", "udnie", "--model", "lite", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    green, magenta = (load_picture(tmp_path / "out" / f"{name}-udnie.png") for name in ("green", "magenta"))
    assert green.alpha is not None
    np.testing.assert_array_equal(green.alpha, alpha)
    np.testing.assert_array_equal(green.image, magenta.image)


def test_transparency_that_a_format_has_no_room_for_is_said(tmp_path: Path) -> None:
    transparent(tmp_path / "a.png", (0, 255, 0))
    done = mst("image", "a.png", *FAKE, "-o", "a.jpg", cwd=tmp_path)
    assert done.returncode == 0
    assert "note: not kept: transparency" in done.stderr
    done = mst("image", "a.png", *FAKE, "-o", "a.webp", "--size", "20", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    alpha = load_picture(tmp_path / "a.webp").alpha
    assert alpha is not None
    assert alpha.shape == (20, 24)
    assert (alpha[0, 0], alpha[0, -1]) == (0, 255)


def test_a_folder_goes_on_after_a_broken_picture(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in "abc":
        save_image(tmp_path / "in" / f"{name}.jpg", picture(40, 30, 0))
    whole = (tmp_path / "in" / "b.jpg").read_bytes()
    (tmp_path / "in" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "d.png").write_bytes(b"")
    done = mst("image", "in", *FAKE, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-udnie.jpg", "c-udnie.jpg"]
    broken, empty, summary = done.stderr.splitlines()
    assert broken.startswith("mst: b.jpg: cannot read")
    assert empty.startswith("mst: d.png: cannot read")
    assert "2 of 4 inputs failed" in summary
    assert json.loads(done.stdout)["outputs"] == ["out/a-udnie.jpg", "out/c-udnie.jpg"]


def test_a_second_run_over_a_folder_leaves_out_its_own_results(tmp_path: Path) -> None:
    for name in "ab":
        save_image(tmp_path / f"{name}.png", picture(40, 30, 0))
    assert mst("image", ".", *FAKE, cwd=tmp_path).returncode == 0
    save_image(tmp_path / "c.png", picture(40, 30, 0))
    before = (tmp_path / "a-udnie.png").stat().st_mtime_ns
    done = mst("image", ".", *FAKE, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: a-udnie.png is there already" in done.stderr
    assert "note: a-udnie.png is left out: it is the result of another input" in done.stderr
    assert done.stdout == "c-udnie.png\n"
    assert (tmp_path / "a-udnie.png").stat().st_mtime_ns == before
    names = ["a-udnie.png", "a.png", "b-udnie.png", "b.png", "c-udnie.png", "c.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_animation_is_said_and_kinds_are_asked_before_work(tmp_path: Path) -> None:
    frames = [pillow.fromarray(picture(40, 30, index)) for index in (0, 9)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    done = mst("image", "a.gif", *FAKE, "-o", "b.png", cwd=tmp_path)
    assert "note: a.gif is animated; its first frame is stylized; use mst video" in done.stderr
    assert np.abs(load_image(tmp_path / "b.png").astype(int) - (255 - picture(40, 30, 0))).mean() < 12
    assert "a.webp is animated; its first frame" in mst("image", "a.webp", *FAKE, cwd=tmp_path).stderr
    missing_model = ("--model", "nowhere")  # found only after the kinds
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    done = mst("image", "photo.heic", *FAKE, *missing_model, cwd=tmp_path)
    assert (done.returncode, "cannot read photo.heic" in done.stderr) == (1, True)
    done = mst("image", "b.png", *FAKE, *missing_model, "-o", "c.heic", cwd=tmp_path)
    assert (done.returncode, "cannot write c.heic" in done.stderr) == (2, True)
    (tmp_path / "clip.mp4").write_bytes(b"\0")
    assert "use mst video" in mst("image", "clip.mp4", *FAKE, cwd=tmp_path).stderr


def test_a_picture_with_another_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg", picture(40, 30, 0))
    (tmp_path / "a.jpg").rename(tmp_path / "a.jfif")
    done = mst("image", "a.jfif", *FAKE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a-udnie.jpg\n")


@pytest.mark.parametrize("role", ["input", "mask", "style"])
def test_the_limit_on_pixels_holds_for_all_that_is_read(tmp_path: Path, role: str) -> None:
    save_image(tmp_path / "small.png", picture(90, 80, 0))
    save_image(tmp_path / "large.png", picture(101, 100, 0))
    use = {"input": "small.png", "mask": "small.png", "style": "small.png", role: "large.png"}
    arguments = ("image", use["input"], "-s", use["style"], "--mask", use["mask"], "-o", "o.png")
    done = mst(*arguments, "--model", "lite", "--max-pixels", 10_000, cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "large.png has 101x100 pixels" in done.stderr
    assert mst(*arguments, "--model", "lite", "--max-pixels", 10_100, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("role", ["input", "mask", "style", "outside", "timeline", "model"])
@pytest.mark.parametrize("way", ["name", "symlink", "hardlink"])
def test_nothing_that_is_read_is_overwritten(tmp_path: Path, role: str, way: str) -> None:
    """Also with --force, and by whatever name."""
    for name in ("input", "mask", "style", "outside"):
        save_image(tmp_path / f"{name}.png", picture(90, 80, 0))
    (tmp_path / "timeline.png").write_text("styles: [{style: udnie}]\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "generator.png").write_text("weights")
    read = tmp_path / ("model/generator.png" if role == "model" else f"{role}.png")
    output = read if way == "name" else tmp_path / "link.png"
    if way == "symlink":
        output.symlink_to(read)
    elif way == "hardlink":
        output.hardlink_to(read)
    before = read.read_bytes()
    style: tuple[str, ...] = ("-s", "style.png", "--mask", "mask.png", "--background-style", "outside.png")
    style = ("--timeline", "timeline.png") if role == "timeline" else style
    model = ("--model", "model" if role == "model" else "lite")
    done = mst("image", "input.png", *style, *model, "--force", "-o", output, cwd=tmp_path)
    assert done.returncode == 1
    assert "choose another name" in done.stderr
    assert read.read_bytes() == before


def test_a_link_given_as_output_is_followed(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(40, 30, 0))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    done = mst("image", "a.png", *FAKE, "-o", "link.png", "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(load_image(tmp_path / "elsewhere" / "real.png"), 255 - picture(40, 30, 0))
