"""Training samples: numbered, made by workers, identical in every run.

Sample n is a pure function of the seed and n: which photograph, which crop, which style view. So a run that
is stopped and continued, or spread over more workers or processes, gets the same data in the same order, and
resuming needs only the number of samples seen.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mst_deploy.datasets import ImageFile
from mst_deploy.errors import InputError
from mst_deploy.images import Image, resize_short_side
from mst_deploy.model.film import canvas_gains
from mst_deploy.training.config import EXPRESSIVE, Stage, TrainConfig
from mst_deploy.training.data import by_detail, cut, group_weights, random_crop, shift_colors

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
LEAST_STRENGTH = 0.5  # below it the source is mixed in, see film.at_strength
MOST_STROKES = 1.3
TRIES = 20  # other images tried in place of one that cannot be read


@dataclass(frozen=True)
class Share:
    """Part of the data that a process makes, and its number of workers."""

    rank: int = 0
    ranks: int = 1
    workers: int = 0


class View(NamedTuple):
    """One crop of one style image."""

    image: int
    number: int
    """Number of the crop; modulo ``TrainConfig.flatness_ranks`` it is the rank."""


class Sample(NamedTuple):
    """Contribution of one sample to a batch, see ``Batch``."""

    content: Image
    moved: Image | None
    shift: tuple[int, int]
    view: View | None
    strength: float
    style: Image | None
    strokes: float
    gains: np.ndarray[tuple[int], np.dtype[np.float32]]
    canvas: Image | None
    moved_canvas: Image | None
    skipped: set[str]


@dataclass(frozen=True)
class Batch:
    """N samples; pixels are (H, W, 3) uint8 RGB."""

    contents: Tensor
    """(N, S, S, 3) content crops."""
    moved: Tensor | None
    """(N, S, S, 3): second windows into the same photographs, with noise; None without the temporal term."""
    shifts: Tensor
    """(N, 2) int64: offsets of the second windows, (down, right) in pixels."""
    views: list[View | None]
    """Style of each sample; None stands for the photograph itself."""
    own: Tensor
    """(N,) bool: whether the style is the photograph itself."""
    strengths: Tensor
    """(N,) float32: interpolation from the photograph's own FiLM vector (0) to the style's (1)."""
    style_views: list[View]
    """Views of ``style_crops``."""
    style_crops: Tensor | None
    """(M, 2, Z, Z, 3): crops of the styles whose targets the trainer has not kept yet, see ``style_crops``;
    None if there are none. If targets are never kept, M is N and each sample has its own row."""
    strokes: Tensor
    """(N,) float32: amount of canvas, 1 by default."""
    gains: Tensor
    """(N, K) float32: gains of the canvas bands."""
    canvas: Tensor | None
    """(N, S, S, 1): white noise; None for a generator without a canvas."""
    moved_canvas: Tensor | None
    """(N, S, S, 1): the same noise in the second windows."""
    skipped: frozenset[str]
    """Names of files that could not be used, with the reason."""

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def styles(self) -> dict[View, Tensor]:
        """Style crops (2, Z, Z, 3) by view."""
        return {} if self.style_crops is None else dict(zip(self.style_views, self.style_crops, strict=True))

    def pin_memory(self) -> Batch:
        """Return a copy in pinned memory, from which copies to CUDA overlap with kernels; called by the
        loader."""
        pinned: dict[str, Any] = {
            name: value.pin_memory()
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and value.numel() > 0
        }
        return replace(self, **pinned)


class Samples(Dataset[Any]):
    """Dataset of the samples of a stage."""

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        contents: Sequence[ImageFile],
        styles: Sequence[ImageFile],
        known: Tensor | None,
    ) -> None:
        """Set up the dataset; ``known`` (images, views) bool in shared memory marks style views not to
        decode."""
        self.config, self.stage, self.contents, self.styles, self.known = (
            config,
            stage,
            contents,
            styles,
            known,
        )
        self.odds = group_weights(styles, EXPRESSIVE, config.expressive_weight)

    def __getitem__(self, number: int) -> Any:
        """Return the sample, or the InputError that prevents it: the loader would garble a raised one."""
        try:
            return self.make(number)
        except InputError as error:
            return error

    def make(self, number: int) -> Sample:
        """Make sample ``number``. Raises InputError if no image can be read."""
        config, ranks = self.config, self.config.flatness_ranks
        rng = np.random.default_rng((config.seed, 1, number))
        skipped: set[str] = set()
        margin = config.temporal_shift if config.temporal_weight else 0
        side = self.stage.crop + margin
        candidates = [
            random_crop(
                first_readable(self.contents, self._photo(number * ranks + place), skipped),
                side,
                config.content_zoom,
                rng,
            )
            for place in range(ranks)
        ]
        rank = int(rng.choice(ranks, p=rank_odds(ranks)))
        crop = by_detail(candidates)[rank]
        places = rng.integers(0, margin + 1, (2, 2)).tolist()
        content, moved, shift = windows(crop, self.stage.crop, places)
        if moved is not None:
            moved = noisy(moved, config.temporal_noise, rng)
        canvas = moved_canvas = None
        if config.has_canvas:
            noise = rng.integers(0, 256, (side, side, 1), np.uint8)
            canvas, moved_canvas, _ = windows(noise, self.stage.crop, places)
        bands = config.network.canvas_bands
        if rng.random() < config.identity_share:  # a photograph has no strokes
            gains = np.zeros(bands, np.float32)
            return Sample(content, moved, shift, None, 1.0, None, 0.0, gains, canvas, moved_canvas, skipped)
        turn = int(rng.integers(config.kept_views // ranks))
        view = View(int(rng.choice(len(self.styles), p=self.odds)), turn * ranks + rank)
        style = None
        if self.known is None or not self.known[view]:
            style = style_crops(config, self.styles, view, skipped)
        weak = config.strength_share > 0 and rng.random() < config.strength_share
        strength = float(rng.uniform(LEAST_STRENGTH, 1.0)) if weak else 1.0
        other = config.has_canvas and rng.random() < config.strokes_share
        strokes = float(rng.uniform(0.0, MOST_STROKES)) if other else 1.0
        gains = np.zeros(0, np.float32)
        # the content's own FiLM vector has no strokes, so they decrease with the strength
        if config.has_canvas:
            gains = strength * canvas_gains(bands, strokes, stroke_size(config, view))
        return Sample(
            content, moved, shift, view, strength, style, strokes, gains, canvas, moved_canvas, skipped
        )

    def _photo(self, number: int) -> int:
        """Return the index of a photograph: every one once per pass, in a new order each time."""
        count = len(self.contents)
        return int(order(self.config.seed, number // count, count)[number % count])


@lru_cache(maxsize=2)
def order(seed: int, turn: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return a permutation of 0..count-1 for every turn."""
    return np.random.default_rng((seed, 2, turn)).permutation(count)


def first_readable(images: Sequence[ImageFile], first: int, skipped: set[str]) -> Image:
    """Return image ``first``, or the next readable one; errors of the others are added to ``skipped``.

    Raises InputError after TRIES failures in a row.
    """
    for step in range(min(TRIES, len(images))):
        try:
            return images[(first + step) % len(images)].decode()
        except InputError as error:
            skipped.add(str(error))
    raise InputError(
        f"none of {min(TRIES, len(images))} images in a row could be used; the last: {sorted(skipped)[-1]}"
    )


def rank_odds(ranks: int) -> list[float]:
    """Return the probability of each flatness rank: linearly decreasing with detail."""
    total = ranks * (ranks + 1) / 2
    return [(ranks - rank) / total for rank in range(ranks)]


def stroke_size(config: TrainConfig, view: View) -> float:
    """Return the stroke size of a view: 1 half of the time, else log-uniform over ``stroke_sizes``."""
    rng = np.random.default_rng((config.seed, 3, view.image, view.number))
    low, high = np.log(config.stroke_sizes)
    return 1.0 if rng.random() < 0.5 else float(np.exp(rng.uniform(low, high)))


def style_crops(config: TrainConfig, styles: Sequence[ImageFile], view: View, skipped: set[str]) -> Image:
    """Return two crops (2, Z, Z, 3) of a style view: the encoder's input, and the source of the targets.

    The first shows most of the artwork. The second is one of ``flatness_ranks`` parts, at the size of the
    view's strokes. View 0 always keeps its colors.
    """
    ranks = config.flatness_ranks
    turn, rank = divmod(view.number, ranks)
    rng = np.random.default_rng((config.seed, view.image, turn))
    picture = first_readable(styles, view.image, skipped)
    if rng.random() < config.color_shift_share and turn > 0:
        picture = shift_colors(picture, rng)
    if rng.random() < 0.5:  # both crops alike: strokes have a direction
        picture = np.ascontiguousarray(picture[:, ::-1])
    encoder_crop = cut(picture, config.style_size, rng.uniform(1.0, config.style_zoom), rng)
    if config.stroke_zoom == 1.0 and ranks == 1 and config.stroke_sizes == (1.0, 1.0):
        return np.stack([encoder_crop, encoder_crop])
    zoom = max(1.0, config.stroke_zoom * stroke_size(config, view))
    near = resize_short_side(picture, round(config.style_size * zoom))
    parts = [cut(near, config.style_size, None, rng) for _ in range(ranks)]
    return np.stack([encoder_crop, by_detail(parts)[rank]])


def windows(
    crop: Image, size: int, places: Sequence[Sequence[int]]
) -> tuple[Image, Image | None, tuple[int, int]]:
    """Return two windows of ``size`` into one crop at (top, left) each, and the offset between them.

    The second is None if the crop has no margin.
    """
    if crop.shape[0] == size:
        return crop, None, (0, 0)
    (top, left), (low, right) = places
    first = crop[top : top + size, left : left + size]
    second = crop[low : low + size, right : right + size]
    return first, second, (low - top, right - left)


def noisy(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Return the image with Gaussian noise of ``deviation`` gray levels."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(deviation)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def collate(samples: list[Any], *, every_row: bool = False) -> Batch | InputError:
    """Collate samples into one batch; return the error if one of them is an error.

    All style crops are one tensor: every tensor that comes from another process takes a connection of its
    own. With ``every_row`` each sample has a row in it, that of another if it has no style; so the shape is
    constant over steps, see ``StyleTargets._own``.
    """
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    made: list[Sample] = samples
    crops = {sample.view: sample.style for sample in made if sample.view and sample.style is not None}
    rows = list(crops)
    if every_row and rows:
        rows = [sample.view or rows[0] for sample in made]
    return Batch(
        contents=torch.from_numpy(np.stack([sample.content for sample in made])),
        moved=_stacked([sample.moved for sample in made]),
        shifts=torch.tensor([sample.shift for sample in made]),
        views=[sample.view for sample in made],
        own=torch.tensor([sample.view is None for sample in made]),
        strengths=torch.tensor([sample.strength for sample in made]),
        style_views=rows,
        style_crops=_stacked([crops[view] for view in rows]),
        strokes=torch.tensor([sample.strokes for sample in made]),
        gains=torch.from_numpy(np.stack([sample.gains for sample in made])),
        canvas=_stacked([sample.canvas for sample in made]),
        moved_canvas=_stacked([sample.moved_canvas for sample in made]),
        skipped=frozenset().union(*(sample.skipped for sample in made)),
    )


def _stacked(images: Sequence[Image | None]) -> Tensor | None:
    """Stack images of one size to (N, ...); None if there are none."""
    there = [image for image in images if image is not None]
    return torch.from_numpy(np.stack(there)) if there else None


def batches(
    samples: Dataset[Any],
    join: Callable[[list[Any]], Any],
    batch: int,
    start: int,
    share: Share,
    *,
    pin: bool,
) -> Iterator[Any]:
    """Yield endless batches of this process's share: of each ``batch`` numbers from ``start`` on."""
    size = batch // share.ranks

    def numbers() -> Iterator[list[int]]:
        first = start + share.rank * size
        while True:
            yield list(range(first, first + size))
            first += batch

    loader = DataLoader(
        samples,
        batch_sampler=numbers(),
        num_workers=share.workers,
        collate_fn=join,
        worker_init_fn=_quiet_worker,
        pin_memory=pin,
        prefetch_factor=4 if share.workers else None,
        multiprocessing_context=worker_context() if share.workers else None,
    )
    for made in loader:
        if isinstance(made, InputError):
            raise made
        yield made


def worker_context() -> BaseContext:
    """Return the start method of workers: not forked from the training process.

    A forked copy of OpenCV's or OpenMP's thread pool has no threads and waits for them forever. The server
    they are forked from imports PyTorch once, instead of every worker: 14 on a fresh machine took 46 s.
    """
    context = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        context.set_forkserver_preload([__name__])
    return context


def _quiet_worker(_: int) -> None:
    """Limit a worker to one thread: the workers themselves are the parallelism."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def default_workers(device: str) -> int:
    """Return the number of decoding processes: up to 16 for a GPU; one beside a CPU, which is busy anyway."""
    return min(16, max(1, (os.cpu_count() or 1) - 1)) if device == "cuda" else 1
