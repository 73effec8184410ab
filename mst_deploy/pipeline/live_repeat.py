"""When live video shows the picture painted before once more, instead of painting a new one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import Images
from mst_deploy.pipeline.live_style import LiveStyle

STEP = 4  # every fourth pixel of every fourth row is compared


class Repeats:
    """The last painted picture, and whether it does for the next frame."""

    def __init__(self, similar: float = 0.0) -> None:
        """``similar`` is the mean absolute difference of two pictures, in levels of 0 to 255, below which the
        second is not painted; 0 paints all."""
        self.similar = similar
        self.frozen = False
        """Whether the picture is to stay as it is; may be set from any thread."""
        self.source: NDArray[np.int16] | None = None
        self.active_style: LiveStyle | None = None
        self.painted: Images | None = None

    def again(self, image: Images, style: LiveStyle, now: float) -> Images | None:
        """Return the picture painted before if it does for a source picture (H, W, 3); None: paint it."""
        if self.painted is None or self.frozen:
            return self.painted
        if self.similar <= 0 or self.source is None:
            return None
        if style is not self.active_style or not style.is_settled(now):
            return None
        small = _small(image)
        if small.shape != self.source.shape or np.abs(small - self.source).mean() >= self.similar:
            return None
        return self.painted

    def keep(self, image: Images, style: LiveStyle, painted: Images) -> None:
        """Remember a painted picture and its source."""
        self.painted, self.active_style = painted, style
        if self.similar > 0:
            self.source = _small(image)


def _small(image: Images) -> NDArray[np.int16]:
    return image[::STEP, ::STEP].astype(np.int16)
