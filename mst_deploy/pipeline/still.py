"""Stylize one picture."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np

from mst_deploy.backends import Images, StylizeBackend
from mst_deploy.backends.base import enough_memory
from mst_deploy.images import pad_to_minimum
from mst_deploy.model.canvas import Canvas, still_canvas
from mst_deploy.model.film import Blend, FilmParams
from mst_deploy.pipeline.tiles import WHOLE_PIXELS, stylize_in_tiles
from mst_deploy.styles.masks import open_mask
from mst_deploy.styles.plan import FramePlan, StylePlan


def stylize_picture(
    image: Images,
    generator: StylizeBackend,
    style_plan: StylePlan,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Images:
    """Stylize one picture (H, W, 3) uint8 RGB as a plan prescribes for its beginning -> the same shape and
    type.

    ``on_progress`` gets the finished part of a picture that is stylized in tiles, 0 to 1. Raises InputError
    for a mask that cannot be read, OutputError without room for the temporary files of a large picture.
    """
    height, width = image.shape[:2]
    with open_mask(style_plan.timeline.mask) as mask:
        still = mask.at(Fraction(0), width, height) if mask else None
    canvas = still_canvas(height, width, style_plan.timeline.seed) if style_plan.has_canvas else None
    frame_plan = style_plan.started_with(image).at(Fraction(0), still)
    return stylize_as_planned(image, frame_plan, generator, canvas, on_progress)


def stylize_image(
    image: Images, generator: StylizeBackend, blend: Blend | FilmParams, canvas: Canvas | None = None
) -> Images:
    """Stylize one picture (H, W, 3) uint8 RGB with given FiLM parameters -> the same shape and type.

    ``blend`` is a FiLM vector (P,), or one with its opacity in the result. ``canvas`` (H, W, 1) uint8 is that
    of a still with seed 0 if left out. Pictures below the model's minimum are padded and cropped.
    """
    plain = blend if isinstance(blend, Blend) else Blend(blend)
    if canvas is None and generator.manifest.canvas_bands:
        canvas = still_canvas(*image.shape[:2])
    return stylize_as_planned(image, FramePlan(plain), generator, canvas)


def stylize_as_planned(
    image: Images,
    frame_plan: FramePlan,
    generator: StylizeBackend,
    canvas: Canvas | None,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Images:
    """Stylize one picture (H, W, 3) uint8 RGB with its canvas (H, W, 1) and compose the result according to a
    plan.

    Raises BackendError without enough memory.
    """
    with enough_memory((1, *image.shape)):
        return _stylize_as_planned(image, frame_plan, generator, canvas, on_progress)


def _stylize_as_planned(
    image: Images,
    frame_plan: FramePlan,
    generator: StylizeBackend,
    canvas: Canvas | None,
    on_progress: Callable[[float], None],
) -> Images:
    height, width = image.shape[:2]
    least = generator.manifest.min_size
    padded = np.ascontiguousarray(pad_to_minimum(image, least))
    noise = None if canvas is None else pad_to_minimum(canvas, least)
    if height * width > WHOLE_PIXELS and (tiling := generator.tiling()) is not None:
        stylized: list[Images] = []
        for film in frame_plan.film_params:
            share = partial(_share, on_progress, len(stylized), len(frame_plan.film_params))
            stylized.append(stylize_in_tiles(padded, film, noise, tiling, generator.manifest, share))
    else:
        batch = None if noise is None else noise[None]
        stylized = [generator(padded[None], film[None], batch)[0] for film in frame_plan.film_params]
    stylized = [picture[:height, :width] for picture in stylized]
    return frame_plan.compose(image, stylized)


def _share(on_progress: Callable[[float], None], done: int, total: int, part: float) -> None:
    """Report the finished part of one of several results as one of all."""
    on_progress((done + part) / total)
