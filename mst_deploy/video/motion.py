"""Motion between frames: optical flow, warping and visibility."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument
from mst_deploy.images import Image

Flow = NDArray[np.float32]
"""Flow (H, W, 2) float32: pixels right and down from a point in one frame to the same point in another."""
Mask = NDArray[np.bool_]

ESTIMATORS = ("dis", "farneback")


def targets(flow: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the target column and row of every pixel, (H, W) float32 each."""
    height, width = flow.shape[:2]
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    return columns + flow[..., 0], rows + flow[..., 1]


def warp(image: Image, flow: Flow) -> NDArray[np.float32]:
    """Warp (H, W, 3) uint8 along the flow, bilinear -> (H, W, 3) float32 in 0..255."""
    moved = cv2.remap(
        image.astype(np.float32), *targets(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)


def visible(flow: Flow, back: Flow | None) -> Mask:
    """Return a mask (H, W) bool: pixels of the first frame that are visible in the second.

    Excluded are pixels that leave the picture and, where the backward flow is given, pixels that fail the
    forward-backward check or lie at edges of the motion (Sundaram et al. 2010; constants of Ruder et al.
    2016, arXiv 1604.08610, section 3.1).
    """
    height, width = flow.shape[:2]
    x, y = targets(flow)
    seen = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if back is None:
        return np.asarray(seen)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR)
    lengths = np.square(flow).sum(axis=2) + np.square(returned).sum(axis=2)
    seen &= np.square(flow + returned).sum(axis=2) <= 0.01 * lengths + 0.5
    slopes = sum(np.square(np.gradient(flow[..., c], axis=a)) for c in (0, 1) for a in (0, 1))
    return np.asarray(seen & (slopes <= 0.01 * np.square(flow).sum(axis=2) + 0.002))


def estimate_flow(first: Image, second: Image, method: str) -> Flow:
    """Estimate the flow (H, W, 2) float32 from first to second (H, W, 3) uint8 by OpenCV's DIS or Farneback.
    Raises InvalidArgument."""
    before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    flow = np.zeros((*before.shape, 2), np.float32)
    if method == "dis":
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return np.asarray(dis.calc(before, after, flow), np.float32)
    if method == "farneback":
        found = cv2.calcOpticalFlowFarneback(before, after, flow, 0.5, 5, 15, 3, 7, 1.5, 0)
        return np.asarray(found, np.float32)
    raise InvalidArgument(
        field="flow",
        problem=f"unknown flow {method!r}",
        hint=f"choose one of {', '.join(ESTIMATORS)}, or a folder",
    )
