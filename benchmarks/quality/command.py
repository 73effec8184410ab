"""Implementation of the commands ``mst eval ...``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
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
    measure_all,
    open_nets,
)
from mst_deploy.benchmarks.quality.optimum import optimize
from mst_deploy.benchmarks.quality.options import (
    ImagesOptions,
    MeasureOptions,
    ModelOptions,
    OptimumOptions,
    SetOptions,
    SheetOptions,
    VideoOptions,
)
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
from mst_deploy.styles.optimize import StyleOptimizer, normalized_vgg
from mst_deploy.styles.options import FOR_ALL, OptimizeOptions
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


def evaluate_images(
    images: ImagesOptions, how: MeasureOptions, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Measure existing results; return the report. Raises InputError for sets that do not match."""
    folders = (images.content, images.style, images.stylized)
    listed = pair_in_order(*folders) if images.pairs is None else read_pairs(images.pairs, *folders)
    return measured(listed, images.output, how, images.name or images.stylized.resolve().name, {}, reporter)


def evaluate_model(
    options: ModelOptions, targets: SetOptions, how: MeasureOptions, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Stylize a set with a model, measure it and return the report.

    Optimized FiLM vectors are kept in the folder ``optimize_style``.
    """
    bundle, strength, once = resolve_model(options.model), options.strength, options.optimize_once
    opened = open_bundle(bundle)
    optimizer = None
    if options.optimize_style is not None:
        network = normalized_vgg(how.weights.vgg, how.weights.vgg_scales)
        optimizer = StyleOptimizer(
            opened, network, how.device, FOR_ALL if once else OptimizeOptions(), kept=options.optimize_style
        )
    with Stylizer(bundle, backend=options.backend, device=how.device) as stylizer:
        model = Model(stylizer, strength, optimizer, once)
        name = (
            opened.manifest.name + (", tuned" if optimizer else "") + (" once" if optimizer and once else "")
        )
        name += f" at strength {strength:g}" if strength != 1 else ""
        facts = {
            "model_id": opened.manifest.model_id,
            "precision": opened.manifest.precision,
            "backend": stylizer.backend_name,
            "strength": strength,
        }
        if optimizer is not None:
            facts["tuning"] = asdict(optimizer.how)
        return run_system(model, name, facts, targets, how, reporter)


def evaluate_identity(
    targets: SetOptions, how: MeasureOptions, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Measure the photographs themselves as results: the floor of every figure."""
    return run_system(photograph_itself, "photograph itself", {}, targets, how, reporter)


def evaluate_optimum(
    targets: OptimumOptions, how: MeasureOptions, reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Measure pictures that are optimized one by one (Gatys et al. 2016): the best that can be expected."""
    device, style_weight, steps = chosen_device(how.device), targets.style_weight, targets.steps
    vgg = load_vgg(find_vgg(how.weights.vgg), how.weights.vgg_scales).to(device)

    def optimized(photo: Image, artwork: Image) -> Image:
        return optimize(photo, artwork, vgg, style_weight=style_weight, steps=steps, device=device)

    facts = {"style_weight": style_weight, "steps": steps}
    return run_system(optimized, f"Gatys, style weight {style_weight:g}", facts, targets, how, reporter)


def sources(targets: SetOptions) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the photographs and artworks to choose pairs from. Raises InputError."""
    kept = read_hash_list(targets.held_out) if targets.held_out else frozenset()
    only = targets.held_out is not None
    contents, styles = (load_images(source, kept, keep=only) for source in (targets.content, targets.style))
    return contents, styles


def run_system(
    system: System,
    name: str,
    facts: dict[str, Any],
    targets: SetOptions,
    how: MeasureOptions,
    reporter: Reporter,
) -> dict[str, Any]:
    """Make the set in ``targets.output``, measure it and return the report.

    Raises InputError for a folder that holds another run.
    """
    contents, styles = sources(targets)
    chosen = pair_up(contents, styles, targets.pairs_per_style, targets.max_pairs)
    output = targets.output
    facts = {
        **facts,
        "made_at": f"{targets.size}x{targets.size}, center crops",
        "data": {"content": fingerprint(contents), "style": fingerprint(styles)},
    }
    output.mkdir(parents=True, exist_ok=True)
    _same_run(output / "made_with.json", {"system": name, **facts})
    started = time.monotonic()
    with reporter.progress("stylizing", len(chosen), unit="pictures/s") as on_progress:
        pairs = make_set(chosen, system, output, targets.size, on_progress)
    facts["seconds_stylising"] = round(time.monotonic() - started, 1)
    return measured(pairs, output, how, name, facts, reporter)


def measured(
    pairs: Sequence[Pair],
    output: Path,
    how: MeasureOptions,
    system: str,
    facts: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """Measure a set, write the report into ``output`` and return it; an interrupted run is continued."""
    check(pairs, one_size=how.weights.art_inception is not None)
    report.check_mode(how.artfid_mode, len(pairs))
    device = chosen_device(how.device)
    art, alexnet = how.weights.art_inception, how.weights.alexnet
    asked = set(how.metrics)
    lpips = how.lpips or art is not None or alexnet is not None or bool(asked & set(LPIPS_METRICS))
    nets = open_nets(how.weights, lpips=lpips, device=device)
    able = {*BASIC, *(LPIPS_METRICS if lpips else ()), *(["inception"] if nets.fid is not None else ())}
    metrics = list(how.metrics or (name for name in METRICS if name in able))
    if art is not None and "lpips" not in metrics:  # one of the two terms of ArtFID
        metrics.append("lpips")
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with reporter.progress("measuring", len(pairs), unit="pairs/s") as on_progress:
        observer = Observer(nets, metrics, device)
        rows = measure_all(pairs, observer, output / LOG, on_progress, batch=how.batch)
    summary = {**report.summarize(rows, how.artfid_mode), "set": identity(pairs)}
    result = {
        "system": system,
        **facts,
        "summary": summary,
        "nets": nets.facts(),
        "artfid_mode": how.artfid_mode if "artfid" in summary["whole_set"] else None,
        "missing": report.missing(summary),
        "seconds_measuring": round(time.monotonic() - started, 1),
        "device": str(device),
        "versions": {"mst-deploy": __version__, "torch": torch.__version__},
        "command": " ".join(["mst", *sys.argv[1:]]),
    }
    report.write(output, result, rows, pairs)
    return result


def evaluate_video(options: VideoOptions, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Measure the flicker of a stylized clip beside that of its source; return the report, and write it if
    a file is given."""
    source, result, flow = options.source, options.result, options.flow
    flows = None if flow in ESTIMATORS else read_flows(Path(flow))
    with reporter.progress("measuring", None) as on_progress:
        flickers = measure_flicker(read_both(source, result), options.gaps, flow, flows, on_progress)
    figures = report.rounded(
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
    if options.output is not None:
        series = {str(flicker.gap): asdict(flicker) for flicker in flickers}
        with replacing(options.output) as temporary:
            temporary.write_text(json.dumps({**figures, "frames": report.rounded(series)}, indent=1) + "\n")
    return dict(figures)


def compare(reports: Sequence[Path], group: str | None) -> str:
    """Return a Markdown table of several reports. Raises InputError for an unreadable one."""
    read = []
    for path in reports:
        file = path / "report.json" if path.is_dir() else path
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            report.check_form(result)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the report {file}: {error}") from error
        read.append(result)
    text = report.table(read, TABLE)
    return text if group is None else f"{text}\n\n{report.group_table(read, group)}"


def make_sheets(options: SheetOptions, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Make sheets for a blind comparison of systems; models are run first.

    Systems are NAME=FOLDER of results, shipped models, or NAME=BUNDLE. Raises InputError, InvalidArgument.
    """
    output = options.output
    if options.content is None or options.style is None or output is None:
        raise InvalidArgument(
            "sheets need [option:content], [option:style], [option:system] (twice) and [option:output]; "
            "votes need [option:answers]"
        )
    named = [_named(text) for text in options.system]
    compared = sheet.matches([name for name, _ in named], each=options.each)
    key = options.key or output.with_name(f"{output.name}-key.json")
    for path in (output, key):
        if path.exists():
            raise InputError(f"{path} is there already; choose another with [option:output] or [option:key]")
    results = [path for _, path in named if not is_bundle(path)]
    if options.pairs is None:
        listed = pair_in_order(options.content, options.style, results[0] if results else options.content)
    else:
        listed = read_pairs(options.pairs, options.content, options.style, None)
    names = sheet.pair_names(listed)
    files: dict[str, dict[str, Path]] = {}
    for name, path in named:
        folder = path
        if is_bundle(path):
            folder = output.with_name(f"{output.name}-results") / name
            _stylize(path, listed, names, folder, name, options, reporter)
        files[name] = {pair: _result(folder, pair) for pair in names}
    artworks = {name: pair.seen for name, pair in zip(names, listed, strict=True)}
    with reporter.progress("drawing", len(compared) * len(names), unit="sheets/s") as on_progress:
        made = sheet.write_sheets(
            output,
            key,
            artworks,
            files,
            compared,
            seed=options.seed,
            size=options.size,
            on_progress=on_progress,
        )
    return {
        "sheets": len(made),
        "folder": str(output),
        "form": str(output / sheet.FORM),
        "key": str(key),
        "seed": options.seed,
        "compared": [list(names) for names in compared],
    }


def count_answers(forms: Sequence[Path], key: Path) -> tuple[str, dict[str, Any]]:
    """Count the votes of filled forms; return them as text and as figures. Raises InputError."""
    sheets = sheet.read_key(key)
    filled = [sheet.read_form(form, sheets) for form in forms]
    counted = sheet.count(filled, sheets)
    remarks = sheet.complaints(filled, sheets)
    text = "\n".join([sheet.table(counted), *(["", *remarks] if remarks else [])])
    return text, {"forms": len(forms), "votes": sheet.as_json(counted), "complaints": remarks}


def is_bundle(path: Path) -> bool:
    """Return whether a folder holds a model rather than results."""
    return (path / MANIFEST).is_file()


def _named(text: str) -> tuple[str, Path]:
    """Parse NAME=FOLDER, or the name or path of a model; return (NAME, folder)."""
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


def _result(folder: Path, pair: str) -> Path:
    """Return the file of a system's result for a pair, with any image suffix."""
    result = [path for suffix in IMAGE_SUFFIXES if (path := folder / f"{pair}{suffix}").is_file()]
    return result[0] if result else folder / f"{pair}.png"


def _stylize(
    bundle: Path,
    pairs: Sequence[Pair],
    names: Sequence[str],
    folder: Path,
    name: str,
    how: SheetOptions,
    reporter: Reporter,
) -> None:
    """Stylize all pairs with a model; existing results are kept."""
    opened = open_bundle(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder / "made_with.json", {"model_id": opened.manifest.model_id, "backend": how.backend})
    with (
        Stylizer(bundle, backend=how.backend, device=how.device) as stylizer,
        reporter.progress(name, len(pairs), unit="pictures/s") as on_progress,
    ):
        model = Model(stylizer)
        for done, (pair, own) in enumerate(zip(pairs, names, strict=True), start=1):
            target = folder / f"{own}.png"
            if not target.exists():
                save_image(target, model(load_image(pair.content), load_image(pair.style)))
            on_progress(done)


def chosen_device(name: str) -> torch.device:
    """Return the device; auto selects CUDA if available. Raises InputError for cuda without a GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device; use [option:device] cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _same_run(path: Path, facts: dict[str, Any]) -> None:
    """Write the facts that determine the pictures, or raise InputError for a folder made with other facts."""
    if not path.exists():
        if (path.parent / PAIRS).exists() or (path.parent / "stylized").exists():
            raise InputError(f"{path.parent} holds other pictures; choose a new folder with [option:output]")
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != facts:
        raise InputError(
            f"{path.parent} holds the results of another run ({path.name}); choose a new folder with "
            "[option:output]"
        )
