"""The command ``mst batch``: many videos, or long ones, on several processes or machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mst_deploy.backends.options import ModelOptions
from mst_deploy.cli.errors import worded
from mst_deploy.cli.options import MessageOptions, requires
from mst_deploy.errors import InputError, OutputError
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.options import INPUT_OUTPUT, Option
from mst_deploy.styles.options import TimelineOptions

if TYPE_CHECKING:
    from mst_deploy.jobs.batch.inputs import Rejected
    from mst_deploy.jobs.batch.run import BatchEvent, BatchReport

WORKERS = "Workers"


@dataclass(frozen=True)
class InputOptions:
    """Videos to stylize, and where the results are written."""

    inputs: Annotated[
        tuple[str, ...],
        Option(
            "Videos: files, folders, patterns ('*.mp4'), URLs (s3://...).", metavar="IN...", positional=True
        ),
    ]
    output: Annotated[str, Option("Folder or URL (s3://...) of the results, named IN-STYLE.", INPUT_OUTPUT)]
    dry_run: Annotated[bool, Option("Show the plan, and the time it is expected to take.", INPUT_OUTPUT)] = (
        False
    )
    report: Annotated[
        Path | None, Option("Write what [option:as_json] prints to this file, too.", INPUT_OUTPUT)
    ] = None


@dataclass(frozen=True)
class BatchRenderOptions(RenderOptions):
    """Options of a rendering; a batch always resumes, without being asked to."""

    resume: bool = False

    def plain(self) -> RenderOptions:
        """Return the same values as the options of one rendering."""
        return RenderOptions(**{field.name: getattr(self, field.name) for field in fields(RenderOptions)})


@dataclass(frozen=True)
class WorkerOptions:
    """Where the work is done."""

    address: Annotated[
        str,
        Option(
            "Where the workers are: local (this machine), or a Ray cluster: auto, HOST:6379, "
            "ray://HOST:10001.",
            WORKERS,
        ),
    ] = "local"
    workers: Annotated[
        int | None,
        Option(
            "Number of workers. Default: one for each GPU, or for each [option:cpus_per_worker] cores.",
            WORKERS,
            minimum=1,
        ),
    ] = None
    cpus_per_worker: Annotated[float, Option("Cores of one worker.", WORKERS, minimum=0.1)] = 2.0
    gpus_per_worker: Annotated[
        float | None,
        Option(
            "GPUs of one worker of a cluster. Default: 1 for [option:device] cuda, else 0.",
            WORKERS,
            minimum=0.0,
        ),
    ] = None
    tries: Annotated[
        int,
        Option("Workers that may die over one segment before its video is given up.", WORKERS, minimum=1),
    ] = 3
    same_bytes: Annotated[
        bool, Option("Use only workers of one kind, so that results are reproducible.", WORKERS)
    ] = False
    trust_network: Annotated[
        bool, Option("Use a Ray cluster without a token: everybody who reaches it can use it.", WORKERS)
    ] = False


def batch(
    what: InputOptions,
    style: TimelineOptions,
    render: BatchRenderOptions,
    where: WorkerOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> None:
    """Stylize many videos, or long ones, on several processes or machines.

    Results have the same bytes as those of mst video. An input that fails does not stop the others. After a
    crash or Ctrl-C the same command goes on; results that are there already are left alone.
    """
    from mst_deploy.cli.console import echo, print_result, progress
    from mst_deploy.jobs.batch.command import BatchOptions, expected, prepare, run

    options = BatchOptions(
        render=render.plain(),
        address=where.address,
        workers=where.workers,
        cpus_per_worker=where.cpus_per_worker,
        gpus_per_worker=where.gpus_per_worker,
        tries=where.tries,
        same_bytes=where.same_bytes,
        trust_network=where.trust_network,
    )
    plan = prepare(
        list(what.inputs), what.output, style.load(), model.model, model.backend, model.device, options
    )
    for rejected in plan.rejected:
        echo(_rejection(rejected), quiet=messages.quiet and not rejected.reason)
    if what.dry_run:
        values = expected(plan)
        print_result(_planned(values), values, as_json=messages.as_json, quiet=messages.quiet)
        return
    total = round(sum(video.frames for video in plan.videos))
    label = f"{len(plan.videos)} videos" if len(plan.videos) != 1 else Path(plan.videos[0].source).name
    try:
        with (
            requires("batch", "mst batch --address"),
            progress(label, total or None, quiet=messages.silent) as show,
        ):

            def on_event(event: BatchEvent) -> None:
                show(event.done)
                if event.note:
                    echo(f"mst: {worded(event.note)}")

            made = run(plan, on_event)
    except KeyboardInterrupt:
        echo("mst: interrupted; finished segments are kept, the same command goes on")
        raise typer.Exit(130) from None
    values = plan.report(made)
    if what.report is not None:
        _write_report(what.report, values)
    print_result(_finished(made, values), values, as_json=messages.as_json, quiet=messages.quiet)
    failed = values["failed"]
    if failed:
        raise InputError(f"{failed} of {len(values['videos'])} inputs failed")


def _rejection(rejected: Rejected) -> str:
    name = Path(rejected.source).name
    if rejected.reason:
        return f"mst: {name}: {worded(rejected.reason)}"
    return f"note: {rejected.output} is there already; --force makes it again"


def _planned(values: dict[str, Any]) -> str:
    lines = [
        f"{video['source']} -> {video['output']}  {video['frames'] or 'unknown'} frames"
        f"{', in segments' if video['split'] else ''}"
        for video in values["videos"]
    ]
    time = "unknown" if values["seconds"] is None else f"about {values['seconds']:.0f} s"
    lines.append(
        f"{len(values['videos'])} videos, {values['frames']} frames on {values['workers']} workers: {time}, "
        f"about {values['bytes'] / 1e6:.1f} MB"
    )
    return "\n".join(lines)


def _finished(made: BatchReport, values: dict[str, Any]) -> str:
    lines = [f"{video.output}  {video.frames} frames" for video in made.videos if video.state == "done"]
    lines += [
        f"note: {Path(video.source).name}: {worded(note)}" for video in made.videos for note in video.notes
    ]
    workers = sum(worker.state == "ready" for worker in made.workers)
    lines.append(
        f"{sum(video.state == 'done' for video in made.videos)} videos, {values['frames']} frames, "
        f"{made.seconds:.1f} s ({values['fps']:.1f} fps on {workers} workers)"
    )
    return "\n".join(lines)


def _write_report(path: Path, values: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file") from error
