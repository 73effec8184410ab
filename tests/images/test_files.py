"""Kinds of still pictures, their alpha, color profiles, limits; against the definitions of the formats."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageCms
from PIL.PngImagePlugin import PngInfo

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images.alpha import fill_transparent
from mst_deploy.images.files import (
    KINDS,
    decode_picture,
    is_still,
    limited_pixels,
    load_image,
    load_picture,
    losses,
    probe_picture,
    save_image,
)
from tests.pictures import picture


def disc(side: int = 32) -> Any:
    """(side, side) alpha: a disc of 255, a ring of 128, 0 outside."""
    y, x = np.mgrid[0:side, 0:side] - side // 2
    radius = np.hypot(y, x)
    return np.where(radius < side / 4, 255, np.where(radius < side / 3, 128, 0)).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *others: bytes) -> bytes:
    """A PNG by its specification (W3C, third edition): ``rows`` are filter bytes and samples."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = [chunk(b"IHDR", header), *others, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def filtered(samples: Any) -> bytes:
    """Rows of big-endian samples, each after filter byte 0."""
    return b"".join(b"\0" + row.tobytes() for row in samples)


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in KINDS.items() if kind.alpha != "none"])
def test_alpha_survives_writing_and_reading(tmp_path: Path, suffix: str) -> None:
    alpha = disc()
    save_image(tmp_path / f"a{suffix}", picture(32, 32, 0), alpha)
    found = load_picture(tmp_path / f"a{suffix}").alpha
    assert found is not None
    expected = alpha if KINDS[suffix].alpha == "full" else np.where(alpha < 128, 0, 255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [suffix for suffix in KINDS])
def test_every_kind_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    y, x = np.mgrid[0:40, 0:60]
    image = np.stack([x * 4, y * 6, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    save_image(tmp_path / f"a{suffix}", image)
    assert load_picture(tmp_path / f"a{suffix}").alpha is None
    found = load_image(tmp_path / f"a{suffix}").astype(int)
    lossless = suffix in (".png", ".bmp", ".tif", ".tiff")
    assert np.abs(found - image).mean() <= (0 if lossless else 6)


def test_alpha_of_every_kind_of_png() -> None:
    """Gray with alpha, palette, color key, each in 8 and where there is one 16 bits."""
    gray_alpha = np.array([[[10, 0], [200, 128]]], np.uint8)
    deep = np.array([[[1000, 2000, 3000, 0], [65535, 256, 0, 32768]]], ">u2")
    deep_gray = np.array([[[2560, 0], [51200, 65535]]], ">u2")
    palette, palette_alpha = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])), chunk(b"tRNS", bytes([0, 77]))
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    gray_key = chunk(b"tRNS", struct.pack(">H", 9))
    rgb, index = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), np.array([[[0], [1]]], np.uint8)
    cases = [
        (png(2, 1, 8, 4, filtered(gray_alpha)), [0, 128], [200, 200, 200]),
        (png(2, 1, 16, 6, filtered(deep)), [0, 128], [255, 1, 0]),
        (png(2, 1, 16, 4, filtered(deep_gray)), [0, 255], [200, 200, 200]),
        (png(2, 1, 8, 3, filtered(index), palette, palette_alpha), [0, 77], [0, 0, 255]),
        (png(2, 1, 8, 2, filtered(rgb), key), [0, 255], [4, 5, 6]),
        (png(2, 1, 8, 0, filtered(np.array([[[9], [80]]], np.uint8)), gray_key), [0, 255], [80, 80, 80]),
        (png(2, 1, 16, 0, filtered(np.array([[[9], [20480]]], ">u2")), gray_key), [0, 255], [80, 80, 80]),
    ]
    for number, (data, alpha, visible) in enumerate(cases):
        found = decode_picture(data, f"case {number}")
        assert found.alpha is not None, number
        assert found.alpha.tolist() == [alpha], number
        assert found.image[0, 1].tolist() == visible, number
        assert found.image[0, 0].tolist() == visible, number  # filled in from the only visible pixel
        assert found.deep == (number in (1, 2, 6))


def test_a_deep_tiff_keeps_its_alpha(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 4), np.uint16)
    pixels[..., :3], pixels[2:4, 2:6, 3] = 40 * 256, 65535
    cv2.imwrite(str(tmp_path / "a.tiff"), pixels)
    found = load_picture(tmp_path / "a.tiff")
    assert found.alpha is not None
    assert found.deep
    np.testing.assert_array_equal(found.alpha, pixels[..., 3] >> 8)
    assert (found.image == 40).all()


def test_an_opaque_alpha_channel_is_none() -> None:
    data = png(2, 1, 8, 6, filtered(np.full((1, 2, 4), 255, np.uint8)))
    assert decode_picture(data, "a").alpha is None


def test_hidden_colors_do_not_show() -> None:
    """Filled in from what is visible, whatever is stored behind; the visible pixels as they are."""
    alpha = disc(64)
    image = picture(64, 64, 0)
    one, other = image.copy(), image.copy()
    one[alpha == 0], other[alpha == 0] = (0, 255, 0), (255, 0, 255)
    filled = fill_transparent(one, alpha)
    np.testing.assert_array_equal(filled, fill_transparent(other, alpha))
    np.testing.assert_array_equal(filled[alpha > 0], image[alpha > 0])
    flat = np.zeros((37, 50, 3), np.uint8)
    flat[5:9, 40:50] = (10, 20, 30)
    corner = np.zeros((37, 50), np.uint8)
    corner[5:9, 40:50] = 255
    assert (fill_transparent(flat, corner) == (10, 20, 30)).all()
    halves = np.zeros((8, 32, 3), np.uint8)
    halves[:, 0], halves[:, -1] = 200, 100
    ends = np.zeros((8, 32), np.uint8)
    ends[:, [0, -1]] = 255
    found = fill_transparent(halves, ends)[4, :, 0].astype(int)
    assert (np.diff(found) <= 0).all(), "from one color to the other"
    assert found[1] > 180
    assert found[-2] < 120
    assert (fill_transparent(flat, np.zeros((37, 50), np.uint8)) == 128).all()


def test_what_a_kind_has_no_room_for_is_said(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(32, 32, 0), disc())
    found = load_picture(tmp_path / "a.png")
    assert losses(found, Path("b.png")) == []
    assert losses(found, Path("b.jpg"))[0].startswith("transparency")
    assert losses(found, Path("b.gif"))[0].startswith("partial transparency")
    deep = decode_picture(png(2, 1, 16, 2, filtered(np.full((1, 2, 3), 700, ">u2"))), "deep")
    assert losses(deep, Path("b.png")) == ["more than 8 bits a channel"]


def test_a_png_with_a_long_text_is_read(tmp_path: Path) -> None:
    """Programs that make pictures write into them how: with another picture in it this is megabytes."""
    text, image = PngInfo(), picture(8, 8, 0)
    text.add_text("parameters", "x" * 3_000_000, zip=True)
    pillow.fromarray(image).save(tmp_path / "made.png", pnginfo=text)
    np.testing.assert_array_equal(load_picture(tmp_path / "made.png").image, image)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(30_000, 30_000, 1, 0, b""))  # nothing there to decode
    with pytest.raises(InputError, match=r"30000x30000 pixels, 900 megapixels.*limit of 300"):
        load_image(tmp_path / "bomb.png")
    save_image(tmp_path / "a.png", picture(40, 30, 0))
    with limited_pixels(40 * 30):
        assert load_image(tmp_path / "a.png").shape == (30, 40, 3)
    with limited_pixels(40 * 30 - 1), pytest.raises(InputError, match="more than the limit"):
        probe_picture(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == (30, 40, 3)
    with pytest.raises(InvalidArgument), limited_pixels(0):
        pass


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        path = tmp_path / f"a{suffix}"
        save_image(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(InputError, match="damaged"):
            load_image(path)


def test_a_file_is_still_unless_it_moves(tmp_path: Path) -> None:
    frames = [pillow.fromarray(picture(20, 16, index)) for index in (0, 9)]
    for kind in ("gif", "webp", "png"):
        frames[0].save(tmp_path / f"moving.{kind}", save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / f"still.{kind}")
        assert not is_still(tmp_path / f"moving.{kind}")
        assert is_still(tmp_path / f"still.{kind}")
        assert probe_picture(tmp_path / f"moving.{kind}").frames == 2
    assert not is_still(tmp_path / "clip.mp4")


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


def matrix_profile(primaries: Any, gamma: float) -> bytes:
    """An ICC v2 display profile: columns of ``primaries`` are XYZ (D50) of red, green and blue."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(s15(value) for value in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78)
    tags = [(b"desc", text + bytes(-len(text) % 4)), (b"wtpt", xyz(white))]
    tags += [(name, xyz(primaries[:, index])) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    header = struct.pack(">I4sI", size, b"lcms", 0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(s15(value) for value in white)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


SRGB_D50 = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7142]])
P3_D50 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])


def encoded_srgb(linear: Any) -> Any:
    """IEC 61966-2-1, rounded to 0..255."""
    linear = np.clip(linear, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve)


def test_wide_colors_become_srgb() -> None:
    """Display P3 with a gamma of 2.2, against the matrices of both."""
    colors = np.array([[[200, 120, 90], [30, 60, 90], [250, 250, 250], [128, 128, 128]]], np.uint8)
    buffer = io.BytesIO()
    pillow.fromarray(colors).save(buffer, "PNG", icc_profile=matrix_profile(P3_D50, 2.2))
    found = decode_picture(buffer.getvalue(), "wide").image
    linear = (colors / 255.0) ** 2.2 @ P3_D50.T @ np.linalg.inv(SRGB_D50).T
    assert np.abs(found.astype(int) - encoded_srgb(linear)).max() <= 2
    assert np.abs(found.astype(int) - colors).max() > 5


def test_a_profile_that_changes_nothing_or_makes_no_sense_leaves_every_pixel() -> None:
    image = picture(40, 30, 0)
    for content in (profile("sRGB"), b"no profile at all"):
        buffer = io.BytesIO()
        pillow.fromarray(image).save(buffer, "PNG", icc_profile=content)
        np.testing.assert_array_equal(decode_picture(buffer.getvalue(), "a").image, image)


def test_orientation_turns_colors_and_alpha_alike() -> None:
    pixels = np.zeros((3, 5, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[0, 0] = (255, 0, 0, 40)
    exif = pillow.Exif()
    exif[0x0112] = 6  # the stored top is the right side
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        pillow.fromarray(pixels).save(buffer, kind, exif=exif.tobytes(), lossless=True)
        found = decode_picture(buffer.getvalue(), kind)
        assert found.image.shape == (5, 3, 3)
        assert found.alpha is not None
        assert (found.alpha[0, 2], found.alpha[0, 0]) == (40, 255)
        assert found.image[0, 2].tolist() == [255, 0, 0]
