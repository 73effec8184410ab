"""Flicker: what moved with the picture should look the same in the next frame.

Lai et al. 2018 (ECCV, arXiv 1808.00449): a result's later frame is warped back along the motion of the
source and compared where nothing was covered or uncovered. Flow is an estimate (DIS or Farneback) or
given (.flo files); with an estimate the figure is a proxy, good for comparing systems on one clip. The
source's own figure is the floor: what flow, noise and light changes alone make.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images import Image, resize
from mst_deploy.video.motion import Flow, Mask, estimate_flow, visible, warp
from mst_deploy.video.reader import VideoReader

LONGEST_GAP = 64


@dataclass(frozen=True)
class Flicker:
    """Warping errors of one gap, frame pair by frame pair: RGB distance, 0..sqrt(3)."""

    gap: int
    """Frames between the compared ones."""
    result: tuple[float, ...]
    source: tuple[float, ...]
    """The same of the source: the floor."""
    visible: tuple[float, ...]
    """Share of the pixels that could be compared, 0..1."""

    def means(self) -> dict[str, float]:
        """Means over frame pairs, those that show more counting more."""
        weights = np.asarray(self.visible)
        total = weights.sum()
        if total == 0:
            return {"result": float("nan"), "source": float("nan"), "visible": 0.0}
        return {
            "result": float(np.dot(self.result, weights) / total),
            "source": float(np.dot(self.source, weights) / total),
            "visible": float(weights.mean()),
        }


def warping_error(first: Image, second: Image, flow: Flow, seen: Mask) -> float:
    """Mean over seen pixels of the RGB distance |first(x) - second(x + flow)|, colors in 0..1."""
    if not seen.any():
        return 0.0
    difference = (first.astype(np.float32) - warp(second, flow))[seen] / 255
    return float(np.sqrt(np.square(difference).sum(axis=1)).mean())


def read_flows(folder: Path) -> list[Flow]:
    """The .flo files of a folder (Middlebury format) in order of name. Raises InputError."""
    flows = []
    for path in sorted(folder.glob("*.flo")):
        flow = cv2.readOpticalFlow(str(path))
        if flow is None or flow.size == 0:
            raise InputError(f"cannot read {path} as a Middlebury flow file")
        flows.append(np.asarray(flow, np.float32))
    if not flows:
        raise InputError(f"{folder} holds no .flo files; give those of the clip, or [option:flow] dis")
    return flows


def measure_flicker(
    frames: Iterable[tuple[Image, Image]],
    gaps: Sequence[int],
    method: str = "dis",
    flows: Sequence[Flow] | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> list[Flicker]:
    """Warping errors over (source, result) frames of one size, for each gap.

    ``flows`` are given ones, from frame n to n+1, for gap 1 only. Memory holds as many frames as the
    longest gap. Raises InputError, InvalidArgument.
    """
    if not gaps or min(gaps) < 1 or max(gaps) > LONGEST_GAP:
        raise InvalidArgument(
            field="gaps", problem=f"gaps must be from 1 to {LONGEST_GAP} frames, got {list(gaps)}"
        )
    if flows is not None and set(gaps) != {1}:
        raise InvalidArgument(
            field="gaps", problem="given flow is from one frame to the next: with it, the only gap is 1"
        )
    kept: deque[tuple[Image, Image]] = deque(maxlen=max(gaps))
    found: dict[int, list[tuple[float, float, float]]] = {gap: [] for gap in gaps}
    count = 0
    for source, result in frames:
        for gap in gaps:
            if count >= gap:
                earlier_source, earlier_result = kept[-gap]
                if flows is None:
                    flow = estimate_flow(earlier_source, source, method)
                    seen = visible(flow, estimate_flow(source, earlier_source, method))
                else:
                    flow = _given(flows, count - 1, source)
                    seen = visible(flow, None)
                result_error = warping_error(earlier_result, result, flow, seen)
                source_error = warping_error(earlier_source, source, flow, seen)
                found[gap].append((result_error, source_error, float(seen.mean())))
        kept.append((source, result))
        count += 1
        tell(count)
    if count <= max(gaps):
        raise InputError(f"the clip has {count} frames; a gap of {max(gaps)} needs more")
    return [
        Flicker(gap, *(tuple(column) for column in zip(*rows, strict=True))) for gap, rows in found.items()
    ]


def read_both(source: Path, result: Path) -> Iterator[tuple[Image, Image]]:
    """Frames of both files side by side, sources in the result's size. Raises InputError.

    The result must have as many frames as the source.
    """
    with VideoReader(source) as left, VideoReader(result) as right:
        for number, (before, after) in enumerate(zip_longest(left, right), start=1):
            if before is None or after is None:
                shorter, longer = (result, source) if after is None else (source, result)
                raise InputError(f"{shorter} ends after {number - 1} frames, {longer} goes on")
            height, width = after.image.shape[:2]
            yield resize(before.image, width, height), after.image


def _given(flows: Sequence[Flow], index: int, frame: Image) -> Flow:
    if index >= len(flows):
        raise InputError(f"there are {len(flows)} flow files, too few for the clip's frames")
    if flows[index].shape[:2] != frame.shape[:2]:
        high, wide = flows[index].shape[:2]
        raise InputError(
            f"the flow is {wide}x{high}, the frames are {frame.shape[1]}x{frame.shape[0]}; "
            "stylize the clip at the size of its flow"
        )
    return flows[index]
