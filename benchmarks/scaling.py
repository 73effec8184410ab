"""How a batch scales, from the times of its parts: the real schedule with a simulated clock.

    python -m mst_deploy.benchmarks.scaling --workers 1,2,8,64,512 --frames 90000

Every assumption is an option. Nothing is rendered: ``jobs.batch.schedule`` gives tasks to workers that take
the time that the model says, with scatter, deaths and stragglers.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer

from mst_deploy.jobs.batch.schedule import Schedule
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video, divided


@dataclass(frozen=True)
class Assumptions:
    """Times and rates of the parts of a batch. Defaults: 640x360, the model lite, workers of two cores; see
    docs/scale.md for where each number is from."""

    videos: int = 1
    frames: int = 90_000
    """Frames of each video."""
    part_frames: int = 120
    paint_fps: float = 10.1
    """Frames a second of one worker."""
    scan_fps: float = 120.0
    """Frames a second of the scan: decoding, checksums, and motion of the canvas."""
    start: float = 7.0
    """Seconds until the workers are ready."""
    task: float = 0.3
    """Seconds of each task besides its frames: opening, seeking, recording, calls."""
    megabytes: float = 0.02
    """Megabytes of one frame of the result."""
    join_rate: float = 200.0
    """Megabytes a second of joining, reading and writing."""
    store_rate: float = 2000.0
    """Megabytes a second that the storage takes and gives, of all workers together."""
    source_megabytes: float = 0.0
    """Megabytes of a source that every worker copies before its first task of it; 0 for a shared disk."""
    scatter: float = 0.1
    """Standard deviation of the logarithm of the time of a task."""
    deaths: float = 0.001
    """Deaths of workers per segment."""
    stragglers: float = 0.002
    """Share of tasks that take ten times as long."""
    poll: float = 0.5
    """Seconds between two polls of the storage."""


@dataclass(frozen=True)
class Scaled:
    """Simulated run with a number of workers."""

    workers: int
    seconds: float
    speedup: float
    """Times as fast as one machine without a batch: painting alone, one worker."""
    efficiency: float
    """Speedup for each worker."""
    busy: float
    """Share of the time in which workers had a task."""
    retries: int


def simulate(assumed: Assumptions, workers: int, seed: int = 0) -> Scaled:
    """Run the schedule of a batch with a simulated clock."""
    simulation = _Simulation(assumed, workers, random.Random(seed))
    seconds = simulation.run()
    alone = assumed.videos * assumed.frames / assumed.paint_fps
    busy = simulation.busy / (seconds * workers)
    retries = sum(progress.retries for progress in simulation.schedule.progress)
    return Scaled(workers, seconds, alone / seconds, alone / seconds / workers, busy, retries)


class _Simulation:
    def __init__(self, assumed: Assumptions, workers: int, dice: random.Random) -> None:
        self.assumed, self.workers, self.dice = assumed, workers, dice
        video = Video("", "", "", assumed.frames, assumed.frames)
        videos = divided([video] * assumed.videos, workers, assumed.part_frames, remote=False)
        self.schedule = Schedule(videos, workers, tries=1000)
        self.segments = math.ceil(assumed.frames / assumed.part_frames)
        self.events: list[tuple[float, int, str, Task | None, bool]] = []
        """Time, number, worker, task (None: ready for the first one), and whether the worker dies at it."""
        self.scans: dict[int, float] = {}
        """Beginnings of the scans under way, by video."""
        self.copied: set[tuple[str, int]] = set()
        self.number = 0
        self.busy = 0.0

    def run(self) -> float:
        """Return the seconds until everything is done."""
        now = 0.0
        idle: list[str] = []
        for number in range(self.workers):
            self._push(self.assumed.start, f"w{number}", None, dies=False)
        while not self.schedule.finished:
            now, _, worker, task, dies = heapq.heappop(self.events)
            self._poll(now)
            if worker:
                idle.append(worker)
                if task is not None:
                    self._end(worker, task, now, dies=dies)
            while idle and (following := self.schedule.next(idle[-1], now)) is not None:
                self._begin(idle.pop(), following, now)
            if idle and self.scans and not any(not name for _, _, name, *_ in self.events):
                self._push(now + self.assumed.poll, "", None, dies=False)
        return now

    def _push(self, time: float, worker: str, task: Task | None, *, dies: bool) -> None:
        self.number += 1
        heapq.heappush(self.events, (time, self.number, worker, task, dies))

    def _poll(self, now: float) -> None:
        for video, since in self.scans.items():
            read = (now - since) * self.assumed.scan_fps / self.assumed.part_frames
            self.schedule.scanned(video, min(self.segments, int(read)))

    def _begin(self, worker: str, task: Task, now: float) -> None:
        seconds = self._seconds(worker, task)
        segments = task.last - task.first or 1
        dies = task.kind == "paint" and self.dice.random() < self.assumed.deaths * segments
        if dies:
            seconds *= self.dice.random()
        if task.kind == "scan":
            self.scans[task.video] = now
        self.busy += seconds
        self._push(now + seconds, worker, task, dies=dies)

    def _seconds(self, worker: str, task: Task) -> float:
        """Return the seconds of a task."""
        a = self.assumed
        frames = min(a.frames, task.last * a.part_frames) - task.first * a.part_frames
        if task.kind == "scan":
            work = a.frames / a.scan_fps
        elif task.kind == "join":
            work = a.frames * a.megabytes / a.join_rate
        elif task.kind == "whole":
            work = a.frames / a.paint_fps
        else:
            work = frames / a.paint_fps
            work = max(work, frames * a.megabytes * self.workers / a.store_rate)  # all of them write
        if task.kind != "scan":
            work *= math.exp(self.dice.gauss(0, a.scatter))
            if self.dice.random() < a.stragglers:
                work *= 10
        if (worker, task.video) not in self.copied:
            self.copied.add((worker, task.video))
            work += a.source_megabytes * min(self.workers, self.segments) / a.store_rate
        return work + a.task

    def _end(self, worker: str, task: Task, now: float, *, dies: bool) -> None:
        if dies:
            self.schedule.lose(worker, "killed")
            return
        if task.kind == "scan":
            self.scans.pop(task.video, None)
        seconds = now - self.schedule.running[worker].since
        self.schedule.finish(worker, Outcome(task, self.assumed.frames, self.segments, seconds=seconds))


def table(rows: list[Scaled]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| workers | seconds | times as fast | efficiency | workers busy |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.workers} | {row.seconds:,.0f} | {row.speedup:.3g} | {row.efficiency:.0%} | {row.busy:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


DEFAULT = Assumptions()


def main(
    workers: Annotated[str, typer.Option(help="Numbers of workers.")] = "1,2,4,8,16,32,64,128,256,512",
    videos: int = DEFAULT.videos,
    frames: int = DEFAULT.frames,
    part_frames: int = DEFAULT.part_frames,
    paint_fps: float = DEFAULT.paint_fps,
    scan_fps: float = DEFAULT.scan_fps,
    start: float = DEFAULT.start,
    task: float = DEFAULT.task,
    megabytes: float = DEFAULT.megabytes,
    join_rate: float = DEFAULT.join_rate,
    store_rate: float = DEFAULT.store_rate,
    source_megabytes: float = DEFAULT.source_megabytes,
    scatter: float = DEFAULT.scatter,
    deaths: float = DEFAULT.deaths,
    stragglers: float = DEFAULT.stragglers,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Simulate a batch with different numbers of workers."""
    assumed = replace(
        DEFAULT,
        videos=videos,
        frames=frames,
        part_frames=part_frames,
        paint_fps=paint_fps,
        scan_fps=scan_fps,
        start=start,
        task=task,
        megabytes=megabytes,
        join_rate=join_rate,
        store_rate=store_rate,
        source_megabytes=source_megabytes,
        scatter=scatter,
        deaths=deaths,
        stragglers=stragglers,
    )
    rows = [simulate(assumed, int(count), seed) for count in workers.split(",")]
    if as_json:
        print(json.dumps({"assumed": asdict(assumed), "rows": [asdict(row) for row in rows]}))
    else:
        print(table(rows))


if __name__ == "__main__":
    typer.run(main)
