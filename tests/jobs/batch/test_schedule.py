"""Tests of the schedule, which is pure: every segment is made once, whatever dies."""

from __future__ import annotations

import random

import pytest

from mst_deploy.jobs.batch.schedule import STRAGGLER, Schedule
from mst_deploy.jobs.batch.tasks import Outcome, Task, Video, divided, task_length


def videos(*frames: int, split: bool = True) -> list[Video]:
    return [Video(f"{n}", "", f"{n}", count, count, split) for n, count in enumerate(frames)]


@pytest.mark.parametrize("seed", range(10))
def test_every_segment_is_made_once_whatever_dies(seed: int) -> None:
    """Workers die at random in the middle of tasks; what they had finished by then stays finished."""
    dice = random.Random(seed)
    schedule = Schedule(videos(70, 10, 35, split=True), 3, tries=1000)
    counts, made = [7, 1, 4], set[tuple[int, int]]()
    now, names = 0.0, [f"w{n}" for n in range(3)]
    for _ in range(3000):
        if schedule.finished:
            break
        now += 1
        for name in names:
            task = schedule.next(name, now) if name not in schedule.running else schedule.running[name].task
            if task is None or dice.random() < 0.5:
                continue
            if task.kind == "paint" and dice.random() < 0.5:
                done = range(task.first, dice.randint(task.first, task.last))
                made |= {(task.video, segment) for segment in done}
                schedule.painted(task.video, done)
                schedule.lose(name, "killed")
            elif dice.random() < 0.3:
                schedule.lose(name, "killed")
            else:
                if task.kind == "paint":
                    made |= {(task.video, segment) for segment in range(task.first, task.last)}
                if task.kind == "join":
                    assert {s for v, s in made if v == task.video} == set(range(counts[task.video]))
                schedule.finish(name, Outcome(task, 1, counts[task.video], seconds=1))
    assert [progress.state for progress in schedule.progress] == ["done"] * 3
    assert not schedule.running


def test_a_segment_that_kills_three_workers_fails_its_video_only() -> None:
    schedule = Schedule(videos(30, 30), 1)
    schedule.scanned(0, 3)
    for progress in schedule.progress:
        progress.segments = progress.ready = 3
    for _ in range(3):
        task = schedule.next("w", 0)
        assert task == Task("paint", 0, 0, 1)
        schedule.lose("w", "killed by SIGKILL")
    assert schedule.progress[0].state == "failed"
    assert "3 workers died over it at segment 0" in schedule.progress[0].reason
    assert schedule.next("w", 0) == Task("paint", 1, 0, 1)


def test_stragglers_are_started_twice_and_the_first_result_counts() -> None:
    schedule = Schedule(videos(30), 2)
    schedule.progress[0].segments = schedule.progress[0].ready = 2
    schedule.painted(0, [0])
    schedule.paint_times = [10.0]
    slow = schedule.next("slow", 0)
    assert slow == Task("paint", 0, 1, 2)
    assert schedule.next("other", STRAGGLER * 10) is None
    assert schedule.next("other", STRAGGLER * 10 + 1) == slow
    assert schedule.next("third", 1000) is None
    assert schedule.finish("other", Outcome(slow, seconds=10)) is True
    assert schedule.next("other", 1001) == Task("join", 0)
    assert schedule.finish("slow", Outcome(slow, seconds=1001)) is False


def test_damaged_segments_are_made_again_before_joining() -> None:
    schedule = Schedule(videos(30), 1)
    schedule.progress[0].segments = 3
    schedule.scanned(0, 3)
    schedule.painted(0, range(3))
    join = schedule.next("w", 0)
    assert join == Task("join", 0)
    schedule.finish("w", Outcome(join, again=(1,)))
    again = schedule.next("w", 0)
    assert again == Task("paint", 0, 1, 2)
    schedule.finish("w", Outcome(again, seconds=1))
    assert schedule.next("w", 0) == Task("join", 0)


def test_only_videos_longer_than_a_share_are_split() -> None:
    clips = videos(*[100] * 8, split=False)
    assert not any(video.split for video in divided(clips, 2, 10, remote=False))
    assert [video.split for video in divided(videos(1000, 50, 50), 4, 10, remote=False)] == [
        True,
        False,
        False,
    ]
    assert not divided(videos(10), 4, 10, remote=False)[0].split  # a single segment
    assert not divided(videos(1000), 1, 10, remote=False)[0].split
    assert divided(videos(1000), 1, 10, remote=True)[0].split  # a death would lose it all


def test_tasks_shrink_towards_the_end_and_stay_below_ten_seconds() -> None:
    assert task_length(1000, 2, None) == 1
    assert task_length(1000, 2, 1.0) == 10
    assert task_length(1000, 2, 0.01) == 250
    assert task_length(4, 2, 0.01) == 1
    assert task_length(1000, 2, 100.0) == 1
