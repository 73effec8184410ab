"""What was found about one set: JSON for programs, Markdown, CSV, plots and a page of pictures for people."""

from __future__ import annotations

import base64
import csv
import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np

from mst_deploy.benchmarks.quality.measure import METRICS
from mst_deploy.benchmarks.quality.metrics import (
    INFINITY_START,
    artfid,
    bootstrap_interval,
    frechet_infinity,
    frechet_of,
)
from mst_deploy.benchmarks.quality.rows import Row
from mst_deploy.benchmarks.quality.sets import Pair
from mst_deploy.errors import InputError, InvalidArgument, Message
from mst_deploy.files import replacing
from mst_deploy.images import Image, load_image, resize_short_side
from mst_deploy.model.inception import INCEPTION_URL

mpl.use("Agg")
from matplotlib import pyplot as plt

MODES = ("art_fid", "art_fid_inf")
LEAST_FOR_FRECHET = 50
"""Pairs below which a Frechet distance says nothing and is left out."""
SHOWN = 6  # best and worst pairs in the page
THUMBNAIL = 256


def summarize(rows: Sequence[Row], mode: str = "art_fid") -> dict[str, Any]:
    """Means with intervals over all pairs and by group, and the figures of the whole set.

    Raises InputError when ``mode`` needs more pairs than there are.
    """
    names = list(rows[0].values)
    means = {name: mean_of([row.values[name] for row in rows]) for name in names}
    summary: dict[str, Any] = {
        "pairs": len(rows),
        "sizes": sorted({f"{row.size[0]}x{row.size[1]}" for row in rows}),
        "means": {name: mean for name, mean in means.items() if mean is not None},
        "photo_style": float(np.mean([row.photo_style for row in rows])),
        "whole_set": whole_set(rows, mode),
        "groups": {},
    }
    for group in sorted({row.group for row in rows} - {""}):
        own = [row for row in rows if row.group == group]
        measured = {name: _measured([row.values[name] for row in own]) for name in names}
        of_group = {name: float(np.mean(values)) for name, values in measured.items() if values}
        summary["groups"][group] = {"pairs": len(own), **of_group}
    return dict(rounded(summary))


def mean_of(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and interval; ``pairs`` as well where not all have the figure (NaN), None where none has."""
    measured = _measured(values)
    if not measured:
        return None
    found = asdict(bootstrap_interval(measured))
    return found if len(measured) == len(values) else {**found, "pairs": len(measured)}


def whole_set(rows: Sequence[Row], mode: str) -> dict[str, float]:
    """fid768, and with the networks for them fid and artfid. Artworks count once for every pair.

    inception_median, which a few odd pairs do not move, and uneven32_ratio: by how much results are less
    even than their photographs, mean by mean (left out where all photographs are even).
    """
    check_mode(mode, len(rows))
    found: dict[str, float] = {}
    if "inception" in rows[0].values:
        found["inception_median"] = float(np.median([row.values["inception"] for row in rows]))
    floor = sum(row.photo_uneven32 for row in rows)
    if "uneven32" in rows[0].values and floor > 0:
        found["uneven32_ratio"] = sum(row.values["uneven32"] for row in rows) / floor
    if len(rows) >= LEAST_FOR_FRECHET and "fid768" in rows[0].features:
        found["fid768"] = frechet_of(*_features(rows, "fid768"))
    if "fid" in rows[0].features:
        if len({row.size for row in rows}) > 1:
            raise InputError("ArtFID resizes nothing: all pictures of a set must have one size")
        distance = frechet_infinity if mode == "art_fid_inf" else frechet_of
        found["fid"] = distance(*_features(rows, "fid"))
        found["artfid"] = artfid(float(np.mean([row.values["lpips"] for row in rows])), found["fid"])
    return found


def check_mode(mode: str, pairs: int) -> None:
    """Raise InvalidArgument for an unknown ArtFID mode, InputError for one that needs more pairs."""
    if mode not in MODES:
        raise InvalidArgument(
            field="artfid_mode", problem=f"unknown mode {mode!r}", hint=f"choose one of {', '.join(MODES)}"
        )
    if mode == "art_fid_inf" and pairs < INFINITY_START:
        raise InputError(
            f"art_fid_inf needs {INFINITY_START} pairs at least, found {pairs} (below that the authors' "
            "program falls back to the plain distance without a word); use [option:artfid_mode] art_fid"
        )


def check_form(found: Any) -> None:
    """Raise ValueError for JSON that is no report."""
    if not isinstance(found, dict) or not {"system", "nets", "summary"} <= found.keys():
        raise ValueError("it is not a report of mst eval")


def missing(summary: dict[str, Any]) -> list[Message]:
    """What could not be measured, and what it would take."""
    notes = []
    if summary["pairs"] < LEAST_FOR_FRECHET:
        notes.append(f"fid768: needs {LEAST_FOR_FRECHET} pairs, there are {summary['pairs']}")
    elif "fid768" not in summary["whole_set"]:
        notes.append(f"fid768: download {INCEPTION_URL} and give it with [option:inception] FILE")
    elif summary["pairs"] <= 768:
        notes.append(
            f"fid768: {summary['pairs']} pairs for 768 features: biased high, only to be compared with "
            "sets of the same size"
        )
    if "inception" not in summary["means"]:
        notes.append(f"Inception style: download {INCEPTION_URL} and give it with [option:inception] FILE")
    if "lpips" not in summary["means"]:
        notes.append(
            "LPIPS: not asked for; [option:lpips] (fetches AlexNet, 233 MB) or [option:alexnet] FILE"
        )
    if "artfid" not in summary["whole_set"]:
        notes.append(
            "ArtFID: needs the Inception trained on art; download art_inception.pth from "
            "huggingface.co/matthias-wright/art_inception and give it with [option:art_inception] FILE"
        )
    return [Message(note) for note in notes]


def write(folder: Path, facts: dict[str, Any], rows: Sequence[Row], pairs: Sequence[Pair]) -> None:
    """report.json, report.md, rows.csv, plots and report.html into an existing folder."""
    _text(folder / "report.json", json.dumps(facts, indent=2) + "\n")
    _text(folder / "report.md", markdown(facts))
    with replacing(folder / "rows.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        names = list(rows[0].values)
        files = ["content_file", "style_file", "stylized_file"]  # figures are called content and style, too
        writer.writerow([*files, "group", *names, "photo_style"])
        for row in rows:
            figures = [f"{row.values[name]:.6g}" for name in names]
            writer.writerow([row.content, row.style, row.stylized, row.group, *figures, row.photo_style])
    for suffix in ("png", "svg") if {"content", "style"} <= set(names) else ():
        plot(folder / f"pairs.{suffix}", rows)
    _text(folder / "report.html", page(facts, rows, pairs))


def markdown(facts: dict[str, Any]) -> str:
    """The report as text: figures with intervals, by group, and what is missing."""
    summary = facts["summary"]
    lines = [
        f"# {facts['system']}",
        "",
        f"{summary['pairs']} pairs, {', '.join(summary['sizes'])} pixels",
        "",
        "| figure | mean | 95 % interval | better | what |",
        "|---|---|---|---|---|",
    ]
    for name, found in summary["means"].items():
        metric = METRICS[name]
        interval = f"{found['low']:.4g} .. {found['high']:.4g}"
        if "pairs" in found:
            interval += f" ({found['pairs']} pairs)"
        lines.append(
            f"| {metric.title} | {found['mean']:.4g} | {interval} | {metric.better} | {metric.meaning} |"
        )
    for name, value in summary["whole_set"].items():
        lines.append(f"| {name} | {value:.4g} | | lower | of the whole set |")
    lines.append(f"| style of the photograph itself | {summary['photo_style']:.4g} | | | the floor |")
    if summary["groups"]:
        names = list(summary["means"])
        lines += ["", f"| group | pairs | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
        for group, found in summary["groups"].items():
            cells = " | ".join(f"{found[name]:.4g}" if name in found else "" for name in names)
            lines.append(f"| {group} | {found['pairs']} | {cells} |")
    lines += ["", *(f"- {note}" for note in facts["missing"]), "", f"`{facts['command']}`", ""]
    return "\n".join(lines)


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Every pair at its content and style distance."""
    figure, axis = plt.subplots(figsize=(6, 4.5), constrained_layout=True)
    axis.plot([r.values["content"] for r in rows], [r.values["style"] for r in rows], ".", alpha=0.6)
    axis.set_xlabel("content distance")
    axis.set_ylabel("style distance")
    axis.set_yscale("log")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(facts: dict[str, Any], rows: Sequence[Row], pairs: Sequence[Pair]) -> str:
    """One HTML file that needs no other: the table, and the lowest and highest pairs by style distance.

    Where that was not measured, by the first figure that was.
    """
    names = list(rows[0].values)
    key = "style" if "style" in names else names[0]
    having = [index for index, row in enumerate(rows) if not math.isnan(row.values[key])]
    order = sorted(having, key=lambda index: rows[index].values[key])
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(facts['system'])}</title>",
        "<style>body{font:15px sans-serif;margin:2em;max-width:1000px}td,th{padding:3px 9px;text-align:left}"
        "img{width:240px;height:auto;margin:2px}figure{margin:0 0 1em}pre{white-space:pre-wrap}</style>",
        f"<pre>{html.escape(markdown(facts))}</pre>",
    ]
    best, worst = order[:SHOWN], order[::-1][: min(SHOWN, len(order) - SHOWN)]
    for title, chosen in ((f"Lowest by {key}", best), (f"Highest by {key}", worst)):
        if chosen:
            parts.append(f"<h2>{title}</h2>")
        for index in chosen:
            pair, row = pairs[index], rows[index]
            shown = "".join(_inline(load_image(p)) for p in (pair.content, pair.style, pair.stylized))
            known = {name: value for name, value in row.values.items() if not math.isnan(value)}
            figures = ", ".join(f"{name} {value:.3g}" for name, value in known.items())
            parts.append(
                f"<figure>{shown}<figcaption>{html.escape(row.stylized)}: {figures}</figcaption></figure>"
            )
    return "\n".join(parts) + "\n"


def table(reports: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Markdown of several reports: one system a row. Raises InputError when they cannot be compared.

    They can when the same networks measured the same pairs of photographs and artworks.
    """
    same = [(r["nets"], r["summary"]["set"]) for r in reports]
    for report, own in zip(reports, same, strict=True):
        if own != same[0]:
            raise InputError(
                f"{report['system']} and {reports[0]['system']} cannot be compared: they were measured with "
                "other networks or on other pairs"
            )
    columns = [name for name in names if any(name in _figures(report) for report in reports)]
    lines = [f"| system | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for report in reports:
        found = _figures(report)
        cells = " | ".join(f"{found[name]:.4g}" if name in found else "" for name in columns)
        lines.append(f"| {report['system']} | {cells} |")
    return "\n".join(lines)


def group_table(reports: Sequence[dict[str, Any]], name: str) -> str:
    """Markdown of one figure: groups down, systems across."""
    groups = sorted({group for report in reports for group in report["summary"]["groups"]})
    lines = [
        f"| {name} | {' | '.join(report['system'] for report in reports)} |",
        "|---" * (len(reports) + 1) + "|",
    ]
    for group in groups:
        cells = [report["summary"]["groups"].get(group, {}).get(name) for report in reports]
        lines.append(f"| {group} | {' | '.join('' if c is None else f'{c:.4g}' for c in cells)} |")
    return "\n".join(lines)


def rounded(value: Any) -> Any:
    """The same with floats of six digits: nothing here is known better."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _figures(report: dict[str, Any]) -> dict[str, float]:
    means = {name: found["mean"] for name, found in report["summary"]["means"].items()}
    return {**means, **report["summary"]["whole_set"]}


def _measured(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _features(rows: Sequence[Row], name: str) -> tuple[Any, Any]:
    return (
        np.stack([row.features[name] for row in rows]),
        np.stack([row.features[f"{name}_style"] for row in rows]),
    )


def _inline(image: Image) -> str:
    small = image if min(image.shape[:2]) <= THUMBNAIL else resize_short_side(image, THUMBNAIL)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
