"""Decoded pictures as upright RGB arrays of one size."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mst_deploy.video.color import ColorTags
from mst_deploy.video.damage import DecodeReport
from mst_deploy.video.filters import ToneMapper
from mst_deploy.video.info import Image, Plane
from mst_deploy.video.orientation import upright

# Exact rounding and full chroma interpolation: costs a little, keeps color bars within 1/255.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class RgbConverter:
    """Converts the pictures of one stream to RGB: upright, and of the size of its first picture.

    ``color`` holds the tags of the source; with ``to_sdr`` its HDR is tone-mapped. Pictures of another size
    are counted in ``damage``.
    """

    def __init__(
        self,
        first: av.VideoFrame,
        color: ColorTags,
        damage: DecodeReport,
        *,
        quarter_turns: int,
        mirrored: bool,
        to_sdr: bool,
    ) -> None:
        self.size = first.width, first.height
        self.color, self.damage = color, damage
        self.quarter_turns, self.mirrored = quarter_turns, mirrored
        self.reformatter = VideoReformatter()
        self.tone = ToneMapper(color.transfer, color.primaries) if to_sdr else None

    def image(self, picture: av.VideoFrame) -> Image:
        """Return the picture as (H, W, 3)."""
        rgb = self._sized(self.tone(picture) if self.tone else self._as_rgb(picture))
        image: Any = rgb.to_ndarray()
        return upright(image, self.quarter_turns, self.mirrored)

    def alpha(self, picture: av.VideoFrame) -> Plane:
        """Return the transparency of the picture as (H, W)."""
        width, height = self.size
        values: Any = picture.reformat(width=width, height=height, format="rgba").to_ndarray()[:, :, 3]
        return upright(values, self.quarter_turns, self.mirrored)

    def _as_rgb(self, picture: av.VideoFrame) -> av.VideoFrame:
        return self.reformatter.reformat(
            picture,
            format="rgb24",
            src_colorspace=self.color.scaler_matrix,
            dst_colorspace=self.color.scaler_matrix,
            src_color_range=self.color.range,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
        )

    def _sized(self, rgb: av.VideoFrame) -> av.VideoFrame:
        if (rgb.width, rgb.height) == self.size:
            return rgb
        self.damage.resized += 1
        width, height = self.size
        return rgb.reformat(width=width, height=height, interpolation=SCALING)
