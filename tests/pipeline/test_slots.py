"""Slots of live video: the newest item wins; exact counts and bounded ages, whatever the stages take."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

import numpy as np
import pytest

from mst_deploy.pipeline.live_counts import Ages
from mst_deploy.pipeline.slots import Slot


def test_the_newest_item_wins() -> None:
    slot: Slot[int] = Slot()
    for number in range(5):
        slot.put(number)
    assert slot.take() == 4
    assert (slot.put_count, slot.dropped, slot.in_flight, slot.done) == (5, 4, 1, 0)
    slot.finish()
    assert (slot.in_flight, slot.done) == (0, 1)


def test_what_waits_can_be_taken_from_a_closed_slot() -> None:
    slot: Slot[int] = Slot()
    slot.put(1)
    slot.close()
    slot.put(2)  # comes too late, but is counted
    assert (slot.take(), slot.take()) == (1, None)
    assert (slot.put_count, slot.dropped) == (2, 1)


class Simulation:
    """The stages of the pipeline as events on a fake clock, joined by real slots.

    It keeps its own book of where every frame is, by name, not by count.
    """

    def __init__(self, seed: int, frames: int = 300) -> None:
        self.rng = np.random.default_rng(seed)
        self.interval, self.prepare, self.infer, *self.writes = self.rng.uniform(0.001, 0.1, 6)
        shared = threading.Condition(threading.RLock())
        self.to_prepare, self.to_infer, *self.to_sinks = (Slot[int](shared) for _ in range(5))
        self.book: dict[Slot[int], dict[int, str]] = {slot: {} for slot in self.slots}
        self.busy: set[Slot[int]] = set()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.now, self.count, self.frames = 0.0, 0, frames
        self.captured: list[float] = []
        self.ages: list[float] = []

    @property
    def slots(self) -> list[Slot[int]]:
        return [self.to_prepare, self.to_infer, *self.to_sinks]

    def at(self, delay: float, event: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, event))

    def run(self) -> None:
        self.at(0.0, self.capture)
        while self.events:
            self.now, _, event = heapq.heappop(self.events)
            event()
            for slot in self.slots:
                self.begin(slot)
            self.check()

    def capture(self) -> None:
        self.captured.append(self.now)
        self.noted(self.to_prepare, len(self.captured) - 1)
        self.to_prepare.put(len(self.captured) - 1)
        if len(self.captured) < self.frames:
            self.at(self.interval, self.capture)

    def begin(self, slot: Slot[int]) -> None:
        if slot in self.busy or (number := slot.take(lambda: True)) is None:
            return
        assert number == max(self.book[slot]), "not the newest"
        self.busy.add(slot)
        self.book[slot][number] = "busy"
        if slot is self.to_infer and number < self.frames - 1:  # the last waits, since no newer one comes
            self.ages.append(self.now - self.captured[number])
        longest = dict(zip(self.slots, (self.prepare, self.infer, *self.writes), strict=True))[slot]
        self.at(self.rng.uniform(0, longest), lambda: self.end(slot, number))

    def end(self, slot: Slot[int], number: int) -> None:
        following = {self.to_prepare: [self.to_infer], self.to_infer: self.to_sinks}.get(slot, [])
        self.busy.remove(slot)
        self.book[slot][number] = "done"
        for each in following:
            self.noted(each, number)
        slot.finish([(each, number) for each in following])

    def noted(self, slot: Slot[int], number: int) -> None:
        for other, state in self.book[slot].items():
            if state == "waiting":
                self.book[slot][other] = "dropped"
        self.book[slot][number] = "waiting"

    def check(self) -> None:
        for slot in self.slots:
            states = list(self.book[slot].values())
            assert slot.put_count == len(states)
            assert slot.dropped == states.count("dropped")
            assert slot.done == states.count("done")
            assert slot.in_flight == states.count("busy") + states.count("waiting")
        dropped = self.to_prepare.dropped + self.to_infer.dropped
        in_flight = self.to_prepare.in_flight + self.to_infer.in_flight
        assert len(self.captured) == self.to_infer.done + dropped + in_flight
        for sink in self.to_sinks:
            assert self.to_infer.done == sink.done + sink.dropped + sink.in_flight


@pytest.mark.parametrize("seed", range(40))
def test_counts_are_exact_and_ages_bounded_whatever_the_stages_take(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    assert all(slot.in_flight == 0 for slot in simulation.slots)
    # A frame waits for less than an interval before it is prepared, for one inference at most after it.
    assert max(simulation.ages) <= simulation.interval + simulation.prepare + simulation.infer + 1e-9


def test_the_newest_frame_is_the_last_for_every_sink() -> None:
    """What was captured last is not dropped in favor of anything, so the picture is right at the end."""
    simulation = Simulation(3, frames=50)
    simulation.run()
    for slot in simulation.slots:
        assert simulation.book[slot][max(simulation.book[slot])] == "done"
    assert max(simulation.book[simulation.to_infer]) == 49


def test_a_count_read_in_the_middle_is_that_of_one_moment() -> None:
    """Items pass from slot to slot in one step: a reader never sees one in both or in none."""
    shared = threading.Condition(threading.RLock())
    first, second = Slot[int](shared), Slot[int](shared)

    def work(slot: Slot[int], following: list[Slot[int]]) -> None:
        while (item := slot.take()) is not None:
            slot.finish([(each, item) for each in following])
        for each in following:
            each.close()

    threads = [
        threading.Thread(target=work, args=(first, [second])),
        threading.Thread(target=work, args=(second, [])),
    ]
    for thread in threads:
        thread.start()
    for number in range(3000):
        first.put(number)
        if number % 7 == 0:
            with shared:
                in_flight = first.in_flight + second.in_flight
                assert first.put_count == second.done + first.dropped + second.dropped + in_flight
    first.close()
    for thread in threads:
        thread.join()
    assert first.put_count == second.done + first.dropped + second.dropped == 3000


def test_percentiles_are_the_nearest_ranks() -> None:
    ages = Ages()
    assert ages.percentiles() == {"p50": None, "p95": None, "p99": None}
    values = np.random.default_rng(0).uniform(0, 3, 1000)
    for value in values:
        ages.add(value)
    for percent in (50, 95, 99):
        exact = 1000 * np.percentile(values, percent, method="inverted_cdf")
        found = ages.percentiles()[f"p{percent}"]
        assert found is not None
        assert exact <= found < exact + 0.5
