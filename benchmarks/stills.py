"""Time, memory and exactness of large stills: ``python -m mst_deploy.benchmarks.stills --megapixels 12``.

Each picture goes through ``mst image`` in a process of its own. The result is compared with that of the
picture as a whole, or, where that takes too much memory, in tiles of another size, whose borders are at other
places. The table goes to docs/images.md (``python -m tools.docs.make_benchmarks``).
"""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from mst_deploy.benchmarks.environment import background_load, environment_info, peak_memory
from mst_deploy.benchmarks.reports import markdown
from mst_deploy.images import resize
from mst_deploy.images.files import JPEG_QUALITY, load_image
from mst_deploy.model.zoo import shipped_photographs

Picture = NDArray[np.uint8]
"""(H, W, 3)."""
MEGAPIXEL = 10**6
OTHER_TILE = 48
"""Side in cells of the tiles that a result is compared with where the whole takes too much memory."""
QUIET = 0.1
"""Largest load of other programs with which a time is shown in the table."""
BESIDE = (-3, -2, -1, 1, 2, 3)
"""Distances in cells of the lines that borders of tiles are compared with."""


def make_still(photographs: Sequence[Path], megapixels: float) -> Picture:
    """Return a picture (H, W, 3) in 3:2: one photograph enlarged, which has flat areas, and the others as a
    mosaic over its right half, three times as large as they are."""
    height = round((megapixels * MEGAPIXEL / 1.5) ** 0.5)
    width = round(height * 1.5)
    first, *others = [load_image(path) for path in photographs]
    still = resize(first, width, height)
    others = [resize(each, 3 * each.shape[1], 3 * each.shape[0]) for each in others or [first]]
    count, top = 0, 0
    while top < height:
        left, tallest = width // 2, 1
        while left < width:
            piece = others[count % len(others)][: height - top, : width - left]
            still[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
            left, tallest, count = left + piece.shape[1], max(tallest, piece.shape[0]), count + 1
        top += tallest
    return still


def borders(side: int) -> list[int]:
    """Return where tiles begin along a side in pixels, but for the first."""
    from mst_deploy.pipeline.tiles import CELL, tiles

    return sorted({tile.kept[0].start * CELL for tile in tiles(side, CELL, 0)} - {0})


def seam_step(found: Picture, reference: Picture) -> float:
    """Return the largest step along the border of a tile that a reference has not, in levels.

    A step is the mean, along one side of a tile, of the differences between the pixels on its two sides.
    """
    largest = 0.0
    for one, other in ((found, reference), (np.swapaxes(found, 0, 1), np.swapaxes(reference, 0, 1))):
        rows, ends = borders(one.shape[0]), [0, *borders(one.shape[1])]
        lengths = np.diff([*ends, one.shape[1]])[:, None]
        for row in rows:
            added = _across(one, row) - _across(other, row)
            largest = max(largest, float(np.abs(np.add.reduceat(added, ends, 0) / lengths).max()))
    return largest


def border_ratio(found: Picture) -> float:
    """Return the mean difference between neighbors across borders of tiles over that across lines beside.

    Those are at distances of whole cells: networks that enlarge maps have a pattern of that period.
    """
    from mst_deploy.pipeline.tiles import CELL

    at_borders, beside = [], []
    for picture in (found, np.swapaxes(found, 0, 1)):
        for row in borders(picture.shape[0]):
            at_borders.append(np.abs(_across(picture, row)).mean())
            beside += [np.abs(_across(picture, row + CELL * cells)).mean() for cells in BESIDE]
    return float(np.mean(at_borders) / np.mean(beside))


def _across(picture: Picture, row: int) -> NDArray[np.float64]:
    """Return the differences between a row and the one above it, (W, 3)."""
    return np.asarray(picture[row].astype(np.float64) - picture[row - 1], np.float64)


def compared(found: Picture, reference: Picture) -> dict[str, Any]:
    """Return how far a result is from a reference, in levels and dB."""
    counts = np.bincount(cv2.absdiff(found, reference).ravel(), minlength=256)
    error = float((counts * np.arange(256.0) ** 2).sum() / counts.sum())
    return {
        "psnr_db": round(10 * math.log10(255.0**2 / error), 1) if error else 100.0,
        "largest_difference": int(counts.nonzero()[0].max()),
        "seam_step": round(seam_step(found, reference), 4),
    }


def run_here(whole: str, tile: str, *arguments: str) -> None:
    """Run ``mst`` in this process and print seconds, seconds of all processors, and peak memory in MiB."""
    from mst_deploy.pipeline import still, tiles

    vars(still)["WHOLE_PIXELS"] = int(whole) or tiles.WHOLE_PIXELS
    tiles.TILE = int(tile) or tiles.TILE
    sys.argv = ["mst", *arguments]
    started = time.perf_counter()
    try:
        runpy.run_module("mst_deploy", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    figures = {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time(), 1),
        "peak_mib": round(peak_memory()),
    }
    print(json.dumps(figures))


def run(source: Path, target: Path, words: Sequence[str], *, whole: int = 0, tile: int = 0) -> dict[str, Any]:
    """Run ``mst image`` in a process of its own; return its figures and the backend that it names."""
    code = f"import sys; from {__spec__.name} import run_here; run_here(*sys.argv[1:])"
    given = [str(whole), str(tile), "image", str(source), "-o", str(target), "--force", "--json", *words]
    done = subprocess.run([sys.executable, "-c", code, *given], stdout=subprocess.PIPE, text=True, check=True)
    said, figures = done.stdout.strip().rsplit("\n", 1)
    return {"chosen": json.loads(said)["backend"], **json.loads(figures)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    head = (
        "model, backend",
        "megapixels",
        "seconds of processors",
        "seconds",
        "peak memory, MiB",
        "compared with",
        "PSNR, dB",
        "largest difference",
        "largest seam",
        "at borders",
    )
    lines = []
    for row in rows:
        beside = (
            f"the whole ({row['whole_peak_mib']:,} MiB)" if row["reference"] == "whole" else "other tiles"
        )
        chosen = "" if row["backend"] == row["chosen"] else f" ({row['chosen']})"
        lines.append(
            (
                f"`{row['model']}`, {row['backend']}{chosen}",
                f"{row['megapixels']:g}",
                f"{row['processor_seconds']:,.0f}",
                "-" if row["load"] is None or row["load"] > QUIET else f"{row['seconds']:,.0f}",
                f"{row['peak_mib']:,}",
                beside if row["reference"] else "-",
                *(f"{row[name]}" if row["reference"] else "-" for name in ("psnr_db", "largest_difference")),
                f"{row['seam_step']:.3f}" if row["reference"] else "-",
                f"{row['border_ratio']:.3f}",
            )
        )
    return markdown(head, lines)


def main(
    megapixels: Annotated[list[float], typer.Option(help="Size of a picture; may be repeated.")],
    model: Annotated[list[str] | None, typer.Option(help="May be repeated. Default: lite.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="May be repeated. Default: onnxrt.")] = None,
    style: str = "starry-night",
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of .jpg files. Default: the shipped ones.")
    ] = None,
    whole: Annotated[float, typer.Option(help="Compare with the whole up to these megapixels.")] = 12,
    tiles: Annotated[float, typer.Option(help="With other tiles up to these; above with nothing.")] = 24,
    folder: Annotated[Path | None, typer.Option(help="Keep pictures here.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Report; rows are added.")] = None,
) -> None:
    """Measure ``mst image`` with pictures of several sizes."""
    files = sorted(photographs.glob("*.jpg")) if photographs else shipped_photographs()
    report: dict[str, Any] = {"runs": [], "rows": []}
    if output is not None and output.exists():
        report = json.loads(output.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        for size in megapixels:
            source = place / f"still-{size:g}.jpg"
            picture = cv2.cvtColor(make_still(files, size), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(source), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            for name in model or ["lite"]:
                for runtime in backend or ["onnxrt"]:
                    words = ["--model", name, "--backend", runtime, "--style", style, "--quiet"]
                    reference = "whole" if size <= whole else "tiles" if size <= tiles else ""
                    row = {"model": name, "backend": runtime, "megapixels": size, "style": style}
                    row["size"] = f"{picture.shape[1]}x{picture.shape[0]}"
                    target = place / f"{source.stem}-{name}-{runtime.replace(':', '-')}.png"
                    row |= measured(source, target, words, reference)
                    print(json.dumps(row), flush=True)
                    report["rows"].append(row)
        report["runs"].append(environment_info())
    print(table(report["rows"]))
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measured(source: Path, target: Path, words: Sequence[str], reference: str) -> dict[str, Any]:
    """Return the row of one picture; a small one goes before, so that ``auto`` has made its choice."""
    with tempfile.TemporaryDirectory() as temporary:
        small, other = Path(temporary, "small.png"), Path(temporary, "other.png")
        cv2.imwrite(str(small), np.zeros((64, 64, 3), np.uint8))
        run(small, Path(temporary, "warm.png"), words)
        with background_load() as load:
            row: dict[str, Any] = run(source, target, words)
        row |= {"load": load.share and round(load.share, 3), "reference": reference}
        found = load_image(target)
        row["border_ratio"] = round(border_ratio(found), 4)
        if reference == "whole":
            figures = run(source, other, words, whole=sys.maxsize)
            row |= {f"whole_{name}": figures[name] for name in ("seconds", "peak_mib")}
        elif reference:
            run(source, other, words, tile=OTHER_TILE)
        return row | (compared(found, load_image(other)) if reference else {})


if __name__ == "__main__":
    typer.run(main)
