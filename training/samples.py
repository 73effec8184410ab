"""What a training step is fed with: numbered samples, made by workers, the same in every run.

Sample n is a pure function of the seed and n: which photograph, which crop, which style view. So a run
that is stopped and continued, or spread over more workers or processes, sees the same data in the same
order, and resuming needs no more than the number of samples seen.
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

from mst_deploy.errors import InputError
from mst_deploy.image_sets import StoredImage
from mst_deploy.images import Image
from mst_deploy.training.config import EXPRESSIVE, Stage, TrainConfig
from mst_deploy.training.data import group_weights, random_crop, shift_colours

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
LEAST_STRENGTH = 0.5  # below it the source is mixed in, see film.look_at
TRIES = 20  # other images tried in the place of one that cannot be read


@dataclass(frozen=True)
class Share:
    """Which part of the data a process makes, and with how many workers."""

    rank: int = 0
    ranks: int = 1
    workers: int = 0


class View(NamedTuple):
    """One crop of one style image."""

    image: int
    number: int


@dataclass(frozen=True)
class Batch:
    """N samples; pixels are (H, W, 3) uint8 RGB."""

    contents: Tensor
    """(N, S, S, 3)."""
    moved: Tensor | None
    """(N, S, S, 3): second windows into the same photographs, with noise; None without temporal term."""
    shifts: Tensor
    """(N, 2) int64: where the second windows lie, (down, right) pixels."""
    views: list[View | None]
    """The style of each sample; None stands for the photograph itself."""
    strengths: Tensor
    """(N,) float32: how far each goes from the photograph's own film row (0) to the style's (1)."""
    styles: dict[View, Tensor]
    """(Z, Z, 3): the style crops whose targets the trainer has not kept yet."""
    skipped: frozenset[str]
    """Names of files that could not be used, with the reason."""

    def __len__(self) -> int:
        return len(self.contents)

    def pin_memory(self) -> Batch:
        """Called by the loader for CUDA, where copies from pinned memory overlap with kernels."""
        moved = None if self.moved is None else self.moved.pin_memory()
        return replace(self, contents=self.contents.pin_memory(), moved=moved)


class Samples(Dataset[Any]):
    """Sample n of a stage as (content, moved, shift, view, strength, style crop, skipped)."""

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        contents: Sequence[StoredImage],
        styles: Sequence[StoredImage],
        known: Tensor | None,
    ) -> None:
        """``known`` (images, views) bool in shared memory marks style views that need not be decoded."""
        self.config, self.stage, self.contents, self.styles, self.known = (
            config, stage, contents, styles, known,
        )  # fmt: skip
        self.odds = group_weights(styles, EXPRESSIVE, config.expressive_weight)

    def __getitem__(self, number: int) -> Any:
        """The sample, or the InputError that prevents it: raised here, the loader would garble its text."""
        try:
            return self.make(number)
        except InputError as error:
            return error

    def make(self, number: int) -> tuple[Any, ...]:
        config = self.config
        rng = np.random.default_rng((config.seed, 1, number))
        skipped: set[str] = set()
        photo = first_readable(self.contents, self._photo(number), skipped)
        margin = config.temporal_shift if config.temporal_weight else 0
        wide = random_crop(photo, self.stage.crop + margin, config.content_zoom, rng)
        content, moved, shift = windows(wide, self.stage.crop, config, rng)
        if rng.random() < config.identity_share:
            return content, moved, shift, None, 1.0, None, skipped
        view = View(int(rng.choice(len(self.styles), p=self.odds)), int(rng.integers(config.style_views)))
        style = None
        if self.known is None or not self.known[view]:
            style = style_crop(config, self.styles, view, skipped)
        weak = config.strength_share > 0 and rng.random() < config.strength_share
        strength = float(rng.uniform(LEAST_STRENGTH, 1.0)) if weak else 1.0
        return content, moved, shift, view, strength, style, skipped

    def _photo(self, number: int) -> int:
        """Every photograph once per pass, in an order of its own each time."""
        count = len(self.contents)
        return int(order(self.config.seed, number // count, count)[number % count])


@lru_cache(maxsize=2)
def order(seed: int, turn: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A permutation of 0..count-1 for every turn."""
    return np.random.default_rng((seed, 2, turn)).permutation(count)


def first_readable(images: Sequence[StoredImage], first: int, skipped: set[str]) -> Image:
    """Image ``first``, or the next one that can be read; names of the others go to ``skipped``.

    Raises InputError when TRIES in a row cannot.
    """
    for step in range(min(TRIES, len(images))):
        try:
            return images[(first + step) % len(images)].decode()
        except InputError as error:
            skipped.add(str(error))
    raise InputError(
        f"none of {min(TRIES, len(images))} images in a row could be used; the last: {sorted(skipped)[-1]}"
    )


def style_crop(config: TrainConfig, styles: Sequence[StoredImage], view: View, skipped: set[str]) -> Image:
    """The crop of a style view; view 0 always keeps its colours."""
    rng = np.random.default_rng((config.seed, view.image, view.number))
    picture = first_readable(styles, view.image, skipped)
    crop = random_crop(picture, config.style_size, config.style_zoom, rng)
    if rng.random() < config.colour_shift_share and view.number > 0:
        crop = shift_colours(crop, rng)
    return crop


def windows(
    wide: Image, size: int, config: TrainConfig, rng: np.random.Generator
) -> tuple[Image, Image | None, tuple[int, int]]:
    """Two windows of ``size`` into one crop, the second with noise, and the way from one to the other."""
    margin = wide.shape[0] - size
    if margin == 0:
        return wide, None, (0, 0)
    (top, left), (low, right) = rng.integers(0, margin + 1, (2, 2)).tolist()
    noise = rng.normal(0, config.temporal_noise, (size, size, 3))
    second = wide[low : low + size, right : right + size] + noise
    moved = np.clip(np.rint(second), 0, 255).astype(np.uint8)
    return wide[top : top + size, left : left + size], moved, (low - top, right - left)


def collate(samples: list[Any]) -> Batch | InputError:
    """Samples of the loader -> one batch, or the error that one of them is."""
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    contents, moved, shifts, views, strengths, crops, skipped = zip(*samples, strict=True)
    styles = {v: torch.from_numpy(c) for v, c in zip(views, crops, strict=True) if c is not None}
    return Batch(
        torch.from_numpy(np.stack(contents)),
        None if moved[0] is None else torch.from_numpy(np.stack(moved)),
        torch.tensor(shifts),
        list(views),
        torch.tensor(strengths),
        styles,
        frozenset().union(*skipped),
    )


def batches(
    samples: Dataset[Any],
    join: Callable[[list[Any]], Any],
    batch: int,
    start: int,
    share: Share,
    *,
    pin: bool,
) -> Iterator[Any]:
    """Endless batches of this process's share: of each ``batch`` numbers from ``start`` on."""
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
    """How workers are started: not forked from the training process.

    A forked copy of OpenCV's or OpenMP's thread pool has no threads and waits for them for ever. The server
    they are forked from imports PyTorch once, in place of every worker: 14 on a fresh machine took 46 s.
    """
    context = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        context.set_forkserver_preload([__name__])
    return context


def _quiet_worker(_: int) -> None:
    """One thread each: the workers themselves are the parallelism."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def default_workers(device: str) -> int:
    """Decoding processes: up to 16 for a GPU; one beside a CPU that is busy anyway."""
    return min(16, max(1, (os.cpu_count() or 1) - 1)) if device == "cuda" else 1
