"""Timing that can be believed: warm-up until stable, runs in turns, enough of them, or no figure at all.

Nothing here knows what is timed. A thing is a function without arguments that returns when its work is done;
several are called in turns, in a new order each time, so that whatever disturbs the machine disturbs all
alike and nobody always follows the same neighbor.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mst_deploy.benchmarks.statistics import Summary, estimated, student_quantile, summarize
from mst_deploy.errors import InvalidArgument, NoisyMachine

Work = Callable[[], object]
Clock = Callable[[], float]
WINDOW = 3  # calls whose medians are compared while warming up
CONFIDENCE = 0.999  # before a trend is held for one


@dataclass(frozen=True)
class Plan:
    """How sure the figures shall be and what may be spent on them."""

    confidence: float = 0.95
    precision: float = 0.03
    """Wanted half width of a mean's interval, as a share of the mean."""
    min_runs: int = 10
    """Timed calls at least."""
    most: int = 320
    """... and at most."""
    seconds: float = 60.0
    """Time for the timed calls of one thing, after which no further round is begun; ``min_runs`` goes
    first."""
    warmup: int = 30
    """Calls before the timed ones, at most."""
    stable: float = 0.05
    """Medians of three calls that differ by no more than this share count as warm."""
    max_load: float = 0.10
    """Share of the machine that other programs may use."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or not 0 < self.precision < 1:
            raise InvalidArgument(
                f"confidence and precision lie between 0 and 1, got {self.confidence} and {self.precision}"
            )
        if not 2 <= self.min_runs <= self.most:
            raise InvalidArgument(
                field="min_runs", problem=f"at least 2 runs and no less than that at most, got {self}"
            )


@dataclass(frozen=True)
class Times:
    """Of one thing: every timed call, in order, seconds."""

    seconds: tuple[float, ...]
    warmups: int
    settled: bool
    """Whether it had become stable before the first timed call."""


def measure(
    things: Mapping[str, Work],
    plan: Plan,
    *,
    clock: Clock = time.perf_counter,
    seed: int = 0,
    tell: Callable[[int], None] = lambda rounds: None,
) -> dict[str, Times]:
    """Call all things in turns until every mean is known to the plan's precision, or its budget is spent.

    Precision is looked at when the number of rounds has doubled: looked at after every round, it would be
    met by chance too early.
    """
    warm = {name: _warm_up(work, plan, clock) for name, work in things.items()}
    times: dict[str, list[float]] = {name: [] for name in things}
    order, look = np.random.default_rng(seed), plan.min_runs
    while not _finished(times, plan, look):
        rounds = len(next(iter(times.values())))
        if rounds == look:
            look *= 2
            gc.collect()  # nobody is being timed
        for name in order.permutation(list(things)):
            times[str(name)].append(_timed(things[str(name)], clock))
        tell(rounds + 1)
    return {name: Times(tuple(seconds), *warm[name]) for name, seconds in times.items()}


def is_stable(seconds: Sequence[float], tolerance: float) -> bool:
    """Whether the last calls took as long as those before them: medians of three and three."""
    if len(seconds) < 2 * WINDOW:
        return False
    before, after = np.median(seconds[-2 * WINDOW : -WINDOW]), np.median(seconds[-WINDOW:])
    return bool(abs(after - before) <= tolerance * before)


def noise(times: Times, plan: Plan, load: float | None = None) -> list[str]:
    """Why these times should not be reported, in words; empty if there is no reason.

    ``load`` is the share of the machine that other programs used meanwhile, None where that is unknown.
    """
    reasons = []
    if load is not None and load > plan.max_load:
        reasons.append(f"other programs used {load:.0%} of the machine (limit {plan.max_load:.0%})")
    if not times.settled:
        reasons.append(f"the calls had not become stable after {times.warmups} warm-up calls")
    precision = estimated(times.seconds, plan.confidence).precision
    if precision > plan.precision:
        reasons.append(
            f"the mean is known to {precision:.1%} only after {len(times.seconds)} calls "
            f"(wanted {plan.precision:.1%})"
        )
    trend = drift(times.seconds)
    if abs(trend) > plan.precision:
        reasons.append(f"the second half of the calls took {trend:+.0%} longer than the first")
    return reasons


def drift(seconds: Sequence[float]) -> float:
    """How much longer the second half took, as a share; 0 unless that is certain."""
    half = len(seconds) // 2
    if half < 3:
        return 0.0
    first, second = (estimated(part, CONFIDENCE) for part in (seconds[:half], seconds[-half:]))
    error = float(np.hypot(first.error, second.error))
    limit = student_quantile((1 + CONFIDENCE) / 2, first.degrees + second.degrees)
    if abs(second.mean - first.mean) <= limit * error:
        return 0.0
    return second.mean / first.mean - 1


def checked(times: Mapping[str, Times], plan: Plan, load: float | None = None) -> dict[str, Summary]:
    """The summary of each. Raises NoisyMachine, with all reasons, where one cannot be believed."""
    reasons = {name: found for name, one in times.items() if (found := noise(one, plan, load))}
    if reasons:
        told = "; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items())
        raise NoisyMachine(
            f"this machine is too busy or too unsteady to measure on: {told}. Close other programs "
            "and measure again, or accept wider figures with [option:ci_width] and "
            "[option:max_load], which are then written beside them"
        )
    return {name: summarize(one.seconds, plan.confidence) for name, one in times.items()}


def _warm_up(work: Work, plan: Plan, clock: Clock) -> tuple[int, bool]:
    """Number of calls made and whether they had become stable."""
    seconds: list[float] = []
    while len(seconds) < plan.warmup and not is_stable(seconds, plan.stable):
        seconds.append(_timed(work, clock))
    return len(seconds), is_stable(seconds, plan.stable)


def _finished(times: Mapping[str, Sequence[float]], plan: Plan, look: int) -> bool:
    rounds = len(next(iter(times.values()), ()))
    if rounds < plan.min_runs and times:
        return False
    spent = rounds >= plan.most or any(sum(seconds) >= plan.seconds for seconds in times.values())
    known = rounds == look and all(
        estimated(seconds, plan.confidence).precision <= plan.precision for seconds in times.values()
    )
    return spent or known


def _timed(work: Work, clock: Clock) -> float:
    """Seconds of one call; the garbage collector must not fall into it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        began = clock()
        work()
        return clock() - began
    finally:
        if enabled:
            gc.enable()
