"""Reliable timing: warm-up until stable, interleaved calls, enough of them, or no figure at all.

The harness does not depend on what is timed. A timed item is a function without arguments that returns when
its work is done. Several are called in rounds, in a new random order each time, so that disturbances of the
machine affect all alike and no item always follows the same one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.statistics import Summary, estimated, student_quantile, summarize
from mst_deploy.errors import NoisyMachine

Work = Callable[[], object]
Clock = Callable[[], float]
WINDOW = 3  # calls whose medians are compared during warm-up
CONFIDENCE = 0.999  # confidence at which a trend counts as one


@dataclass(frozen=True)
class Times:
    """Durations in seconds of every timed call of one item, in order."""

    seconds: tuple[float, ...]
    warmups: int
    settled: bool
    """Whether the durations were stable before the first timed call."""


def measure(
    items: Mapping[str, Work],
    plan: Plan,
    *,
    clock: Clock = time.perf_counter,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda rounds: None,
) -> dict[str, Times]:
    """Call all items in rounds until every mean has the precision of the plan, or the budget is spent.

    The precision is checked only when the number of rounds has doubled: checked after every round, it would
    be reached too early by chance. Returns the durations by name.
    """
    warm = {name: _warm_up(work, plan, clock) for name, work in items.items()}
    times: dict[str, list[float]] = {name: [] for name in items}
    order, next_check = np.random.default_rng(seed), plan.min_runs
    while not _finished(times, plan, next_check):
        rounds = len(next(iter(times.values())))
        if rounds == next_check:
            next_check *= 2
            gc.collect()  # outside of the timed calls
        for name in order.permutation(list(items)):
            times[str(name)].append(_timed(items[str(name)], clock))
        on_progress(rounds + 1)
    return {name: Times(tuple(seconds), *warm[name]) for name, seconds in times.items()}


def is_stable(seconds: Sequence[float], tolerance: float) -> bool:
    """Return whether the last WINDOW calls took as long as the WINDOW before them, comparing medians."""
    if len(seconds) < 2 * WINDOW:
        return False
    before, after = np.median(seconds[-2 * WINDOW : -WINDOW]), np.median(seconds[-WINDOW:])
    return bool(abs(after - before) <= tolerance * before)


def noise(times: Times, plan: Plan, load: float | None = None) -> list[str]:
    """Return the reasons why these times should not be reported; empty if there are none.

    ``load`` is the share of the machine that other programs used meanwhile, None if unknown.
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
    """Return how much longer the second half of the calls took, as a share; 0 unless significant."""
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
    """Return the summary of each item. Raises NoisyMachine, with all reasons, if one is not reliable."""
    reasons = {name: found for name, one in times.items() if (found := noise(one, plan, load))}
    if reasons:
        details = "; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items())
        raise NoisyMachine(
            f"this machine is too busy or too unsteady to measure on: {details}. Close other programs "
            "and measure again, or accept wider figures with [option:ci_width] and "
            "[option:max_load], which are then written beside them"
        )
    return {name: summarize(one.seconds, plan.confidence) for name, one in times.items()}


def _warm_up(work: Work, plan: Plan, clock: Clock) -> tuple[int, bool]:
    """Call the item until it is stable; return the number of calls and whether it became stable."""
    seconds: list[float] = []
    while len(seconds) < plan.warmup and not is_stable(seconds, plan.stable):
        seconds.append(_timed(work, clock))
    return len(seconds), is_stable(seconds, plan.stable)


def _finished(times: Mapping[str, Sequence[float]], plan: Plan, next_check: int) -> bool:
    rounds = len(next(iter(times.values()), ()))
    if rounds < plan.min_runs and times:
        return False
    spent = rounds >= plan.most or any(sum(seconds) >= plan.seconds for seconds in times.values())
    known = rounds == next_check and all(
        estimated(seconds, plan.confidence).precision <= plan.precision for seconds in times.values()
    )
    return spent or known


def _timed(work: Work, clock: Clock) -> float:
    """Return the seconds of one call, with the garbage collector disabled."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        started = clock()
        work()
        return clock() - started
    finally:
        if enabled:
            gc.enable()
