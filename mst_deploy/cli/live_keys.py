"""Keys that change live video while it runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mst_deploy.pipeline.live import LivePipeline

STEP = 0.1  # of strength, for the keys + and -
KEYS = "keys: 1-9 choose a style, 0 shows the source, + - change the strength, q ends"


class LiveKeys:
    """Actions of keys."""

    def __init__(self, live: LivePipeline, choices: tuple[str, ...], fade: float) -> None:
        self.live, self.choices, self.fade = live, choices, fade
        self.before = 1.0

    def press(self, key: str) -> None:
        """Replace the look, or stop."""
        now, look = time.monotonic(), self.live.look
        if key == "q":
            self.live.stop()
        elif key.isdigit() and key != "0" and int(key) <= len(self.choices):
            self.live.look = look.with_style(self.choices[int(key) - 1], now, self.fade)
        elif key == "0":
            shown = look.strength(now)
            self.live.look = look.with_strength(self.before if shown == 0 else 0.0, now)
            self.before = shown or self.before
        elif key in "+-":
            changed = look.strength(now) + (STEP if key == "+" else -STEP)
            self.live.look = look.with_strength(min(1.0, max(0.0, round(changed, 3))), now)
        elif key == "?":
            print(f"\n{KEYS}", file=sys.stderr)
