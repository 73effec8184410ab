"""Programs that make the goldens of the tests; run each as ``python -m tools.goldens.NAME``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
