"""Keys that change live video while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mst_deploy.errors import MstError

if TYPE_CHECKING:
    from mst_deploy.live import LiveSession

STEP = 0.1  # of strength, for the keys + and -
KEYS = (
    "keys: 1-9 choose a style, m mixes it with the next, 0 shows the source, + - change the strength, "
    "c compares, f freezes, s saves a picture, q ends"
)


class LiveKeys:
    """Actions of keys."""

    def __init__(
        self,
        session: LiveSession,
        choices: tuple[str, ...],
        fade: float,
        report: Callable[[str], None] = lambda text: print(f"\n{text}", file=sys.stderr),
    ) -> None:
        """``choices`` are the styles of the keys 1 to 9, ``fade`` is in seconds."""
        self.session, self.live = session, session.pipeline
        self.choices, self.fade, self.report = choices, fade, report
        self.before = 1.0

    def press(self, key: str) -> None:
        """Replace the style, save a picture, or stop."""
        now, style = time.monotonic(), self.live.active_style
        if key == "q":
            self.live.stop()
        elif key.isdigit() and key != "0" and int(key) <= len(self.choices):
            self.live.active_style = style.with_style(self.choices[int(key) - 1], now, self.fade)
        elif key == "0":
            shown = style.strength(now)
            self.live.active_style = style.with_strength(self.before if shown == 0 else 0.0, now)
            self.before = shown or self.before
        elif key in "+-":
            changed = style.strength(now) + (STEP if key == "+" else -STEP)
            self.live.active_style = style.with_strength(min(1.0, max(0.0, round(changed, 3))), now)
        elif key == "m" and len(self.choices) > 1:
            self.live.active_style = style.mixed_with(self._next(), now, self.fade)
        elif key == "c":
            self.live.compare = not self.live.compare
        elif key == "f":
            self.live.repeats.frozen = not self.live.repeats.frozen
        elif key == "s":
            self._save()
        elif key == "?":
            self.report(KEYS)

    def _next(self) -> str:
        """Return the choice after the style that is seen most."""
        weights = self.live.active_style.weights(time.monotonic())
        seen = max(weights, key=lambda name: weights[name])
        at = self.choices.index(seen) if seen in self.choices else -1
        return self.choices[(at + 1) % len(self.choices)]

    def _save(self) -> None:
        try:
            self.report(f"saved {self.session.snapshot(Path())}")
        except MstError as error:
            self.report(f"not saved: {error}")
