"""What live video counts: frames by what became of them, and percentiles of their ages."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass

RESOLUTION = 2000  # classes of age per second


class Ages:
    """Percentiles of durations in constant memory: a histogram with bins of half a millisecond."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        with self.lock:
            self.counts[math.ceil(seconds * RESOLUTION)] += 1

    def percentiles(self) -> dict[str, float | None]:
        """Return ``{"p50": ..., "p95": ..., "p99": ...}`` in milliseconds, by nearest rank, rounded up to a
        bin."""
        with self.lock:
            classes = sorted(self.counts.items())
        total = sum(count for _, count in classes)
        result: dict[str, float | None] = {}
        for percent in (50, 95, 99):
            rank, seen, value = math.ceil(total * percent / 100), 0, None
            for number, count in classes:
                seen += count
                if seen >= rank and total:
                    value = number * 1000 / RESOLUTION
                    break
            result[f"p{percent}"] = value
        return result


@dataclass(frozen=True)
class SinkReport:
    """Counts of the frames for one sink: ``stylized == written + dropped + in_flight``."""

    written: int
    dropped: int
    in_flight: int
    age_ms: dict[str, float | None]
    """Time from capture to the end of the sink's work on a frame, as percentiles."""
    error: str = ""
    """Reason why it takes no more frames; "" if it still does."""


@dataclass(frozen=True)
class LiveReport:
    """Counts at one time: ``captured == stylized + sum(dropped) + in_flight``."""

    captured: int
    stylized: int
    dropped: dict[str, int]
    """Dropped frames by the stage that was not ready for them: prepare, infer; by capture, those above the
    highest rate asked for."""
    repeated: int
    """Those of the stylized frames that show the picture painted before: frozen, or hardly changed."""
    in_flight: int
    age_at_inference_ms: dict[str, float | None]
    """Time from capture to the beginning of inference, as percentiles."""
    inference_ms: dict[str, float | None]
    sinks: dict[str, SinkReport]
    seconds: float
    """Seconds since the first frame was captured."""
    fps: float
    """Stylized frames per second."""
    width: int
    """Size in pixels at which frames are stylized now."""
    height: int
    size_changes: int
