"""The size that holds a frame rate: the policy on a fake clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from mst_deploy.errors import InvalidArgument
from mst_deploy.pipeline.live_size import BEGIN, REST, SizeControl, SizePolicy, even, sizes_for

SIZES = sizes_for(1920, 1080)


def play(
    policy: SizePolicy,
    control: SizeControl,
    until: float,
    cost: Callable[[float, int], float],
    now: float = 0.0,
) -> tuple[SizeControl, list[tuple[float, int]]]:
    """Frames one after the other; ``cost`` gives seconds from time and pixels. Returns the changes."""
    changes = []
    while now < until:
        seconds = cost(now, math.prod(policy.sizes[control.rung]))
        now += max(seconds, 1 / policy.fps)
        after = policy.step(control, now, seconds)
        if after.rung != control.rung:
            changes.append((now, after.rung))
        control = after
    return control, changes


def test_sizes() -> None:
    assert SIZES == (
        (320, 180), (426, 240), (512, 288), (640, 360), (768, 432), (960, 540), (1280, 720), (1920, 1080),
    )  # fmt: off
    assert sizes_for(320, 180) == ((320, 180),)
    assert sizes_for(101, 75) == ((100, 74),)
    assert sizes_for(480, 640)[0] == (180, 240)
    for width, height in ((1921, 1081), (333, 777), (1, 1)):
        sizes = sizes_for(width, height)
        assert sizes[-1] == even(width, height)
        assert all(side % 2 == 0 for size in sizes for side in size)
        assert [math.prod(size) for size in sizes] == sorted(math.prod(size) for size in sizes)


@pytest.mark.parametrize("per_pixel", [1e-9, 3e-8, 1e-7, 1e-6])
@pytest.mark.parametrize("fixed", [0.0, 0.005, 0.05])
def test_the_first_size_is_the_largest_that_is_fast_enough(per_pixel: float, fixed: float) -> None:
    """Against a search over all sizes with the true times; only two are measured."""
    policy, measured = SizePolicy(SIZES, 25), []

    def seconds(size: tuple[int, int]) -> float:
        measured.append(size)
        return fixed + per_pixel * math.prod(size)

    control = policy.start(seconds, 7.0)
    fitting = [i for i, size in enumerate(SIZES) if (fixed + per_pixel * math.prod(size)) * 25 < BEGIN]
    assert control == SizeControl(max(fitting, default=0), 7.0)
    assert len(measured) <= 2


def test_a_machine_that_gets_busy_and_free_again() -> None:
    """Another program takes three quarters of the machine from 20 s to 60 s."""
    policy = SizePolicy(SIZES, 25)
    per_pixel = 0.5 / 25 / (640 * 360)

    def cost(now: float, pixels: int) -> float:
        return per_pixel * pixels * (4 if 20 <= now < 60 else 1)

    control, changes = play(policy, SizeControl(4, 0.0), 120, cost)
    down = [rung for when, rung in changes if when < 60]
    assert down == [3, 2, 1]  # 426x240: 0.89 of the interval
    assert control.rung == 4  # 768x432: 0.72 of the interval; 960x540 would take 1.125
    times = [when for when, _ in changes]
    assert all(after - before >= REST for before, after in pairwise(times))


@pytest.mark.parametrize("load", [0.3, 0.5, 0.59, 0.61, 0.8, 0.94, 0.96, 1.2, 3.0])
def test_a_steady_load_ends_in_one_size(load: float) -> None:
    """No going to and fro: after half a minute nothing changes any more."""
    policy = SizePolicy(SIZES, 25)
    per_pixel = load / 25 / math.prod(SIZES[3])
    control, _ = play(policy, SizeControl(3, 0.0), 60, lambda now, pixels: per_pixel * pixels)
    _, changes = play(policy, control, 240, lambda now, pixels: per_pixel * pixels, now=60)
    assert changes == []


def test_single_slow_frames_change_nothing() -> None:
    policy = SizePolicy(SIZES, 25)
    numbers = iter(range(10**6))
    control, changes = play(
        policy, SizeControl(3, 0.0), 60, lambda now, pixels: 0.2 if next(numbers) % 20 == 0 else 0.03
    )
    assert (control.rung, changes) == (3, [])


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_a_rate_that_is_none(fps: float) -> None:
    with pytest.raises(InvalidArgument, match="above 0"):
        SizePolicy(SIZES, fps)
