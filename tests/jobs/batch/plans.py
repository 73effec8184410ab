"""Plans of small batches, run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mst_deploy.backends.fake import FakeGenerator
from mst_deploy.jobs.batch.command import BatchOptions, BatchPlan, prepare
from mst_deploy.jobs.batch.run import BatchEvent, Driver, settings_of
from mst_deploy.jobs.batch.worker import Worker
from mst_deploy.jobs.batch.workers import InProcess
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.timeline import StyleKey, Timeline

TEN = RenderOptions(part_frames=10)
STARRY = Timeline((StyleKey("starry-night"),))


class Sensitive(FakeGenerator):
    """Generator whose pixels depend on the frame, on its FiLM vector and on its canvas."""

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        super().__call__(frames, film_params, canvas)
        shift = np.abs(film_params).sum(axis=1).astype(np.int64)[:, None, None, None]
        return ((frames // 2 + canvas // 4 + shift % 64) % 256).astype(np.uint8)


def planned(
    inputs: list[Path], output: Path | str, render: RenderOptions = TEN, timeline: Timeline = STARRY
) -> BatchPlan:
    """A plan for two workers with the model lite and the fake backend."""
    options = BatchOptions(render, workers=2)
    return prepare(list(map(str, inputs)), str(output), timeline, "lite", "fake", "cpu", options)


def in_process(plan: BatchPlan, notes: list[str] | None = None) -> Any:
    """Run a plan in this process; splits are as planned for two workers."""

    def on_event(event: BatchEvent) -> None:
        if event.note and notes is not None:
            notes.append(event.note)

    return Driver(
        plan.storage,
        plan.videos,
        InProcess(plan.setup),
        lambda video: settings_of(video, plan.setup),
        plan.setup.options,
        on_event,
    ).run()


def whole(plan: BatchPlan, source: Path, target: Path, options: RenderOptions = TEN) -> bytes:
    """Render a video in one piece, with the model of a plan; return the content of the result."""
    with Worker(plan.setup) as one:
        render_file(source, target, one.generator, one.style_plan, options)
    return target.read_bytes()
