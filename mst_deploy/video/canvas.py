"""A canvas of white noise that is advected along the motion of a video.

Every pixel remembers from which place of a fixed tile of noise (``model.canvas``) its noise comes. These
places are advected along the optical flow, so strokes follow the objects in the picture, and since noise is
only sampled, never filtered, it stays white. Chang et al. 2024 (arXiv 2504.03072) and Deng et al. 2024 (arXiv
2411.01212) advect noise for diffusion models; here nearest sampling is enough, because the generator needs no
exact independence of its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.model.canvas import TILE, Canvas, noise_tile, still_canvas

Plane = NDArray[np.float32]
Gray = NDArray[np.uint8]
SHIFT = TILE.bit_length() - 1
STRIP = 8
"""Coarse rows that are sampled together, so that all of a strip stays in the cache."""
ACROSS = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]], np.float32)
ALONG = np.ascontiguousarray(ACROSS.T)
LEAST = 24
"""Shortest side, in pixels, that optical flow is estimated at; smaller frames are enlarged."""
COARSE = 320
"""Longer side, in pixels, at which motion is estimated at most."""
CUT = 25.0
"""Gray levels: frames that differ by more after motion are of different shots. Motion is compensated first,
or fast pans would count; a histogram would not detect a cut within one scene."""
CELL = 8  # coarse pixels: noise that has to be new is so in cells
DISAGREE = 1.0  # coarse pixels: where forward and backward flow differ by more, something was hidden
UNSEEN = 8  # gray levels: what was hidden before differs by more from what flow brings there
STRETCHED = (1.7, 2.3)
"""A cell whose noise was stretched or squeezed to so many times its area, or so many times more in one
direction than in the other, gets new noise. Each cell has a limit of its own in between, or all would change
in one frame of a slow zoom."""
STILL = 0.05  # coarse pixels: a camera whose median motion is less stands still
FIRM = 40.0  # squared gradient in gray levels: with less detail, flow is that of the surroundings
WIDE, NEAR = 21, 9  # coarse pixels: how far surroundings reach, and how far detail is averaged
EVERY = 4  # coarse pixels between those that the camera's motion is fitted to
SMOOTH = (9, 9)
"""Coarse pixels of the Gaussian before the refinement: aliased frequencies lie just below the highest of the
coarse frame, and bias motion towards whole pixels."""
REFINED = 3  # Gauss-Newton steps of the camera's motion
OUTLIER = 0.5  # coarse pixels: flow that differs by so much from the camera's counts a quarter
MISFIT = 8.0  # gray levels: pixels that differ by so much along the camera's motion count a quarter
LEAST_SHARE = 0.2  # of what has detail: less that moves alike is no motion of the camera
ALIKE = 1.0  # coarse pixels: what differs by less from the camera's motion may be an error of the flow
TORN = 8.0
"""Pixels of offset between neighboring coarse pixels: more is the border between cells."""
NO_TIE = np.float32(1 / 128)
"""Pixels: places halfway between two pixels of the tile, which rint would send to the even one, go up."""
NO_MAP = np.empty(0, np.int16)
APART = (911, 577)  # pixels: from the noise of a place to that of its second half, see ``_looked_up``


@dataclass(frozen=True)
class CanvasState:
    """What a moving canvas keeps from one frame to the next: all that the frames after it depend on."""

    gray: Gray = field(repr=False)
    """The last frame (h, w), coarse."""
    offset: tuple[Plane, Plane] = field(repr=False)
    """Offsets into the tile (h, w), x and y, in pixels."""
    index: int
    """Number of frames so far."""
    moved: bool
    """Whether anything has moved yet; until then the canvas is that of a still."""


class MovingCanvas:
    """Makes the canvas of each frame of a video; frames come in order, and all of one size.

    A pure function of the frames and the seed, whatever the number of threads.
    """

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        self.height, self.width, self.seed = height, width, seed
        shrink = max(1.0, max(height, width) / COARSE)
        high, wide = (max(LEAST, round(side / shrink)) for side in (height, width))
        self.shape = (high, wide)
        self.step = (np.float32(width / wide), np.float32(height / high))
        """Size of a coarse pixel in pixels, x and y."""
        self.columns: Plane = np.arange(wide, dtype=np.float32)[None].repeat(high, axis=0)
        self.rows: Plane = np.arange(high, dtype=np.float32)[:, None].repeat(wide, axis=1)
        self.offset: tuple[Plane, Plane] = (
            np.zeros(self.shape, np.float32),
            np.zeros(self.shape, np.float32),
        )
        """Place in the tile minus place in the frame of each coarse pixel, x and y, in pixels."""
        self.full: Gray = np.empty(
            (height, width), np.uint8
        )  # fresh memory for every frame would take longer
        self.offset_of_pixels: Plane = np.empty((2, height, width), np.float32)
        self.gray: Gray | None = None
        self.index = 0
        self.flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.canvas = still_canvas(height, width, seed)
        self.moved = self.stale = False
        """Whether anything has moved yet; whether it has since ``canvas`` was made."""

    def __call__(self, image: Gray) -> Canvas:
        """Return the canvas (H, W, 1) uint8 of the next frame (H, W, 3) uint8 RGB."""
        self.follow(image)
        if self.stale:
            self.canvas, self.stale = self._looked_up(), False
        return self.canvas

    def follow(self, image: Gray) -> None:
        """Move on to the next frame (H, W, 3) uint8 RGB without making its canvas, which takes as long
        again."""
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY, dst=self.full)
        gray = np.asarray(cv2.resize(self.full, self.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        before, self.gray = self.gray, gray
        self.index += 1
        if before is not None and not np.array_equal(before, gray):
            self._move(before, gray)
            self.moved = self.stale = True

    def state(self) -> CanvasState | None:
        """Return the state after the frames so far; None before the first."""
        return None if self.gray is None else CanvasState(self.gray, self.offset, self.index, self.moved)

    def restore(self, state: CanvasState | None) -> None:
        """Continue from a state of a canvas of the same size and seed."""
        if state is not None:
            self.gray, self.offset, self.index = state.gray, state.offset, state.index
            self.moved = self.stale = state.moved

    def _move(self, before: Gray, gray: Gray) -> None:
        back_x, back_y = self._settled(self._estimated(gray, before), before, gray)
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
        hidden = cv2.blur(missed, (NEAR, NEAR)) > UNSEEN  # where nothing is missed, the flow was only vague
        if hidden.any():
            forth_x, forth_y = self._estimated(before, gray)
            mismatch = cv2.magnitude(back_x + _at(forth_x, x, y), back_y + _at(forth_y, x, y))
            hidden &= mismatch > DISAGREE + 0.2 * cv2.magnitude(back_x, back_y)
        new = entering | hidden | self._stretched(carried_x, carried_y)
        new |= cv2.max(abs(carried_x), abs(carried_y)) > 4 * TILE  # places are 16-bit integers
        fresh_x, fresh_y = self._fresh((-(-high // CELL), -(-wide // CELL)))
        self.offset = np.where(new, fresh_x, carried_x), np.where(new, fresh_y, carried_y)

    def _estimated(self, one: Gray, other: Gray) -> tuple[Plane, Plane]:
        """Return the optical flow from one coarse frame to the other, x and y."""
        flow = self.flow.calc(one, other, None)
        return np.ascontiguousarray(flow[..., 0]), np.ascontiguousarray(flow[..., 1])

    def _settled(self, flow: tuple[Plane, Plane], before: Gray, gray: Gray) -> tuple[Plane, Plane]:
        """Return the flow where there is detail, else that of its neighborhood, and far from any detail that
        of the camera.

        Also the camera's where it explains the picture as well: errors of the flow, small as they are, add up
        from frame to frame, those of the camera's motion are averages over the frame. None where nothing
        moves.
        """
        right, down = (cv2.Sobel(gray, cv2.CV_32F, i, 1 - i, scale=0.25) for i in (1, 0))
        firm = np.asarray(cv2.blur(right * right + down * down, (NEAR, NEAR)), np.float32)
        near = cv2.blur(firm, (WIDE, WIDE)) + FIRM
        camera, still = self._camera(flow, firm, before, gray)
        settled = []
        for part, of_camera in zip(flow, camera, strict=True):
            around = (cv2.blur(part * firm, (WIDE, WIDE)) + FIRM * of_camera) / near
            settled.append((firm * part + FIRM * around) / (firm + FIRM))
        explained = [
            cv2.blur(cv2.absdiff(gray, _at(before, self.columns + x, self.rows + y)), (NEAR, NEAR))
            for x, y in (camera, settled)
        ]
        agrees = explained[0] <= 1.1 * explained[1] + 1.0
        own_x, own_y = (part - of_camera for part, of_camera in zip(settled, camera, strict=True))
        if not still:
            agrees &= cv2.magnitude(own_x, own_y) < ALIKE
        own = 1 - cv2.blur(agrees.astype(np.float32), (NEAR, NEAR))
        own[agrees & (own < 0.5)] = 0
        return camera[0] + own * own_x, camera[1] + own * own_y

    def _camera(
        self, flow: tuple[Plane, Plane], firm: Plane, before: Gray, gray: Gray
    ) -> tuple[tuple[Plane, Plane], bool]:
        """Return the affine motion of most pixels with detail, x and y, and whether it is zero.

        Fitted to the flow by iteratively reweighted least squares, then to the gray levels by Gauss-Newton
        steps (Baker and Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd), as flow is biased to zero.
        """
        few = np.s_[EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]
        x, y = flow[0][few].ravel(), flow[1][few].ravel()
        high, wide = self.shape
        ones = np.ones(x.shape, np.float32)
        basis = np.stack(
            [ones, self.columns[few].ravel() * (2 / wide) - 1, self.rows[few].ravel() * (2 / high) - 1]
        ).astype(np.float32)
        detail = firm[few].ravel()
        detail = detail / (detail + np.float32(FIRM))
        detailed = detail > 0.5
        total = float(detail.sum())
        fit = np.zeros((2, 3), np.float32)
        if not detailed.any():
            return self._affine(fit), True
        fit[:, 0] = np.median(x[detailed]), np.median(y[detailed])
        first, weight = fit.copy(), ones
        for scale in (4.0, 2.0, 1.0):
            rest_x, rest_y = x - _combined(fit[0], basis), y - _combined(fit[1], basis)
            squares = (rest_x * rest_x + rest_y * rest_y) * np.float32(1 / (scale * OUTLIER) ** 2)
            weight = detail / (1 + squares) ** 2
            root = np.sqrt(weight)
            step = _least_squares(basis * root, np.stack([rest_x * root, rest_y * root]))
            fit += step.T
        if float(weight.sum()) < LEAST_SHARE * total or not np.isfinite(fit).all():
            return self._affine(first), False
        if np.abs(fit).max() < STILL:
            return self._affine(np.zeros_like(fit)), True
        smooth_before, smooth = (
            cv2.GaussianBlur(each.astype(np.float32), SMOOTH, SMOOTH[0] / 4.5) for each in (before, gray)
        )
        slopes = [cv2.filter2D(smooth, cv2.CV_32F, 0.5 * kernel)[few].ravel() for kernel in (ACROSS, ALONG)]
        directions = np.concatenate([basis * slope for slope in slopes])
        from_x, from_y, wanted = (part[few].ravel() for part in (self.columns, self.rows, smooth))
        best, edge = fit.copy(), SMOOTH[0] // 2
        for _ in range(REFINED):
            to_x, to_y = from_x + _combined(best[0], basis), from_y + _combined(best[1], basis)
            inside = (to_x > edge) & (to_x < wide - 1 - edge) & (to_y > edge) & (to_y < high - 1 - edge)
            # not cubic: OpenCV's does not reproduce ramps, which biases motion towards whole pixels
            missed = wanted - _at(smooth_before, to_x, to_y).ravel()
            root = np.sqrt(weight * inside) / (1 + (missed / np.float32(MISFIT)) ** 2)
            best += _least_squares(directions * root, (missed * root)[None])[:, 0].reshape(2, 3)
        if not np.isfinite(best).all() or np.abs(best - fit).max() > OUTLIER:
            best = fit
        return self._affine(best), False

    def _affine(self, fit: NDArray[np.float32]) -> tuple[Plane, Plane]:
        """Return the motion, x and y, of (2, 3) parameters: at the center, per half width, per half
        height."""
        high, wide = self.shape
        right = self.columns[:1] * np.float32(2 / wide) - 1
        down = self.rows[:, :1] * np.float32(2 / high) - 1
        x, y = (part[0] + part[1] * right + part[2] * down for part in fit)
        return np.asarray(x, np.float32), np.asarray(y, np.float32)

    def _carried(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Sample offsets at other places: interpolated where they are smooth, nearest between cells."""
        both = cv2.merge(self.offset)
        smooth, sharp = _at(both, x, y), _at(both, x, y, cv2.INTER_NEAREST)
        torn_x, torn_y = cv2.split(cv2.absdiff(smooth, sharp))
        across = cv2.max(torn_x, torn_y) > TORN
        smooth[across] = sharp[across]
        return np.ascontiguousarray(smooth[..., 0]), np.ascontiguousarray(smooth[..., 1])

    def _stretched(self, x: Plane, y: Plane) -> NDArray[np.bool_]:
        """Return the cells whose noise has been stretched or squeezed too far."""
        high, wide = self.shape
        kernels = ACROSS * (0.5 / self.step[0]), ALONG * (0.5 / self.step[1])
        x_right, x_down, y_right, y_down = (
            cv2.filter2D(part, cv2.CV_32F, kernel) for part in (x, y) for kernel in kernels
        )
        jump = cv2.max(cv2.max(abs(x_right), abs(x_down)), cv2.max(abs(y_right), abs(y_down)))
        whole = (jump < 3).astype(np.float32)  # elsewhere is the border between cells
        x_right += 1
        y_down += 1
        area = np.maximum(x_right * y_down - x_down * y_right, np.float32(0.05))
        squares = x_right * x_right + x_down * x_down + y_right * y_right + y_down * y_down
        uneven = squares / (2 * area)  # (s1 / s2 + s2 / s1) / 2 of the singular values
        sheared = uneven + np.sqrt(np.maximum(uneven * uneven - 1, 0))  # s1 / s2
        amount = np.log(cv2.max(cv2.max(area, 1 / area), sheared)) * whole
        cells = -(-wide // CELL), -(-high // CELL)
        sums, counts = (cv2.resize(part, cells, interpolation=cv2.INTER_AREA) for part in (amount, whole))
        means = sums / (counts + np.float32(1e-3))
        low, top = np.log(STRETCHED).astype(np.float32)
        limits = low + (top - low) * np.random.default_rng((self.seed, 7)).random(means.shape)
        return _spread(means > limits, self.shape)

    def _fresh(self, cells: tuple[int, int]) -> tuple[Plane, Plane]:
        """Return random offsets into the tile for cells that begin with this frame: whole numbers of
        pixels."""
        rng = np.random.default_rng((self.seed, self.index))
        x, y = rng.integers(0, TILE, (2, *cells)).astype(np.float32)
        if cells == (1, 1):
            return np.full(self.shape, x[0, 0]), np.full(self.shape, y[0, 0])
        return _spread(x, self.shape), _spread(y, self.shape)

    def _looked_up(self) -> Canvas:
        """Return the noise at the nearest place of the tile; where noise is stretched, two pixels may share
        one.

        The second of them takes noise of a place half a pixel apart instead, or the canvas would lose its
        finest octaves.
        """
        high, wide = self.shape
        tile, torn = noise_tile(self.seed), self._torn()
        x_coarse, y_coarse = (part + NO_TIE for part in self.offset)
        size = (self.width, self.height)
        across, down = (
            cv2.resize(part, size, dst=out, interpolation=cv2.INTER_LINEAR)
            for part, out in zip((x_coarse, y_coarse), self.offset_of_pixels, strict=True)
        )
        near_row = np.arange(self.height) * high // self.height  # the coarse pixel that a pixel is in
        near_column = np.arange(self.width) * wide // self.width
        canvas = np.empty((self.height, self.width, 1), np.uint8)
        above = np.full((1, self.width), -1, np.int32)
        strip = max(1, STRIP * self.height // high)
        pixels = np.zeros((strip, self.width, 2), np.int16)  # column and row within a strip
        pixels[..., 0] += np.arange(self.width, dtype=np.int16)
        pixels[..., 1] += np.arange(strip, dtype=np.int16)[:, None]
        for top in range(0, self.height, strip):
            part = slice(top, min(top + strip, self.height))
            x, y = across[part], down[part]
            cells = near_row[part]
            if torn[cells[0] : cells[-1] + 1].any():
                at = np.nonzero(torn[cells][:, near_column])
                coarse = cells[at[0]], near_column[at[1]]
                x[at], y[at] = x_coarse[coarse], y_coarse[coarse]
            y += top
            place, _ = cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)
            place += pixels[: len(place)]  # whole numbers, so rounding may come first
            found = cv2.remap(tile, place, NO_MAP, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
            both = place.view(np.int32)[..., 0]  # two 16-bit numbers as one, to compare
            shared = np.concatenate([above, both[:-1]]) == both
            shared[:, 1:] |= both[:, 1:] == both[:, :-1]
            if shared.any():
                row, column = np.nonzero(shared)
                again = 2 * (x[row, column] + column) + APART[0], 2 * (y[row, column] + row) + APART[1]
                column_of_tile, row_of_tile = (np.rint(each).astype(np.int32) & (TILE - 1) for each in again)
                found[row, column] = tile[row_of_tile, column_of_tile]
            canvas[part, :, 0] = found
            above = both[-1:]
        return canvas

    def _torn(self) -> NDArray[np.bool_]:
        """Return the coarse pixels (h, w) at a border between cells, where offsets must not be
        interpolated."""
        torn = np.zeros(self.shape, np.bool_)
        for part in self.offset:
            right = np.abs(part[:, 1:] - part[:, :-1]) > TORN
            down = np.abs(part[1:] - part[:-1]) > TORN
            torn[:, 1:] |= right
            torn[:, :-1] |= right
            torn[1:] |= down
            torn[:-1] |= down
        return np.asarray(cv2.dilate(torn.view(np.uint8), np.ones((3, 3), np.uint8)), np.bool_)


def _combined(parameters: NDArray[np.float32], basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the linear combination of the rows of a basis (3, n) -> (n,)."""
    combined = parameters[0] * basis[0] + parameters[1] * basis[1] + parameters[2] * basis[2]
    return np.asarray(combined, np.float32)


def _least_squares(rows: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the least-squares factors (k, m) of the rows (k, n) for the targets (m, n).

    Products by OpenCV and not by BLAS, whose order of summation depends on its threads. A small value is
    added to the diagonal: where all detail is on a line, the system is singular.
    """
    sums = cv2.mulTransposed(np.concatenate([rows, wanted]), False, dtype=cv2.CV_64F)
    count = len(rows)
    matrix = sums[:count, :count] + np.eye(count) * (1e-4 * np.trace(sums[:count, :count]) / count + 1e-9)
    return np.asarray(np.linalg.solve(matrix, sums[:count, count:]), np.float32)


def _at(values: NDArray[Any], x: Plane, y: Plane, how: int = cv2.INTER_LINEAR) -> NDArray[Any]:
    """Sample values (h, w) at places; outside, the border is repeated."""
    return np.asarray(cv2.remap(values, x, y, how, borderMode=cv2.BORDER_REPLICATE))


def _spread(cells: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Repeat each cell's value for all of its pixels: (ch, cw) -> (h, w)."""
    return np.repeat(np.repeat(cells, CELL, axis=0), CELL, axis=1)[: shape[0], : shape[1]]
