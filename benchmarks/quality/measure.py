"""Evaluation of every pair of a set; an interrupted evaluation is continued."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from mst_deploy.benchmarks.quality import painted
from mst_deploy.benchmarks.quality.metrics import cfsd
from mst_deploy.benchmarks.quality.nets import (
    ArtInception,
    Lpips,
    fid768,
    fid_trunk,
    load_art_inception,
    load_lpips,
    relu3_1,
    stage_covariances,
)
from mst_deploy.benchmarks.quality.options import Weights
from mst_deploy.benchmarks.quality.rows import Row, key_of, read_log, to_line
from mst_deploy.benchmarks.quality.sets import Pair
from mst_deploy.benchmarks.quality.statistics import Vector, fringe_level, palette, strokes
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images import Image, load_image
from mst_deploy.model.checkpoints import digest
from mst_deploy.model.inception import InceptionTrunk
from mst_deploy.perceptual.artifacts import low_frequency_bleed_loss
from mst_deploy.perceptual.distances import (
    CONTENT_LAYER,
    as_tensor,
    content_distance,
    gram_target,
    style_distance,
)
from mst_deploy.perceptual.vgg import Vgg19, find_vgg, load_vgg

Value = TypeVar("Value")

FORMAT = 2
KEPT_STYLES, KEPT_CONTENTS = 256, 2  # 1.4 MB of Gram matrices; 90 MB of features at 512x512


@dataclass(frozen=True)
class Metric:
    """Description of a figure of one pair."""

    title: str
    better: str
    """``lower`` or ``higher``."""
    meaning: str


METRICS = {
    "style": Metric("style", "lower", "Gram distance to the artwork, relative, VGG-19 relu1_1..4_1"),
    "content": Metric("content", "lower", "feature distance to the photograph, relative, VGG-19 relu4_1"),
    "ssim": Metric("SSIM", "higher", "structural similarity to the photograph (Wang et al. 2004), RGB"),
    "cfsd": Metric("CFSD", "lower", "self-similarity of relu3_1 against the photograph's (StyleID)"),
    "palette": Metric("palette", "lower", "distance of CIELAB means and spreads to the artwork's"),
    "strokes": Metric("strokes", "lower", "mean difference of log10 detail in four octaves to the artwork's"),
    "fringes": Metric("fringes", "lower", "light and colored lines along edges, gray levels of 255"),
    "uneven": Metric("uneven", "lower", "seams and clouds where the photograph is flat, mean square, 1e-6"),
    "uneven32": Metric("uneven 32", "lower", "the same of cells of 32 pixels, larger than strokes, 1e-6"),
    "painted": Metric(
        "painted",
        "higher",
        "share of the photograph's flat pixels that is painted; artworks that are not flat",
    ),
    "overpainted": Metric(
        "overpainted",
        "lower",
        "the same of flat artworks, less their own share: above 0 is more than they have",
    ),
    "inception": Metric(
        "Inception style", "lower", "covariance distance to the artwork, relative, Inception-v3 2b, 4a, 5d"
    ),
    "lpips": Metric("LPIPS", "lower", "LPIPS (AlexNet) to the photograph"),
    "lpips_gray": Metric("LPIPS gray", "lower", "LPIPS (AlexNet) to the photograph, both without color"),
}
"""Figures of single pairs. fid768, fid and artfid are of whole sets: see ``report``."""
LPIPS_METRICS = ("lpips", "lpips_gray")
BASIC = tuple(name for name in METRICS if name not in ("inception", *LPIPS_METRICS))
"""Figures that need VGG-19 only."""
CELLS = (32,)  # pixels, for ``uneven32``


@dataclass(frozen=True)
class Nets:
    """Networks that evaluate pictures."""

    vgg: Vgg19
    fid: InceptionTrunk | None
    lpips: Lpips | None
    art: ArtInception | None

    def facts(self) -> dict[str, str]:
        """Return digests of the weights: figures made with other weights are not comparable."""
        nets = {"vgg": self.vgg, "fid_inception": self.fid, "lpips": self.lpips, "art_inception": self.art}
        return {name: digest(net)[:12] for name, net in nets.items() if net is not None}


def open_nets(weights: Weights, *, lpips: bool, device: torch.device) -> Nets:
    """Load the networks onto the device; those of FID and ArtFID only if given. Raises InputError."""
    path = find_vgg(weights.vgg)
    art = weights.art_inception
    return Nets(
        load_vgg(path, weights.vgg_scales).to(device),
        fid_trunk(weights.inception).to(device) if weights.inception else None,
        load_lpips(weights.alexnet).to(device) if lpips or art else None,
        load_art_inception(art).to(device) if art else None,
    )


def measure_all(
    pairs: Sequence[Pair],
    observer: Observer,
    log: Path | None,
    on_progress: Callable[[int], None],
    *,
    batch: int = 1,
) -> list[Row]:
    """Return the rows of all pairs in order; those already in ``log`` are not measured again.

    Pairs are processed photograph by photograph, ``batch`` at once if results have one size. Raises
    InputError if ``log`` is of another measurement.
    """
    known = read_log(log, observer.identity()) if log is not None else {}
    keys = [key_of(pair) for pair in pairs]
    rows = {index: known[key] for index, key in enumerate(keys) if key in known}
    waiting = sorted(set(range(len(pairs))) - rows.keys(), key=lambda index: (pairs[index].content, index))
    on_progress(len(rows))
    for start in range(0, len(waiting), batch):
        indices = waiting[start : start + batch]
        rows.update(zip(indices, observer.rows([pairs[index] for index in indices]), strict=True))
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.writelines(to_line(keys[index], rows[index]) for index in indices)
        on_progress(len(rows))
    return [rows[index] for index in range(len(pairs))]


class Kept(Generic[Value]):
    """Least recently used cache of a function of a path."""

    def __init__(self, make: Callable[[Path], Value], most: int) -> None:
        self.make, self.most = make, most
        self.values: OrderedDict[Path, Value] = OrderedDict()

    def __call__(self, path: Path) -> Value:
        if path not in self.values:
            self.values[path] = self.make(path)
        self.values.move_to_end(path)
        while len(self.values) > self.most:
            self.values.popitem(last=False)
        return self.values[path]


@dataclass(frozen=True)
class StyleSide:
    """Features of an artwork."""

    grams: dict[str, Tensor]
    statistics: tuple[Vector, Vector]
    features: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ArtworkSide:
    """Features of an artwork at the size at which viewers see it beside a result."""

    picture: Image
    flat: bool
    own_share: float
    """Share of the artwork's own flat pixels that are painted, 0..1."""
    covariances: dict[str, Tensor] | None


@dataclass(frozen=True)
class ContentSide:
    """Features of a photograph."""

    image: Tensor
    content: Tensor
    grams: dict[str, Tensor]
    structure: Tensor | None
    uneven32: float


class Observer:
    """Computes rows; caches the features of artworks and of the last photographs."""

    def __init__(self, nets: Nets, metrics: Sequence[str], device: torch.device) -> None:
        if unknown := [name for name in metrics if name not in METRICS]:
            raise InvalidArgument(
                field="metrics",
                problem=f"unknown metric {unknown[0]!r}",
                hint=f"choose of {', '.join(METRICS)}",
            )
        if "inception" in metrics and nets.fid is None:
            raise InvalidArgument(
                field="inception",
                problem="the metric inception needs FID's Inception",
                hint="give it with [option:inception] FILE",
            )
        self.nets, self.metrics, self.device = nets, tuple(metrics), device
        self.style = Kept(self._style_side, KEPT_STYLES)
        self.artwork = Kept(self._artwork_side, KEPT_STYLES)
        self.content = Kept(self._content_side, KEPT_CONTENTS)

    def identity(self) -> dict[str, Any]:
        """Return what determines the figures: rows of another identity cannot be reused."""
        return {"format": FORMAT, "metrics": sorted(self.metrics), "nets": self.nets.facts()}

    @torch.inference_mode()
    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """Return the rows of a few pairs; results of one size go through the networks in one batch."""
        images = [load_image(pair.stylized) for pair in pairs]
        if len({image.shape for image in images}) > 1:
            return [row for pair in pairs for row in self.rows([pair])]
        results = torch.cat([as_tensor(image) for image in images]).to(self.device)
        taps = self.nets.vgg(results)
        pooled = self._pooled(results)
        made = []
        for index, pair in enumerate(pairs):
            own = {name: tap[index : index + 1] for name, tap in taps.items()}
            values, photo_style = self._values(pair, images[index], results[index : index + 1], own)
            features = {name: rows[index] for name, rows in pooled.items()}
            features |= {f"{name}_style": row for name, row in self.style(pair.style).features.items()}
            size = (images[index].shape[1], images[index].shape[0])
            names = (pair.content.name, pair.style.name, pair.stylized.name, pair.group)
            uneven = self.content(pair.content).uneven32
            made.append(Row(*names, size, values, photo_style, features, uneven))
        return made

    def _values(
        self, pair: Pair, picture: Image, result: Tensor, taps: dict[str, Tensor]
    ) -> tuple[dict[str, float], float]:
        """Return all figures of one result (1, 3, H, W) with its VGG features, and the photograph's style
        distance."""
        art, seen, photo = self.style(pair.style), self.artwork(pair.seen), self.content(pair.content)
        if photo.image.shape != result.shape:
            raise InputError(f"{pair.stylized} and its photograph {pair.content} differ in size")
        grams = gram_target(taps)

        def share() -> float:
            return painted.painted_share(load_image(pair.content), picture, seen.picture)

        makers: dict[str, Callable[[], float]] = {
            "style": lambda: float(style_distance(grams, art.grams)),
            "content": lambda: float(content_distance(taps[CONTENT_LAYER], photo.content)),
            "ssim": lambda: float(_ssim(result, photo.image)),
            "cfsd": lambda: cfsd(_known(photo.structure), relu3_1(self.nets.vgg, result)),
            "palette": lambda: float(np.linalg.norm(palette(picture) - art.statistics[0])),
            "strokes": lambda: float(np.abs(strokes(picture) - art.statistics[1])[:4].mean()),
            "fringes": lambda: fringe_level(result, photo.image),
            "uneven": lambda: 1e6 * float(low_frequency_bleed_loss(result, photo.image)),
            "uneven32": lambda: _uneven32(result, photo.image),
            "painted": lambda: math.nan if seen.flat else share(),
            "overpainted": lambda: share() - seen.own_share if seen.flat else math.nan,
            "inception": lambda: float(
                style_distance(stage_covariances(_known(self.nets.fid), result), _known(seen.covariances))
            ),
            "lpips": lambda: float(_known(self.nets.lpips)(photo.image, result)),
            "lpips_gray": lambda: float(_known(self.nets.lpips)(_gray(photo.image), _gray(result))),
        }
        values = {name: makers[name]() for name in self.metrics}
        return values, float(style_distance(photo.grams, art.grams))

    def _pooled(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Return the features for whole-set figures, (N, d) float32 each."""
        features = {} if self.nets.fid is None else {"fid768": fid768(self.nets.fid, images)}
        if self.nets.art is not None:
            features["fid"] = self.nets.art(images)
        return {name: value.cpu().numpy() for name, value in features.items()}

    def _style_side(self, path: Path) -> StyleSide:
        picture = load_image(path)
        image = as_tensor(picture).to(self.device)
        features = {name: rows[0] for name, rows in self._pooled(image).items()}
        return StyleSide(gram_target(self.nets.vgg(image)), (palette(picture), strokes(picture)), features)

    def _artwork_side(self, path: Path) -> ArtworkSide:
        picture = painted.shown(load_image(path))
        covariances = None
        if "inception" in self.metrics:
            image = as_tensor(picture).to(self.device)
            covariances = stage_covariances(_known(self.nets.fid), image)
        own = painted.own_painted_share(picture)
        return ArtworkSide(picture, painted.is_flat(picture), own, covariances)

    def _content_side(self, path: Path) -> ContentSide:
        image = as_tensor(load_image(path)).to(self.device)
        taps = self.nets.vgg(image)
        structure = relu3_1(self.nets.vgg, image) if "cfsd" in self.metrics else None
        uneven = _uneven32(image, image)
        return ContentSide(image, taps[CONTENT_LAYER], gram_target(taps), structure, uneven)


def _known(value: Value | None) -> Value:
    assert value is not None
    return value


def _uneven32(result: Tensor, photo: Tensor) -> float:
    return 1e6 * float(low_frequency_bleed_loss(result, photo, CELLS))


def _ssim(result: Tensor, photo: Tensor) -> Tensor:
    similarity = structural_similarity_index_measure(result, photo, data_range=1.0)
    assert isinstance(similarity, Tensor)
    return similarity


def _gray(images: Tensor) -> Tensor:
    """Convert (N, 3, H, W) RGB to (N, 1, H, W) luma of BT.601, as Pillow does."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True)
