"""Programs that make tables and pictures of the documents; run each as ``python -m tools.docs.NAME``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
HELD_OUT = ROOT / "training" / "held_out.txt"
"""SHA-256 of the images that the shipped models have not seen."""
