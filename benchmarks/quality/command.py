"""What the commands ``mst eval ...`` do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mst_deploy import __version__
from mst_deploy.benchmarks.quality import report, sheet
from mst_deploy.benchmarks.quality.measure import (
    BASIC,
    LPIPS_METRICS,
    METRICS,
    Observer,
    Weights,
    measure_all,
    open_nets,
)
from mst_deploy.benchmarks.quality.optimum import optimize
from mst_deploy.benchmarks.quality.sets import PAIRS, Pair, check, identity, pair_in_order, read_pairs
from mst_deploy.benchmarks.quality.systems import Model, System, make_set, pair_up, photograph_itself
from mst_deploy.benchmarks.quality.video import measure_flicker, read_both, read_flows
from mst_deploy.datasets import ImageFile, fingerprint, load_images, read_hash_list
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.files import replacing
from mst_deploy.images import IMAGE_SUFFIXES, Image, load_image, save_image
from mst_deploy.model.bundle import MANIFEST, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.perceptual.vgg import find_vgg, load_vgg
from mst_deploy.reporter import SILENT, Reporter
from mst_deploy.styles.optimize import FOR_ALL, OptimizeOptions, StyleOptimizer, normalized_vgg
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.motion import ESTIMATORS

LOG = "rows.jsonl"
TABLE = (
    "style",
    "content",
    "ssim",
    "cfsd",
    "palette",
    "strokes",
    "fringes",
    "uneven",
    "uneven32_ratio",
    "painted",
    "overpainted",
    "inception_median",
    "lpips",
    "fid768",
    "fid",
    "artfid",
)


@dataclass(frozen=True)
class Measuring:
    """How a set is measured, as the options say."""

    weights: Weights = field(default_factory=Weights)
    metrics: Sequence[str] | None = None
    """None takes all that the given weights allow."""
    lpips: bool = False
    mode: str = "art_fid"
    batch: int = 1
    device: str = "auto"
    reporter: Reporter = SILENT


@dataclass(frozen=True)
class Running:
    """What runs a model."""

    backend: str = "onnxrt"
    device: str = "auto"
    reporter: Reporter = SILENT


@dataclass(frozen=True)
class Targets:
    """Which pictures go through a system."""

    content: Sequence[Path]
    style: Sequence[Path]
    held_out: Path | None = None
    each: int = 2
    size: int = 512
    most: int | None = None


def measuring(
    metrics: str | None,
    vgg: Path | None,
    vgg_scales: Path | None,
    inception: Path | None = None,
    lpips: bool = False,
    alexnet: Path | None = None,
    art_inception: Path | None = None,
    mode: str = "art_fid",
    batch: int = 1,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Measuring:
    """The options of the command line as one value."""
    weights = Weights(vgg, vgg_scales, inception, alexnet, art_inception)
    names = [name.strip() for name in metrics.split(",")] if metrics else None
    return Measuring(weights, names, lpips, mode, batch, device, reporter)


def evaluate_images(
    content: Path,
    style: Path,
    stylized: Path,
    pairs: Path | None,
    output: Path,
    how: Measuring,
    system: str = "",
) -> dict[str, Any]:
    """Measure results that exist. Raises InputError for sets that do not fit together."""
    listed = (
        pair_in_order(content, style, stylized)
        if pairs is None
        else read_pairs(pairs, content, style, stylized)
    )
    return measured(listed, output, how, system or stylized.resolve().name, {})


def evaluate_model(
    bundle: Path,
    wanted: Targets,
    output: Path,
    how: Measuring,
    *,
    strength: float,
    backend: str,
    optimize_style: Path | None = None,
    once: bool = False,
) -> dict[str, Any]:
    """Stylize a set with a bundle, then measure it.

    ``optimize_style`` is a folder for rows tuned to each pair's photograph or, ``once`` for all, to the
    shipped ones.
    """
    opened = open_bundle(bundle)
    optimizer = None
    if optimize_style is not None:
        network = normalized_vgg(how.weights.vgg, how.weights.vgg_scales)
        optimizer = StyleOptimizer(
            opened, network, how.device, FOR_ALL if once else OptimizeOptions(), kept=optimize_style
        )
    with Stylizer(bundle, backend=backend, device=how.device) as stylizer:
        model = Model(stylizer, strength, optimizer, once)
        name = (
            opened.manifest.name + (", tuned" if optimizer else "") + (" once" if optimizer and once else "")
        )
        name += f" at strength {strength:g}" if strength != 1 else ""
        facts = {
            "model_id": opened.manifest.model_id,
            "precision": opened.manifest.precision,
            "backend": backend,
            "strength": strength,
        }
        if optimizer is not None:
            facts["tuning"] = asdict(optimizer.how)
        return run_system(model, name, facts, wanted, output, how)


def evaluate_identity(wanted: Targets, output: Path, how: Measuring) -> dict[str, Any]:
    """The floor: photographs measured as if they were results."""
    return run_system(photograph_itself, "photograph itself", {}, wanted, output, how)


def evaluate_optimum(
    wanted: Targets, output: Path, how: Measuring, *, style_weight: float, steps: int
) -> dict[str, Any]:
    """The ceiling: every picture optimized, then measured."""
    device = chosen_device(how.device)
    vgg = load_vgg(find_vgg(how.weights.vgg), how.weights.vgg_scales).to(device)

    def optimized(photo: Image, artwork: Image) -> Image:
        return optimize(photo, artwork, vgg, style_weight=style_weight, steps=steps, device=device)

    facts = {"style_weight": style_weight, "steps": steps}
    return run_system(optimized, f"Gatys, style weight {style_weight:g}", facts, wanted, output, how)


def sources(wanted: Targets) -> tuple[list[ImageFile], list[ImageFile]]:
    """Photographs and artworks to choose pairs from. Raises InputError."""
    kept = read_hash_list(wanted.held_out) if wanted.held_out else frozenset()
    only = wanted.held_out is not None
    contents, styles = (load_images(source, kept, keep=only) for source in (wanted.content, wanted.style))
    return contents, styles


def run_system(
    system: System, name: str, facts: dict[str, Any], wanted: Targets, output: Path, how: Measuring
) -> dict[str, Any]:
    """Make the set in ``output`` and measure it. A folder that holds another run is refused."""
    contents, styles = sources(wanted)
    chosen = pair_up(contents, styles, wanted.each, wanted.most)
    facts = {
        **facts,
        "made_at": f"{wanted.size}x{wanted.size}, center crops",
        "data": {"content": fingerprint(contents), "style": fingerprint(styles)},
    }
    output.mkdir(parents=True, exist_ok=True)
    _same_run(output / "made_with.json", {"system": name, **facts})
    started = time.monotonic()
    with how.reporter.progress("stylizing", len(chosen), unit="pictures/s") as tell:
        pairs = make_set(chosen, system, output, wanted.size, tell)
    facts["seconds_stylising"] = round(time.monotonic() - started, 1)
    return measured(pairs, output, how, name, facts)


def measured(
    pairs: Sequence[Pair], output: Path, how: Measuring, system: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """Measure a set and write the report into ``output``; a stopped run goes on."""
    check(pairs, one_size=how.weights.art_inception is not None)
    report.check_mode(how.mode, len(pairs))
    device = chosen_device(how.device)
    art, alexnet = how.weights.art_inception, how.weights.alexnet
    asked = set(how.metrics or ())
    lpips = how.lpips or art is not None or alexnet is not None or bool(asked & set(LPIPS_METRICS))
    nets = open_nets(how.weights, lpips=lpips, device=device)
    able = {*BASIC, *(LPIPS_METRICS if lpips else ()), *(["inception"] if nets.fid is not None else ())}
    metrics = list(how.metrics or (name for name in METRICS if name in able))
    if art is not None and "lpips" not in metrics:  # half of ArtFID
        metrics.append("lpips")
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with how.reporter.progress("measuring", len(pairs), unit="pairs/s") as tell:
        observer = Observer(nets, metrics, device)
        rows = measure_all(pairs, observer, output / LOG, tell, batch=how.batch)
    summary = {**report.summarize(rows, how.mode), "set": identity(pairs)}
    found = {
        "system": system,
        **facts,
        "summary": summary,
        "nets": nets.facts(),
        "artfid_mode": how.mode if "artfid" in summary["whole_set"] else None,
        "missing": report.missing(summary),
        "seconds_measuring": round(time.monotonic() - started, 1),
        "device": str(device),
        "versions": {"mst-deploy": __version__, "torch": torch.__version__},
        "command": " ".join(["mst", *sys.argv[1:]]),
    }
    report.write(output, found, rows, pairs)
    return found


def evaluate_video(
    source: Path,
    result: Path,
    gaps: Sequence[int],
    flow: str,
    output: Path | None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Flicker of a stylized clip beside that of its source."""
    flows = None if flow in ESTIMATORS else read_flows(Path(flow))
    with reporter.progress("measuring", None) as tell:
        flickers = measure_flicker(read_both(source, result), gaps, flow, flows, tell)
    found = report.rounded(
        {
            "source": source.name,
            "result": result.name,
            "flow": flow if flows is None else f"given, {len(flows)} files",
            "gaps": {
                str(flicker.gap): {"frame_pairs": len(flicker.result), **flicker.means()}
                for flicker in flickers
            },
        }
    )
    if output is not None:
        series = {str(flicker.gap): asdict(flicker) for flicker in flickers}
        with replacing(output) as temporary:
            temporary.write_text(json.dumps({**found, "frames": report.rounded(series)}, indent=1) + "\n")
    return dict(found)


def compare(reports: Sequence[Path], group: str | None) -> str:
    """Markdown table of several reports."""
    read = []
    for path in reports:
        file = path / "report.json" if path.is_dir() else path
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            report.check_form(found)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the report {file}: {error}") from error
        read.append(found)
    text = report.table(read, TABLE)
    return text if group is None else f"{text}\n\n{report.group_table(read, group)}"


@dataclass(frozen=True)
class Shown:
    """Which pictures are compared by people, and how."""

    content: Path
    style: Path
    pairs: Path | None = None
    seed: int = 0
    size: int = 640
    each: bool = False


def make_sheets(
    systems: Sequence[str], shown: Shown, output: Path, key: Path | None, how: Running
) -> dict[str, Any]:
    """Sheets of systems for people who do not know which is which; models are painted first.

    ``systems`` are NAME=FOLDER of results, shipped models, or NAME=BUNDLE. Raises InputError.
    """
    named = [_named(text) for text in systems]
    compared = sheet.matches([name for name, _ in named], each=shown.each)
    key = key or output.with_name(f"{output.name}-key.json")
    for path in (output, key):
        if path.exists():
            raise InputError(f"{path} is there already; choose another with [option:output] or [option:key]")
    listed = _listed(shown, [path for _, path in named if not is_bundle(path)])
    names = sheet.pair_names(listed)
    files: dict[str, dict[str, Path]] = {}
    for name, path in named:
        folder = path
        if is_bundle(path):
            folder = output.with_name(f"{output.name}-results") / name
            _paint(path, listed, names, folder, name, how)
        files[name] = {pair: _result(folder, pair) for pair in names}
    artworks = {name: pair.seen for name, pair in zip(names, listed, strict=True)}
    with how.reporter.progress("drawing", len(compared) * len(names), unit="sheets/s") as tell:
        made = sheet.write_sheets(
            output, key, artworks, files, compared, seed=shown.seed, size=shown.size, tell=tell
        )
    return {
        "sheets": len(made),
        "folder": str(output),
        "form": str(output / sheet.FORM),
        "key": str(key),
        "seed": shown.seed,
        "compared": [list(names) for names in compared],
    }


def count_answers(forms: Sequence[Path], key: Path) -> tuple[str, dict[str, Any]]:
    """Votes of filled forms as text and as figures. Raises InputError."""
    sheets = sheet.read_key(key)
    filled = [sheet.read_form(form, sheets) for form in forms]
    counted = sheet.count(filled, sheets)
    remarks = sheet.complaints(filled, sheets)
    text = "\n".join([sheet.table(counted), *(["", *remarks] if remarks else [])])
    return text, {"forms": len(forms), "votes": sheet.as_json(counted), "complaints": remarks}


def is_bundle(path: Path) -> bool:
    """Whether a folder holds a model and not results."""
    return (path / MANIFEST).is_file()


def _named(text: str) -> tuple[str, Path]:
    """NAME=FOLDER, or what find_bundle knows -> (NAME, folder)."""
    name, equals, path = text.partition("=")
    if equals:
        if not name or not Path(path).is_dir():
            raise InvalidArgument(
                field="system",
                problem=f"cannot use {text!r}",
                hint="give NAME=FOLDER, a folder of results or of a model",
            )
        return name, Path(path)
    bundle = resolve_model(text)
    if not is_bundle(bundle):
        raise InputError(f"{bundle} is no model; give results as NAME=FOLDER")
    return bundle.name, bundle


def _listed(shown: Shown, results: Sequence[Path]) -> list[Pair]:
    """The pairs of a file, or of two folders in order of names; results are looked for by their name."""
    if shown.pairs is not None:
        return read_pairs(shown.pairs, shown.content, shown.style, None)
    return pair_in_order(shown.content, shown.style, results[0] if results else shown.content)


def _result(folder: Path, pair: str) -> Path:
    """A system's result for a pair: whatever kind of picture has that name."""
    found = [path for suffix in IMAGE_SUFFIXES if (path := folder / f"{pair}{suffix}").is_file()]
    return found[0] if found else folder / f"{pair}.png"


def _paint(
    bundle: Path, pairs: Sequence[Pair], names: Sequence[str], folder: Path, name: str, how: Running
) -> None:
    """Results of a model; those that are there are kept."""
    opened = open_bundle(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder / "made_with.json", {"model_id": opened.manifest.model_id, "backend": how.backend})
    with (
        Stylizer(bundle, backend=how.backend, device=how.device) as stylizer,
        how.reporter.progress(name, len(pairs), unit="pictures/s") as tell,
    ):
        model = Model(stylizer)
        for done, (pair, own) in enumerate(zip(pairs, names, strict=True), start=1):
            target = folder / f"{own}.png"
            if not target.exists():
                save_image(target, model(load_image(pair.content), load_image(pair.style)))
            tell(done)


def chosen_device(name: str) -> torch.device:
    """auto takes CUDA where there is one. Raises InputError for cuda without a GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device; use [option:device] cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _same_run(path: Path, facts: dict[str, Any]) -> None:
    """Write what makes the pictures, or refuse a folder in which something else made them."""
    if not path.exists():
        if (path.parent / PAIRS).exists() or (path.parent / "stylized").exists():
            raise InputError(f"{path.parent} holds other pictures; choose a new folder with [option:output]")
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != facts:
        raise InputError(
            f"{path.parent} holds the results of another run ({path.name}); choose a new folder with "
            "[option:output]"
        )
