"""The noise that strokes are painted from, and how it moves with a video.

White noise lies in one fixed tile. A still takes it as it is. In a video every pixel remembers from which
place of the tile its noise comes; these places are carried along the optical flow, so strokes stick to what
they are painted on, and since noise is only ever looked up, never filtered, it stays white. Chang et al. 2024
(arXiv 2504.03072) and Deng et al. 2024 (arXiv 2411.01212) carry noise for diffusion models; here a lookup is
enough, because the generator needs no exact independence of its pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
"""(H, W, 1), or (N, H, W, 1): uniform integers 0..255."""
Plane = NDArray[np.float32]
Gray = NDArray[np.uint8]
TILE = 2048
"""Side of the noise in pixels, a power of 2; beyond it the noise repeats."""
SHIFT = TILE.bit_length() - 1
STRIP = 32  # rows
ACROSS = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]], np.float32)
ALONG = np.ascontiguousarray(ACROSS.T)
LEAST = 24
"""Shortest side, in pixels, that optical flow is estimated at; smaller frames are enlarged."""
COARSE = 320
"""Longer side, in pixels, at which motion is estimated at most."""
CUT = 25.0  # gray levels: frames that differ by more after motion are of different shots
CELL = 8  # coarse pixels: noise that has to be new is so in cells
DISAGREE = 1.0  # coarse pixels: where forward and backward flow differ by more, something was hidden
UNSEEN = 8  # gray levels: what was hidden before differs by more from what flow brings there
STRETCHED = (1.7, 2.3)
"""A cell whose noise was stretched or squeezed to so many times its area gets new noise. Each cell has a
limit of its own in between, or all would change in one frame of a slow zoom."""
STILL = 0.05  # coarse pixels: a camera whose median motion is less stands still
FIRM = 40.0  # squared gradient in gray levels: with less detail, flow is that of the surroundings
WIDE, NEAR = 21, 9  # coarse pixels: how far surroundings reach, and how far detail is averaged
APART = (911, 577)  # pixels: from the noise of a place to that of its second half, see ``_looked_up``


@lru_cache(maxsize=4)
def noise_tile(seed: int) -> NDArray[np.uint8]:
    """White noise (TILE, TILE), the same for a seed. Read-only."""
    tile = np.random.default_rng(seed).integers(0, 256, (TILE, TILE), np.uint8)
    tile.flags.writeable = False
    return tile


def still_canvas(height: int, width: int, seed: int = 0) -> Canvas:
    """The canvas (H, W, 1) of a still; smaller ones are the upper left corner of larger ones."""
    tile = noise_tile(seed)
    rows, columns = np.arange(height) % TILE, np.arange(width) % TILE
    return np.ascontiguousarray(tile[rows[:, None], columns[None], None])


class MovingCanvas:
    """Gives each frame of a video its canvas; frames come in order, and all of one size.

    A pure function of the frames and the seed, whatever the number of threads.
    """

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        self.height, self.width, self.seed = height, width, seed
        shrink = max(1.0, max(height, width) / COARSE)
        high, wide = (max(LEAST, round(side / shrink)) for side in (height, width))
        self.shape = (high, wide)
        self.step = (np.float32(width / wide), np.float32(height / high))
        """Pixels of a coarse pixel, x and y."""
        self.columns: Plane = np.arange(wide, dtype=np.float32)[None].repeat(high, axis=0)
        self.rows: Plane = np.arange(high, dtype=np.float32)[:, None].repeat(wide, axis=1)
        self.offset: tuple[Plane, Plane] = (
            np.zeros(self.shape, np.float32),
            np.zeros(self.shape, np.float32),
        )
        """Place in the tile minus place in the frame of each coarse pixel, x and y, in pixels."""
        self.gray: Gray | None = None
        self.index = 0
        self.flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.canvas = still_canvas(height, width, seed)

    def __call__(self, image: Gray) -> Canvas:
        """The canvas (H, W, 1) of the next frame (H, W, 3) RGB."""
        small = cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        before, self.gray = self.gray, gray
        self.index += 1
        if before is not None and not np.array_equal(before, gray):
            self._move(before, gray)
            self.canvas = self._looked_up()
        return self.canvas

    def _move(self, before: Gray, gray: Gray) -> None:
        back_x, back_y = self._settled(self._estimated(gray, before), before, gray)
        forth_x, forth_y = self._estimated(before, gray)
        x, y = self.columns + back_x, self.rows + back_y
        missed = cv2.absdiff(gray, _at(before, x, y))
        if missed.mean() > CUT:
            self.offset = self._fresh((1, 1))
            return
        carried_x, carried_y = self._carried(x, y)
        carried_x += back_x * self.step[0]
        carried_y += back_y * self.step[1]
        high, wide = self.shape
        entering = (x < -0.5) | (x > wide - 0.5) | (y < -0.5) | (y > high - 0.5)
        mismatch = cv2.magnitude(back_x + _at(forth_x, x, y), back_y + _at(forth_y, x, y))
        hidden = mismatch > DISAGREE + 0.2 * cv2.magnitude(back_x, back_y)
        hidden &= cv2.blur(missed, (NEAR, NEAR)) > UNSEEN  # where nothing is missed, the flow was only vague
        new = entering | hidden | self._stretched(carried_x, carried_y)
        fresh_x, fresh_y = self._fresh((-(-high // CELL), -(-wide // CELL)))
        self.offset = np.where(new, fresh_x, carried_x), np.where(new, fresh_y, carried_y)

    def _estimated(self, one: Gray, other: Gray) -> tuple[Plane, Plane]:
        """Optical flow from one coarse frame to the other, x and y."""
        flow = self.flow.calc(one, other, None)
        return np.ascontiguousarray(flow[..., 0]), np.ascontiguousarray(flow[..., 1])

    def _settled(self, flow: tuple[Plane, Plane], before: Gray, gray: Gray) -> tuple[Plane, Plane]:
        """The flow where there is detail, else that of what is near, and far from any that of the camera.

        None where nothing moves. The camera's motion is the median of all that has detail.
        """
        right, down = (cv2.Sobel(gray, cv2.CV_32F, i, 1 - i, scale=0.25) for i in (1, 0))
        firm = cv2.blur(right * right + down * down, (NEAR, NEAR))
        near = cv2.blur(firm, (WIDE, WIDE))
        detailed = firm > FIRM
        settled = []
        for part in flow:
            camera = np.float32(np.median(part[detailed]) if detailed.any() else 0.0)
            around = (cv2.blur(part * firm, (WIDE, WIDE)) + FIRM * camera) / (near + FIRM)
            settled.append((firm * part + FIRM * around) / (firm + FIRM))
        x, y = settled
        if max(float(np.median(np.abs(part))) for part in (x, y)) < STILL:
            moved = cv2.absdiff(gray, _at(before, self.columns + x, self.rows + y))
            with_motion = cv2.blur(moved.astype(np.float32), (NEAR, NEAR))
            without = cv2.blur(cv2.absdiff(gray, before).astype(np.float32), (NEAR, NEAR))
            still = without <= 1.1 * with_motion + 1.0  # motion explains nothing: noise must not move there
            x, y = np.where(still, np.float32(0), x), np.where(still, np.float32(0), y)
        return x, y

    def _carried(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Offsets at other places: smooth where they are smooth, and sharp between cells."""
        smooth = [_at(part, x, y) for part in self.offset]
        sharp = [_at(part, x, y, cv2.INTER_NEAREST) for part in self.offset]
        torn = cv2.max(*(cv2.absdiff(one, other) for one, other in zip(smooth, sharp, strict=True)))
        across = torn > 2 * max(self.step)
        return np.where(across, sharp[0], smooth[0]), np.where(across, sharp[1], smooth[1])

    def _stretched(self, x: Plane, y: Plane) -> NDArray[np.bool_]:
        """Where noise has been stretched or squeezed too far, in whole cells."""
        high, wide = self.shape
        kernels = ACROSS * (0.5 / self.step[0]), ALONG * (0.5 / self.step[1])
        x_right, x_down, y_right, y_down = (
            cv2.filter2D(part, cv2.CV_32F, kernel) for part in (x, y) for kernel in kernels
        )
        area = (1 + x_right) * (1 + y_down) - x_down * y_right
        jump = cv2.max(cv2.max(abs(x_right), abs(x_down)), cv2.max(abs(y_right), abs(y_down)))
        whole = (jump < 1).astype(np.float32)  # elsewhere is the border between cells
        amount = np.abs(np.log(np.clip(area, 0.05, 20))) * whole
        cells = -(-wide // CELL), -(-high // CELL)
        sums, counts = (cv2.resize(part, cells, interpolation=cv2.INTER_AREA) for part in (amount, whole))
        means = sums / (counts + np.float32(1e-3))
        low, top = np.log(STRETCHED).astype(np.float32)
        limits = low + (top - low) * np.random.default_rng((self.seed, 7)).random(means.shape)
        return _spread(means > limits, self.shape)

    def _fresh(self, cells: tuple[int, int]) -> tuple[Plane, Plane]:
        """Random places in the tile for cells that begin with this frame: whole numbers of pixels."""
        rng = np.random.default_rng((self.seed, self.index))
        x, y = rng.integers(0, TILE, (2, *cells)).astype(np.float32)
        if cells == (1, 1):
            return np.full(self.shape, x[0, 0]), np.full(self.shape, y[0, 0])
        return _spread(x, self.shape), _spread(y, self.shape)

    def _looked_up(self) -> Canvas:
        """Noise at the nearest place of the tile; where noise is stretched, two pixels may share one.

        The second of them takes noise of a place half a pixel apart instead, or the canvas would lose its
        finest octaves.
        """
        size = (self.width, self.height)
        across, down = (cv2.resize(part, size, interpolation=cv2.INTER_LINEAR) for part in self.offset)
        tile = noise_tile(self.seed).reshape(-1)
        columns = np.arange(self.width, dtype=np.float32)
        canvas = np.empty((self.height, self.width, 1), np.uint8)
        above = np.full((1, self.width), -1, np.int32)
        for top in range(0, self.height, STRIP):  # so that all of a strip stays in the cache
            rows = np.arange(top, min(top + STRIP, self.height), dtype=np.float32)[:, None]
            x, y = across[top : top + STRIP] + columns, down[top : top + STRIP] + rows
            place = _places(x, y)
            found = tile[place]
            shared = np.concatenate([above, place[:-1]]) == place
            shared[:, 1:] |= place[:, 1:] == place[:, :-1]
            if shared.any():
                found[shared] = tile[_places(2 * x[shared] + APART[0], 2 * y[shared] + APART[1])]
            canvas[top : top + STRIP, :, 0] = found
            above = place[-1:]
        return canvas


def _places(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int32]:
    """Indices into the flattened tile of the pixels that are nearest to places in it."""
    column, row = (np.rint(part).astype(np.int32) & (TILE - 1) for part in (x, y))
    return np.asarray((row << SHIFT) | column, np.int32)


def _at(values: NDArray[Any], x: Plane, y: Plane, how: int = cv2.INTER_LINEAR) -> NDArray[Any]:
    """Values (h, w) at places, the nearest ones outside."""
    return np.asarray(cv2.remap(values, x, y, how, borderMode=cv2.BORDER_REPLICATE))


def _spread(cells: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Each cell's value for all of its pixels: (ch, cw) -> (h, w)."""
    return np.repeat(np.repeat(cells, CELL, axis=0), CELL, axis=1)[: shape[0], : shape[1]]
