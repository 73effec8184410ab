"""Make the tables and pictures of docs/evaluation.md: the shipped models beside other systems.

    python -m tools.docs.make_evaluation collect base=REPORT lite=REPORT magenta=REPORT ...
    python -m tools.docs.make_evaluation frontier --ours base=REPORT,REPORT,... --others REPORT ...
    python -m tools.docs.make_evaluation flicker --clips CLIPS.json --reference magenta
    python -m tools.docs.make_evaluation full-style --clips CLIPS.json --reference magenta
    python -m tools.docs.make_evaluation sheet --pictures SET --system base=FOLDER --system Magenta=FOLDER ...

Reports are folders written by ``mst eval``, one for each strength; CLIPS.json is written by
``python -m mst_deploy.benchmarks.quality.clips``. Figures go to docs/evaluation_systems.json.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import typer

from mst_deploy.benchmarks.quality.frontier import Point, compare, compare_turned_down, cost_at
from mst_deploy.benchmarks.quality.sets import PAIRS, ROLES, read_pairs
from mst_deploy.images import Image, center_crop, load_image
from tools.docs import DOCS, save_jpeg

mpl.use("Agg")
from matplotlib import pyplot as plt

GAP, CELL = 6, 240  # white pixels between cells, and side of a cell
SHEET_BYTES = 480_000
KEPT = (
    "system",
    "model_id",
    "precision",
    "backend",
    "strength",
    "made_at",
    "summary",
    "nets",
    "device",
    "seconds_stylising",
    "seconds_measuring",
    "versions",
)
"""Keys of a report that are kept; the others are paths on the machine of the measurement."""

app = typer.Typer(help=__doc__, add_completion=False)


def keep(name: str, figures: Any) -> None:
    """Put figures under a name into evaluation_systems.json."""
    file = DOCS / "evaluation_systems.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=1) + "\n")


def written(file: Path) -> Path:
    """Return the file of a report, if it exists."""
    if not file.exists():
        raise typer.BadParameter(f"no {file.name} in {file.parent}: not a report, or not measured to the end")
    return file


def pair_of(row: dict[str, str]) -> tuple[str, str]:
    return row["content_file"], row["style_file"]


def rows_of(report: Path) -> list[dict[str, str]]:
    """Return the measured pairs of a report, in the order of the set."""
    with written(report / "rows.csv").open(newline="") as file:
        return sorted(csv.DictReader(file), key=pair_of)


def point(row: dict[str, str]) -> Point:
    return Point(float(row["content"]), float(row["style"]))


def named(text: str) -> tuple[str, list[Path]]:
    """Parse NAME=PATH,PATH,... to (NAME, paths)."""
    name, _, paths = text.partition("=")
    return name, [Path(path) for path in paths.split(",")]


def mean(points: list[Point]) -> Point:
    return Point(sum(p.cost for p in points) / len(points), sum(p.style for p in points) / len(points))


@app.command()
def collect(reports: Annotated[list[str], typer.Argument(help="NAME=REPORT: folders of mst eval.")]) -> None:
    """Put reports into evaluation.json, and print the table of evaluation.md."""
    file = DOCS / "evaluation.json"
    known = json.loads(file.read_text())
    names = []
    for name, (folder,) in map(named, reports):
        facts = json.loads(written(folder / "report.json").read_text())
        known[name] = {key: facts[key] for key in KEPT if key in facts}
        names.append(name)
    file.write_text(json.dumps(known, indent=1) + "\n")
    means = {name: known[name]["summary"]["means"] for name in names}
    print(f"| | {' | '.join(names)} |\n" + "|---" * (len(names) + 1) + "|")
    for figure in dict.fromkeys(figure for own in means.values() for figure in own):
        cells = [
            f"{m[figure]['mean']:.3f} ({m[figure]['low']:.3f} .. {m[figure]['high']:.3f})"
            if figure in m
            else ""
            for m in means.values()
        ]
        print(f"| {figure} | {' | '.join(cells)} |")
    wholes = {name: known[name]["summary"]["whole_set"] for name in names}
    for figure in dict.fromkeys(figure for whole in wholes.values() for figure in whole):
        cells = [f"{whole[figure]:.3f}" if figure in whole else "" for whole in wholes.values()]
        print(f"| {figure} | {' | '.join(cells)} |")


@app.command()
def frontier(
    ours: Annotated[list[str], typer.Option(help="NAME=REPORT,REPORT,... by rising strength.")],
    others: Annotated[list[str], typer.Option(help="The same for other systems.")],
    only: Annotated[
        Path | None, typer.Option(help="Report of a part of the set: compare on its pairs, and draw nothing.")
    ] = None,
) -> None:
    """Compare style distance at equal content distance: a table, and every system's curve of means."""
    wanted = None if only is None else set(map(pair_of, rows_of(only)))
    figure, axes = plt.subplots(figsize=(8, 5.5), constrained_layout=True)
    curves: dict[str, list[list[Point]]] = {}
    means: dict[str, list[dict[str, float]]] = {}
    for text, mark in [*((text, "o-") for text in ours), *((text, "s--") for text in others)]:
        name, reports = named(text)
        rows = [
            [row for row in rows_of(report) if wanted is None or pair_of(row) in wanted] for report in reports
        ]
        curves[name] = [
            [Point(0.0, float(pair[0]["photo_style"])), *(point(row) for row in pair)]
            for pair in zip(*rows, strict=True)
        ]
        line = [mean([point(row) for row in one]) for one in rows]
        means[name] = [{"content": round(p.cost, 4), "style": round(p.style, 4)} for p in line]
        axes.plot([p.cost for p in line], [p.style for p in line], mark, label=name)
    table = {}
    for name, _ in map(named, ours):
        for other, _ in map(named, others):
            table[f"{name} against {other}"] = asdict(compare(curves[name], [c[-1] for c in curves[other]]))
            if len(means[other]) > 1:  # others can be turned down as well
                swept = ([curve[1:] for curve in curves[system]] for system in (name, other))
                table[f"{name} against {other}, both turned down"] = asdict(compare_turned_down(*swept))
    if wanted is None:
        axes.set(
            xlabel="content distance, relu4_1 (less is better)",
            yscale="log",
            ylabel="style distance, relu1_1 .. relu4_1 (less is better)",
        )
        axes.grid(alpha=0.3, which="both")
        axes.legend()
        figure.savefig(DOCS / "evaluation_frontier.png", dpi=110)
    where = "" if wanted is None else f", {len(wanted)} pairs"
    keep(f"means by strength{where}", means)
    keep(f"style at equal content{where}", table)
    print("| | pairs won | style, ours | style, theirs |\n|---|---|---|---|")
    for versus, found in table.items():
        print(
            f"| {versus} | {found['won']} of {found['pairs']} | {found['ours']:.3f} | {found['theirs']:.3f} |"
        )


@app.command()
def flicker(
    clips: Annotated[Path, typer.Option(help="JSON of the clips, all systems and strengths.")],
    reference: Annotated[str, typer.Option(help="The system whose full style is the measure.")],
) -> None:
    """Compare the warping error of every system at the style distance of the reference, clip by clip.

    A system that was optimized with several settings has a row for each.
    """
    curves: dict[tuple[str, str, str, str | None], list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(clips.read_text()):
        curves[row["clip"], row["artwork"], row["system"], row.get("tuning")].append(row)
    table = []
    for (clip, artwork, system, tuning), rows in sorted(curves.items(), key=lambda item: item[0][:3]):
        if system == reference:
            continue
        (wanted,) = [r for r in curves[clip, artwork, reference, None] if r["strength"] == 1]
        found = sorted(rows, key=lambda row: row["strength"])
        curve = [Point(row["warping"], row["style"]) for row in found]
        met = cost_at(curve, wanted["style"])
        table.append(
            {
                "clip": clip,
                "artwork": artwork,
                "system": system,
                "tuning": tuning,
                "floor": wanted["floor"],
                "style": wanted["style"],
                "warping_reference": wanted["warping"],
                "warping": None if met is None else round(met, 5),
                "share": None if met is None else round(met / wanted["warping"], 3),
                "full_style": found[-1]["style"],
                "full_warping": found[-1]["warping"],
            }
        )
    keep("flicker", table)
    print(
        "| clip | artwork | system | tuning | source | reference | ours at equal style | share |\n"
        + "|---" * 8
        + "|"
    )
    for row in table:
        at_equal = "not reached" if row["warping"] is None else f"{row['warping']:.4f}"
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        cells = [
            row["clip"],
            row["artwork"],
            row["system"],
            row["tuning"] or "",
            f"{row['floor']:.4f}",
            f"{row['warping_reference']:.4f}",
            at_equal,
            share,
        ]
        print(f"| {' | '.join(cells)} |")


@app.command()
def full_style(
    clips: Annotated[Path, typer.Option(help="JSON of the clips, all systems.")],
    reference: Annotated[str, typer.Option(help="The system that the others are compared with.")],
) -> None:
    """Compare the warping error of every system at full style with that of the reference, clip by clip.

    The figures of a clip are means over its artworks. A share is the error of a system divided by that of the
    reference.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in json.loads(clips.read_text()):
        if row["strength"] == 1 and row.get("tuning") is None:
            found[row["clip"]][row["system"]].append(row)
    systems = [
        system for system in dict.fromkeys(s for own in found.values() for s in own) if system != reference
    ]

    def average(rows: list[dict[str, Any]], figure: str) -> float:
        return float(np.mean([row[figure] for row in rows]))

    table: list[dict[str, Any]] = []
    for clip, own in sorted(found.items()):
        theirs = average(own[reference], "warping")
        shares = {system: average(own[system], "warping") / theirs for system in systems}
        table.append(
            {
                "clip": clip,
                "artworks": sorted(row["artwork"] for row in own[reference]),
                "floor": round(average(own[reference], "floor"), 5),
                "warping_reference": round(theirs, 5),
                "share": {system: round(share, 3) for system, share in shares.items()},
                "style": {
                    s: round(average(rows, "style"), 4) for s, rows in own.items() if "style" in rows[0]
                },
            }
        )
    keep("flicker at full style", table)
    print(f"| clip | source | {reference} | {' | '.join(systems)} |\n" + "|---" * (3 + len(systems)) + "|")
    for line in table:
        cells = [f"{line['floor']:.4f}", f"{line['warping_reference']:.4f}"]
        cells += [f"{line['share'][system]:.0%}" for system in systems]
        print(f"| {line['clip']} | {' | '.join(cells)} |")
    means = [sum(line["share"][system] for line in table) / len(table) for system in systems]
    print(f"| **mean** | | | {' | '.join(f'**{mean:.0%}**' for mean in means)} |")


@app.command()
def sheet(
    pictures: Annotated[Path, typer.Option(help="Set written by mst eval model.")],
    system: Annotated[list[str], typer.Option(help="NAME=FOLDER of results, in the order of the columns.")],
    output: Path = DOCS / "evaluation_sheet.jpg",
) -> None:
    """Make a sheet of photograph, artwork and the result of every system, one pair per row, in squares."""
    rows: list[list[Image]] = []
    for pair in read_pairs(pictures / PAIRS, *(pictures / role for role in ROLES)):
        cells = [load_image(pair.content), load_image(pair.style)]
        for _, (folder,) in map(named, system):
            cells.append(load_image(folder / pair.name))
        rows.append([center_crop(cell, CELL) for cell in cells])
    padded = [
        np.concatenate(
            [np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in row], axis=1
        )
        for row in rows
    ]
    save_jpeg(output, np.concatenate(padded)[:-GAP, :-GAP], SHEET_BYTES)
    print("columns: photograph, artwork,", ", ".join(name for name, _ in map(named, system)))


if __name__ == "__main__":
    app()
