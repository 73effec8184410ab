"""Tests of the canvas: white noise moved along the motion, and its bands."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.canvas import TILE, noise_tile, still_canvas
from mst_deploy.model.canvas_bands import WHITE_DEVIATION, WHITE_MEAN, CanvasBands, white
from mst_deploy.model.film import FilmLayout, canvas_gains
from mst_deploy.model.stroke_directions import SPLINE
from mst_deploy.video.canvas import MovingCanvas

Image = NDArray[np.uint8]
HEIGHT, WIDTH = 180, 320
SAMPLED = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@pytest.fixture(scope="module")
def texture() -> Image:
    """A large picture with detail everywhere."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.normal(size=(1100, 1400, 3)).astype(np.float32), (0, 0), 3)
    return np.asarray(np.clip(noise / noise.std() * 50 + 128, 0, 255), np.uint8)


def video(texture: Image, kind: str, count: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Iterator[Image]:
    """Frames of a camera that pans, zooms in or turns."""
    height, width = size
    for t in range(count):
        scale, angle, shift = 1.0, 0.0, (0.0, 0.0)
        if kind == "pan":
            shift = (1.3 * t, 0.4 * t)
        elif kind == "zoom":
            scale = 1.003**-t
        else:
            angle = np.radians(0.2 * t)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        left, top = width / 2, height / 2
        start = (500 + shift[0] - cos * left + sin * top, 500 + shift[1] - sin * left - cos * top)
        way = np.array([[cos, -sin, start[0]], [sin, cos, start[1]]], np.float32)
        warped = cv2.warpAffine(texture, way, (width, height), flags=SAMPLED, borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(warped, np.uint8)


def octaves(canvas: Image) -> list[float]:
    """Mean power in the four finest octaves of frequency, relative to that of all but the mean."""
    noise = canvas[..., 0].astype(np.float64) - WHITE_MEAN
    power = np.abs(np.fft.fft2(noise)) ** 2
    high, wide = noise.shape
    frequency = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide)[None])
    tops = (0.5, 0.25, 0.125, 0.0625)
    total = power[frequency > 0].mean()
    return [float(power[(frequency >= top / 2) & (frequency < top)].mean() / total) for top in tops]


def test_canvas_of_a_still_is_a_part_of_the_tile() -> None:
    large, small = still_canvas(300, 400, seed=5), still_canvas(100, 200, seed=5)
    assert large.shape == (300, 400, 1)
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(small, large[:100, :200])
    assert (still_canvas(100, 200, seed=6) != small).mean() > 0.9
    beyond = still_canvas(4, TILE + 4)
    np.testing.assert_array_equal(beyond[:, TILE:], beyond[:, :4])


def test_tile_is_uniform_and_white() -> None:
    counts = np.bincount(noise_tile(0).reshape(-1), minlength=256)
    assert np.abs(counts / counts.mean() - 1).max() < 0.05  # 16,384 of each: a deviation is 0.8 %
    assert octaves(noise_tile(0)[:512, :512, None]) == pytest.approx([1.0] * 4, abs=0.05)


@pytest.mark.parametrize("kind", ["pan", "zoom", "turn"])
def test_canvas_stays_white_for_300_frames(texture: Image, kind: str) -> None:
    """The coarsest octave has 1,060 independent frequencies, 3 % of deviation in one canvas.

    Hence three of them: the places of one in the noise of three seeds.
    """
    size = (360, 640)
    moving = MovingCanvas(*size)
    spectra = []
    for index, frame in enumerate(video(texture, kind, 300, size)):
        moving(frame)
        if index >= 200 and index % 11 == 2:
            for seed in (1, 2, 0):
                moving.seed = seed
                spectra.append(octaves(moving._looked_up()))
    assert np.mean(spectra, axis=0) == pytest.approx([1.0] * 4, abs=0.05)


@pytest.mark.parametrize("size", [(360, 640), (720, 1280)])
@pytest.mark.parametrize(("step", "least"), [(3.0, 0.9), (1.3, 0.8)])
def test_a_pan_carries_every_single_pixel(size: tuple[int, int], step: float, least: float) -> None:
    """White noise decorrelates within a pixel, so motion errors must stay below half of one in 20 frames."""
    height, width = size
    rng = np.random.default_rng(4)
    noise = cv2.GaussianBlur(rng.normal(size=(height, width + 64, 3)).astype(np.float32), (0, 0), 3)
    wide = np.clip(noise / noise.std() * 50 + 128, 0, 255).astype(np.uint8)
    moving, canvases = MovingCanvas(height, width), []
    for t in range(21):
        way = np.array([[1, 0, step * t], [0, 1, 0]], np.float32)
        frame = cv2.warpAffine(wide, way, (width, height), flags=SAMPLED)
        canvases.append(moving(np.asarray(frame, np.uint8))[..., 0].astype(np.float64))
    shift = round(20 * step)
    first, last = canvases[0][:, shift:], canvases[-1][:, : width - shift]
    assert np.corrcoef(first.ravel(), last.ravel())[0, 1] > least


@pytest.mark.parametrize("kind", ["zoom", "turn"])
def test_places_follow_zoom_and_rotation(texture: Image, kind: str) -> None:
    """Against the closed form of the camera's motion: within half a pixel after 20 frames."""
    size = (360, 640)
    moving = MovingCanvas(*size)
    for frame in video(texture, kind, 21, size):
        moving(frame)
    x = (moving.columns + 0.5) * moving.step[0] - 0.5
    y = (moving.rows + 0.5) * moving.step[1] - 0.5
    factor = 1.003**-20 if kind == "zoom" else np.exp(1j * np.radians(0.2 * 20))
    center = 320 + 180j
    place = (x + 1j * y - center) * factor + center
    inside = np.s_[30:-30, 30:-30]  # corners have come in by 11, and cells of 8 are renewed as a whole
    assert np.abs(moving.offset[0] - (place.real - x))[inside].max() < 0.5
    assert np.abs(moving.offset[1] - (place.imag - y))[inside].max() < 0.5


def test_places_are_not_mixed_between_cells() -> None:
    """Each side of a border samples its own noise, as a second implementation does pixel by pixel."""
    moving = MovingCanvas(360, 640, seed=1)
    x, y = (np.zeros(moving.shape, np.float32) for _ in range(2))
    x[:, 160:], y[90:] = 700, 1900
    moving.offset = x, y
    rows, columns = np.mgrid[:360, :640]
    tile = noise_tile(1)
    wanted = tile[
        (rows + np.where(rows < 180, 0, 1900)) % TILE, (columns + np.where(columns < 320, 0, 700)) % TILE
    ]
    np.testing.assert_array_equal(moving._looked_up()[..., 0], wanted)


@pytest.mark.parametrize(
    ("matrix", "renewed"),
    [
        ([[1, 0], [0, 1]], False),
        ([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]], False),  # turned by 60 degrees
        ([[1.2, 0], [0, 1.2]], False),
        ([[1.6, 0], [0, 1.6]], True),
        ([[0.6, 0], [0, 0.6]], True),
        ([[1, 1], [0, 1]], True),  # same area, but sheared: 2.6 times as long as wide
        ([[1.6, 0], [0, 1 / 1.6]], True),
    ],
)
def test_stretched_noise_is_renewed(matrix: list[list[float]], renewed: bool) -> None:
    moving = MovingCanvas(HEIGHT, WIDTH)
    (a, b), (c, d) = matrix
    x, y = moving.columns, moving.rows
    offsets = ((a - 1) * x + b * y).astype(np.float32), (c * x + (d - 1) * y).astype(np.float32)
    found = moving._stretched(*offsets)[16:-16, 16:-16]
    assert found.all() if renewed else not found.any()


def test_canvas_moves_with_the_picture(texture: Image) -> None:
    moving = MovingCanvas(HEIGHT, WIDTH)
    canvases = [
        moving(np.ascontiguousarray(texture[400 : 400 + HEIGHT, x : x + WIDTH])) for x in range(0, 60, 3)
    ]
    first, last = (canvas[..., 0].astype(np.float64) for canvas in (canvases[0], canvases[10]))
    inside = np.s_[20:-20, 60:-80]
    moved = np.roll(first, -30, axis=1)
    smooth = [cv2.GaussianBlur(each, (0, 0), 1.5)[inside].ravel() for each in (moved, last, first)]
    assert np.corrcoef(smooth[0], smooth[1])[0, 1] > 0.8  # strokes are as fine as this, see CanvasBands
    assert abs(np.corrcoef(smooth[2], smooth[1])[0, 1]) < 0.2


@pytest.mark.parametrize("kind", ["pan", "zoom", "turn"])
def test_same_frames_give_the_same_canvas_on_any_number_of_threads(texture: Image, kind: str) -> None:
    frames = list(video(texture, kind, 12))
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 2):
            cv2.setNumThreads(threads)
            moving = MovingCanvas(HEIGHT, WIDTH, seed=3)
            found.append([moving(frame).copy() for frame in frames])
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])


def test_canvas_of_a_frame_that_is_repeated_stays(texture: Image) -> None:
    moving = MovingCanvas(HEIGHT, WIDTH)
    frames = list(video(texture, "pan", 3))
    moving(frames[0])
    second = moving(frames[1]).copy()
    np.testing.assert_array_equal(moving(frames[1]), second)


def test_first_frame_has_the_canvas_of_a_still_and_a_cut_a_new_one(texture: Image) -> None:
    moving = MovingCanvas(HEIGHT, WIDTH, seed=2)
    first = moving(texture[:HEIGHT, :WIDTH])
    np.testing.assert_array_equal(first, still_canvas(HEIGHT, WIDTH, seed=2))
    cut = moving(np.ascontiguousarray(texture[600 : 600 + HEIGHT, 700 : 700 + WIDTH]))
    assert (cut != first).mean() > 0.98


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (64, 8)])
def test_canvas_of_small_frames(texture: Image, size: tuple[int, int]) -> None:
    moving = MovingCanvas(*size)
    for x in (0, 1, 5, 200):
        canvas = moving(np.ascontiguousarray(texture[: size[0], x : x + size[1]]))
        assert canvas.shape == (*size, 1)


def test_bands_are_wavelets_of_unit_deviation() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 512, 512)).astype(np.float32))
    bands = CanvasBands(4)(noise)
    assert bands.shape == (1, 4, 256, 256)
    assert bands.std(dim=(2, 3)) == pytest.approx(np.ones((1, 4)), abs=0.06)
    assert CanvasBands(3)(noise[..., :9, :13]).shape == (1, 3, 5, 7)


def test_first_band_by_hand() -> None:
    noise = np.random.default_rng(1).normal(size=(32, 32)).astype(np.float32)
    kernel = np.outer(SPLINE, SPLINE).astype(np.float32)
    smooth = cv2.filter2D(noise, -1, kernel, borderType=cv2.BORDER_CONSTANT)[::2, ::2]
    wanted = smooth - cv2.filter2D(smooth, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    bands = CanvasBands(2)
    found = bands(torch.from_numpy(noise)[None, None])[0, 0] / bands.gains[0, 0, 0, 0]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_white_noise_of_bytes() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    noise = white(every, torch.float64)
    assert noise.shape == (1, 1, 16, 16)
    assert noise.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert noise.square().mean().item() == pytest.approx(1.0)
    assert pytest.approx((127.5, 73.9), abs=0.01) == (WHITE_MEAN, WHITE_DEVIATION)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (0.5, [1, 1, 0, 0, 0]),
        (1.0, [1, 1, 1, 0, 0]),
        (2.0, [0, 1, 1, 1, 0]),
        (2.0**0.5, [0.5, 1, 1, 0.5, 0]),
    ],
)
def test_gains_are_a_window_of_three_octaves(size: float, wanted: list[float]) -> None:
    expected = np.array(wanted) / np.linalg.norm(wanted)
    np.testing.assert_allclose(canvas_gains(5, 1.0, size), expected, atol=1e-6)
    np.testing.assert_allclose(canvas_gains(5, 0.4, size), 0.4 * expected, atol=1e-6)


@pytest.mark.parametrize(("strokes", "size"), [(-0.1, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 99.0)])
def test_impossible_strokes_are_refused(strokes: float, size: float) -> None:
    with pytest.raises(InvalidArgument, match="stroke"):
        canvas_gains(5, strokes, size)


def test_gains_follow_the_parameters_of_the_layers() -> None:
    layout = FilmLayout((("a", 2), ("b", 1)), canvas_bands=3)
    assert layout.size == 9
    np.testing.assert_array_equal(layout.identity(), [1, 1, 0, 0, 1, 0, 0, 0, 0])
    row = np.arange(9, dtype=np.float32)
    np.testing.assert_array_equal(
        layout.with_gains(row, np.array([7, 8, 9], np.float32)), [0, 1, 2, 3, 4, 5, 7, 8, 9]
    )
    np.testing.assert_array_equal(layout.without_canvas(row), [0, 1, 2, 3, 4, 5, 0, 0, 0])
    plain = FilmLayout((("a", 2),))
    np.testing.assert_array_equal(plain.with_gains(row[:4], np.ones(1, np.float32)), row[:4])
