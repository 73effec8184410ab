"""The commands ``mst eval ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mst_deploy.benchmarks.quality.options import (
    CompareOptions,
    ImagesOptions,
    MeasureOptions,
    ModelOptions,
    OptimumOptions,
    SetOptions,
    SheetOptions,
    VideoOptions,
)
from mst_deploy.cli.errors import worded
from mst_deploy.cli.options import MessageOptions, requires
from mst_deploy.errors import InvalidArgument


def eval_images(images: ImagesOptions, how: MeasureOptions, messages: MessageOptions) -> None:
    """Measure existing results of any system."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    found = command.evaluate_images(images, how, messages.reporter())
    _print_report(found, images.output, messages)


def eval_model(
    targets: SetOptions, model: ModelOptions, how: MeasureOptions, messages: MessageOptions
) -> None:
    """Stylize photographs with a model, then measure the results. A stopped run is resumed."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    found = command.evaluate_model(model, targets, how, messages.reporter())
    _print_report(found, targets.output, messages)


def eval_identity(targets: SetOptions, how: MeasureOptions, messages: MessageOptions) -> None:
    """Measure the photographs themselves as if they were results: the baseline without any style."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    _print_report(command.evaluate_identity(targets, how, messages.reporter()), targets.output, messages)


def eval_optimum(targets: OptimumOptions, how: MeasureOptions, messages: MessageOptions) -> None:
    """Optimize the pixels of every picture for the measured distances (slow), then measure: the best case."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    _print_report(command.evaluate_optimum(targets, how, messages.reporter()), targets.output, messages)


def eval_video(options: VideoOptions, messages: MessageOptions) -> None:
    """Measure flicker: the warping error of a result, beside that of its source."""
    from mst_deploy.cli.console import print_result

    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    found = command.evaluate_video(options, messages.reporter())
    lines = [
        f"gap {gap}: result {figures['result']:.4g}, source {figures['source']:.4g}, "
        f"{100 * figures['visible']:.0f} % of the pixels compared"
        for gap, figures in found["gaps"].items()
    ]
    print_result("\n".join(lines), found, as_json=messages.as_json, quiet=messages.quiet)


def eval_compare(options: CompareOptions) -> None:
    """Make one table of several reports, if they can be compared."""
    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    print(command.compare(options.reports, options.by_group))


def eval_sheet(options: SheetOptions, messages: MessageOptions) -> None:
    """Make a blind comparison for people: sheets without names and a form; with --answers and --key count the
    votes."""
    from mst_deploy.cli.console import print_result

    with requires("eval", "mst eval"):
        from mst_deploy.benchmarks.quality import command
    if options.answers:
        if options.key is None:
            raise InvalidArgument("votes need the key that was written with the sheets; give it with --key")
        text, votes = command.count_answers([*options.answers, *options.more], options.key)
        print_result(text, votes, as_json=messages.as_json, quiet=messages.quiet)
        return
    if options.more:
        raise InvalidArgument(f"cannot use {options.more[0]}: forms are given with --answers")
    made = command.make_sheets(options, messages.reporter())
    text = (
        f"{made['sheets']} sheets in {made['folder']}, form {made['form']}; keep the key apart: {made['key']}"
    )
    print_result(text, made, as_json=messages.as_json, quiet=messages.quiet)


def _print_report(found: dict[str, Any], output: Path, messages: MessageOptions) -> None:
    from mst_deploy.cli.console import print_result

    summary = found["summary"]
    means = [f"{name} {value['mean']:.4g}" for name, value in summary["means"].items()]
    means += [f"{name} {value:.4g}" for name, value in summary["whole_set"].items()]
    sizes = ", ".join(summary["sizes"])
    lines = [f"{found['system']}: {summary['pairs']} pairs of {sizes}: {', '.join(means)}"]
    lines += [f"not measured: {worded(note)}" for note in found["missing"]]
    lines.append(f"{output / 'report.html'}")
    print_result("\n".join(lines), found, as_json=messages.as_json, quiet=messages.quiet)
