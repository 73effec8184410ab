"""A batch from its options: the plan, what it is expected to take, and the run on a group of workers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mst_deploy.backends import open_generator, open_style_encoder
from mst_deploy.backends.base import load_backend
from mst_deploy.backends.registry import split_precision
from mst_deploy.errors import InvalidArgument
from mst_deploy.jobs.batch.inputs import Rejected, expand_sources, plan_videos
from mst_deploy.jobs.batch.run import (
    BatchReport,
    Driver,
    OnBatchEvent,
    as_json,
    settings_of,
    without_encoder,
)
from mst_deploy.jobs.batch.storage import Storage, is_url, open_storage
from mst_deploy.jobs.batch.tasks import Video, divided
from mst_deploy.jobs.batch.worker import Setup
from mst_deploy.jobs.batch.workers import InProcess, Workers
from mst_deploy.jobs.disk import expected_bytes
from mst_deploy.jobs.inputs import files_read
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.model.bundle import Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from mst_deploy.styles.plan import load_plan
from mst_deploy.styles.timeline import Timeline

SAMPLES = 3
"""Frames that are stylized to measure how long one takes."""
START_SECONDS = 3.0
"""Seconds until a worker of this machine is ready."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch, apart from its style and its model."""

    render: RenderOptions = field(default_factory=RenderOptions)
    address: str = "local"
    """local, or the address of a Ray cluster."""
    workers: int | None = None
    cpus_per_worker: float = 2.0
    gpus_per_worker: float | None = None
    tries: int = 3
    same_bytes: bool = False
    trust_network: bool = False


@dataclass(frozen=True)
class BatchPlan:
    """Everything that is decided before the first worker is started."""

    setup: Setup
    storage: Storage
    videos: tuple[Video, ...]
    rejected: tuple[Rejected, ...]
    options: BatchOptions
    workers: int | None
    """Number of workers; None for all that a cluster has room for."""
    bundle: Bundle

    def report(self, made: BatchReport) -> dict[str, Any]:
        """Return the report on all inputs as JSON values, with those that were rejected."""
        values = as_json(made)
        for rejected in self.rejected:
            state = "failed" if rejected.reason else "there"
            values["videos"].append(
                {
                    "source": rejected.source,
                    "output": rejected.output,
                    "state": state,
                    "reason": rejected.reason,
                }
            )
        values["failed"] = sum(video["state"] == "failed" for video in values["videos"])
        return values


def prepare(
    inputs: Sequence[str],
    output: str,
    timeline: Timeline,
    model: str | None,
    backend: str,
    device: str,
    options: BatchOptions,
) -> BatchPlan:
    """Read styles and inputs, and divide the work. Raises InputError, BundleError, BackendError,
    InvalidArgument, MissingDependency."""
    load_backend(split_precision(backend)[0])
    bundle = open_bundle(resolve_model(model))
    style_plan = load_plan(timeline, bundle.manifest, partial(open_style_encoder, bundle, backend, device))
    sources = expand_sources(inputs)
    remote = is_url(output)
    storage = open_storage(output if remote else str(Path(output).absolute()))
    if storage.local is not None and storage.local.exists() and not storage.local.is_dir():
        raise InvalidArgument(f"-o must be a folder; {output} is a file")
    if not remote:
        sources = [source if is_url(source) else str(Path(source).absolute()) for source in sources]
    read = files_read(timeline, Path(model) if model else None)
    videos, rejected = plan_videos(sources, timeline.label, storage, options.render, read)
    count = options.workers
    if options.address == "local":
        count = count or max(1, int((os.cpu_count() or 1) // options.cpus_per_worker))
    if output.startswith("memory://"):
        count = 1
    setup = Setup(
        storage.url,
        model,
        bundle.manifest.model_id,
        backend,
        device,
        _threads(count, options),
        without_encoder(style_plan),
        options.render,
    )
    parts = options.render.part_frames
    split = divided(videos, count or 2, parts, remote=remote)
    return BatchPlan(setup, storage, tuple(split), tuple(rejected), options, count, bundle)


def _threads(count: int | None, options: BatchOptions) -> int:
    """Return the threads of a model: of several workers on this machine each gets its share of the cores."""
    if options.address == "local":
        return 0 if count == 1 else max(1, (os.cpu_count() or 1) // (count or 1))
    return max(1, int(options.cpus_per_worker))


def run(plan: BatchPlan, on_event: OnBatchEvent) -> BatchReport:
    """Start the workers and make all videos; see ``Driver.run``. Raises MissingDependency without Ray."""
    if not plan.videos:
        return BatchReport((), (), 0.0)
    workers = _workers(plan)
    return Driver(
        plan.storage,
        plan.videos,
        workers,
        lambda video: settings_of(video, plan.setup),
        plan.setup.options,
        on_event,
        plan.options.tries,
        plan.options.same_bytes,
    ).run()


def _workers(plan: BatchPlan) -> Workers:
    options = plan.options
    if options.address != "local":
        from mst_deploy.jobs.batch.ray_workers import RayWorkers

        gpus = options.gpus_per_worker
        return RayWorkers(
            plan.setup,
            options.address,
            count=plan.workers,
            cpus=options.cpus_per_worker,
            gpus=gpus if gpus is not None else float(plan.setup.device == "cuda"),
            trust_network=options.trust_network,
        )
    if plan.storage.url.startswith("memory://"):
        return InProcess(plan.setup)
    from mst_deploy.jobs.batch.processes import Processes

    segments = sum(
        max(1, video.frames // plan.setup.options.part_frames) if video.split else 1 for video in plan.videos
    )
    return Processes(plan.setup, min(plan.workers or 1, max(1, segments)))


def expected(plan: BatchPlan) -> dict[str, Any]:
    """Return the plan as JSON values, with the time and the bytes it is expected to take.

    The time comes from stylizing a few frames of noise of the right size on this machine. Raises
    BackendError.
    """
    frames = sum(video.frames for video in plan.videos)
    known = [video for video in plan.videos if video.frames]
    seconds = None
    if known and len(known) == len(plan.videos):
        kilopixels = sum(video.weight for video in known)
        workers = min(plan.workers or 1, sum(1 if not v.split else 10**9 for v in known))
        seconds = START_SECONDS + _seconds_per_kilopixel(plan, known[0]) * kilopixels / workers
    codec = plan.setup.options.encode.codec or "h264"
    size = sum(
        expected_bytes(codec, 1000, max(1, round(video.weight / max(1, video.frames))), video.frames)
        for video in known
    )
    base = plan.storage.url
    return {
        "videos": [
            {
                "source": video.source,
                "output": f"{base}/{video.name}",
                "frames": video.frames,
                "split": video.split,
            }
            for video in plan.videos
        ],
        "workers": plan.workers,
        "frames": frames,
        "seconds": seconds,
        "bytes": size,
    }


def _seconds_per_kilopixel(plan: BatchPlan, video: Video) -> float:
    kilopixels = video.weight / video.frames
    side: int = max(plan.bundle.manifest.min_size, round((kilopixels * 1000) ** 0.5))
    frame = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    film = next(iter(plan.setup.style_plan.film_params.values()))[None]
    times: list[float] = []
    with open_generator(plan.bundle, plan.setup.backend, plan.setup.device) as generator:
        generator(frame, film)  # the first call of a size takes longer
        for _ in range(SAMPLES):
            started = time.perf_counter()
            generator(frame, film)
            times.append(time.perf_counter() - started)
    return median(times) / (side**2 / 1000)
