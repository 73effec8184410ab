"""Tests of the harness on a simulated machine: its clock advances only with work, with noise of known
size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from mst_deploy.benchmarks.harness import Times, checked, drift, is_stable, measure, noise
from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.statistics import estimated, ratio_of_runs, ratio_of_turns
from mst_deploy.errors import InvalidArgument, NoisyMachine

PLAN = Plan()


class Machine:
    """Time that passes by the seconds of each piece of work.

    The noise is that of a real machine: a part that comes and goes slowly (a first-order autoregression),
    a part of its own for every call, and now and then an interruption.
    """

    def __init__(self, seed: int, size: float = 0.03) -> None:
        self.now, self.rng, self.size, self.slow = 0.0, np.random.default_rng(seed), size, 0.0

    def work(self, seconds: float) -> None:
        self.slow = 0.6 * self.slow + 0.8 * self.rng.normal(0, self.size / 2)
        interrupted = 10 * self.size if self.rng.random() < 0.02 else 0.0
        self.now += seconds * (1 + self.slow + abs(self.rng.normal(0, self.size)) + interrupted)

    def run(self, plan: Plan = PLAN, **seconds: float) -> dict[str, Times]:
        things = {name: (lambda value=value: self.work(value)) for name, value in seconds.items()}
        return measure(things, plan, clock=lambda: self.now)


@pytest.mark.parametrize(("seeds", "least"), [(10, 9), pytest.param(60, 54, marks=pytest.mark.slow)])
def test_two_runs_of_the_same_thing_agree_within_their_intervals(seeds: int, least: int) -> None:
    """The difference of two means lies within both intervals added in squares, 19 times in 20."""
    agree = 0
    for seed in range(seeds):
        first, second = (estimated(Machine(2 * seed + run).run(a=1.0)["a"].seconds, 0.95) for run in (0, 1))
        width = np.hypot(first.high - first.mean, second.high - second.mean)
        agree += bool(abs(first.mean - second.mean) <= width)
    assert agree >= least


def found_real(slowdown: float, seed: int, *, turns: bool) -> bool:
    """Whether a difference between 1 and 1 + slowdown is seen, in turns or in two runs."""
    if turns:
        both = Machine(seed).run(a=1.0, b=1 + slowdown)
        return ratio_of_turns(both["a"].seconds, both["b"].seconds, 0.99).is_real(0.01)
    a = Machine(2 * seed).run(a=1.0)["a"]
    b = Machine(2 * seed + 1).run(b=1 + slowdown)["b"]
    estimates = [estimated(times.seconds, 0.95) for times in (a, b)]
    return ratio_of_runs(estimates[0], estimates[1], 0.99).is_real(0.01)


@pytest.mark.parametrize(
    ("seeds", "missed", "false"), [(6, 0, 0), pytest.param(40, 1, 2, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("turns", [True, False])
def test_ten_per_cent_is_detected_and_nothing_is_not(
    turns: bool, seeds: int, missed: int, false: int
) -> None:
    assert sum(found_real(0.10, seed, turns=turns) for seed in range(seeds)) >= seeds - missed
    assert sum(found_real(0.0, seed, turns=turns) for seed in range(seeds)) <= false


def test_warm_up_lasts_until_calls_are_stable() -> None:
    """Ten calls that get faster, then steady ones: none of the ten is among the times."""
    machine, paces = Machine(0, size=0.001), iter([5.0, 4.4, 3.9, 3.4, 2.9, 2.5, 2.1, 1.7, 1.4, 1.2])
    times = measure({"a": lambda: machine.work(next(paces, 1.0))}, PLAN, clock=lambda: machine.now)["a"]
    assert times.settled
    assert times.warmups >= 10
    assert max(times.seconds) < 1.35  # an interruption at most


def test_things_take_turns_in_changing_order() -> None:
    called: list[str] = []
    clock: Iterator[int] = iter(range(10_000))
    plan = Plan(min_runs=8, most=8)
    things = {name: partial(called.append, name) for name in "abc"}
    measure(things, plan, clock=lambda: float(next(clock)))
    timed = called[-24:]
    rounds = [timed[start : start + 3] for start in range(0, 24, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 2


def test_noisier_things_are_called_more_often() -> None:
    quiet, loud = (len(Machine(7, size).run(a=1e-3)["a"].seconds) for size in (0.002, 0.2))
    assert quiet == PLAN.min_runs
    assert loud >= 4 * quiet


def test_budget_of_time_ends_the_calls_but_not_below_the_least() -> None:
    plan = Plan(min_runs=10, seconds=25.0, precision=0.0001)
    assert len(Machine(0).run(plan, a=1.0)["a"].seconds) == pytest.approx(25, abs=2)
    assert len(Machine(0).run(plan, a=30.0)["a"].seconds) == 10


def test_steady_times_are_reported() -> None:
    times = Machine(4).run(a=1.0)
    summary = checked(times, PLAN, load=0.01)["a"]
    assert summary.estimate.precision <= PLAN.precision
    assert 1.0 < summary.median < 1.1


@pytest.mark.parametrize(
    ("times", "load", "reason"),
    [
        (Times((1.0,) * 10, 6, True), 0.5, "other programs used 50%"),
        (Times((1.0,) * 10, 30, False), 0.0, "not become stable after 30"),
        (Times((1.0, 3.0) * 5, 6, True), None, "known to"),
        (Times((1.0, 1.01) * 20 + (1.2, 1.21) * 20, 6, True), None, r"\+2.% longer"),
    ],
)
def test_noise_is_refused_with_its_reason(times: Times, load: float | None, reason: str) -> None:
    with pytest.raises(NoisyMachine, match=reason):
        checked({"a": times}, PLAN, load)


def test_a_trend_is_distinguished_from_noise() -> None:
    rng = np.random.default_rng(5)
    assert drift(list(rng.normal(1, 0.05, 40))) == 0
    assert drift(list(rng.normal(1, 0.01, 40) * np.linspace(1, 1.2, 40))) == pytest.approx(0.095, abs=0.02)


def test_stability_needs_two_windows() -> None:
    assert not is_stable([1.0] * 5, 0.05)
    assert is_stable([9.0, 1.0, 1.0, 1.0, 1.0, 1.04, 1.0], 0.05)
    assert not is_stable([2.0, 2.0, 2.0, 1.0, 1.0, 1.0], 0.05)


def test_the_result_of_one_does_not_hide_another() -> None:
    good, bad = Times((1.0,) * 10, 6, True), Times((1.0, 3.0) * 5, 6, True)
    assert noise(good, PLAN) == []
    with pytest.raises(NoisyMachine, match="bad: the mean"):
        checked({"good": good, "bad": bad}, PLAN)


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.0}, {"precision": 0.0}, {"min_runs": 1}, {"min_runs": 9, "most": 8}]
)
def test_impossible_plans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        Plan(**wrong)  # type: ignore[arg-type]
