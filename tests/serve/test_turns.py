"""Who gets the model first."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from mst_deploy.serve.turns import Kind, Turns


@pytest.mark.parametrize(
    ("arrivals", "order"),
    [
        ([(0.0, Kind.CLIP), (0.1, Kind.PICTURE), (0.2, Kind.LIVE)], [Kind.LIVE, Kind.PICTURE, Kind.CLIP]),
        ([(0.0, Kind.CLIP), (2.5, Kind.LIVE), (2.6, Kind.LIVE)], [Kind.CLIP, Kind.LIVE, Kind.LIVE]),
        ([(0.0, Kind.PICTURE), (0.6, Kind.LIVE), (0.7, Kind.CLIP)], [Kind.PICTURE, Kind.LIVE, Kind.CLIP]),
    ],
)
def test_what_is_due_first_goes_first_and_nothing_waits_forever(
    arrivals: list[tuple[float, Kind]], order: list[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("mst_deploy.serve.turns.time", SimpleNamespace(monotonic=lambda: now[0]))
    turns, served = Turns(), list[Kind]()

    def work(kind: Kind) -> None:
        with turns.turn(kind):
            served.append(kind)

    threads = []
    with turns.turn(Kind.CLIP):
        for count, (moment, kind) in enumerate(arrivals, start=1):
            now[0] = moment
            threads.append(threading.Thread(target=work, args=(kind,)))
            threads[-1].start()
            while len(turns._waiting) < count:
                time.sleep(0.001)
    for thread in threads:
        thread.join(5)
    assert served == order
