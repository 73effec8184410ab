"""Interleaved timing of several systems on one frame: rows of a report, with ratios to the first system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from mst_deploy.backends import Images
from mst_deploy.backends.parity import psnr
from mst_deploy.benchmarks.comparisons.systems import System
from mst_deploy.benchmarks.environment import background_load
from mst_deploy.benchmarks.harness import Work, measure
from mst_deploy.benchmarks.latency import work_of_generator
from mst_deploy.benchmarks.options import Plan
from mst_deploy.benchmarks.statistics import ratio_of_turns
from mst_deploy.errors import NoisyMachine
from mst_deploy.model.bundle import Bundle

SMALL = 64
"""Side in pixels of the frame with which the startup of an external program is timed."""


def rows_at(
    systems: Sequence[System], frame: Images, plan: Plan, work: dict[str, int], model: str
) -> list[dict[str, Any]]:
    """Time all systems, interleaved, on one frame (1, H, W, 3); ratios and PSNR are relative to the first
    system."""
    small = np.ascontiguousarray(frame[:, :SMALL, :SMALL])
    calls: dict[str, Work] = {}
    for system in systems:
        calls[system.name] = partial(system.stylize, frame)
        if system.starts:
            calls[f"{system.name} start"] = partial(system.stylize, small)
    times = measure(calls, plan)
    seconds = {name: np.array(one.seconds) for name, one in times.items()}
    reference = systems[0].stylize(frame)
    rows = []
    for system in systems:
        spent = seconds[system.name]
        started = seconds.get(f"{system.name} start")
        own = spent if started is None else np.maximum(spent - np.median(started), 1e-6)
        ratio = ratio_of_turns(own.tolist(), seconds[systems[0].name].tolist(), plan.confidence)
        rows.append(
            {
                "part": "generator",
                "model": model if system.same_weights else system.name,
                "backend": system.name,
                "device": "cpu",
                "precision": system.precision,
                "weights": "own" if not system.same_weights else "shipped",
                "batch": 1,
                "size": f"{frame.shape[2]}x{frame.shape[1]}",
                "seconds": own.tolist(),
                "warmups": times[system.name].warmups,
                "settled": times[system.name].settled,
                "taken_off_s": 0.0 if started is None else float(np.median(started)),
                "times_faster": asdict(ratio),
                "psnr_db": round(psnr(system.stylize(frame), reference), 1) if system.same_weights else None,
                "work": work if system.same_weights else {"multiply_adds": 0, "bytes": 0, "least_bytes": 0},
            }
        )
    return rows


class Runs:
    """Rows of several sizes, and the load of other programs during the measurement.

    Only the timed calls count: the compilers of PyTorch and OpenVINO are processes of their own.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}
        self.load: float | None = None

    def add(self, systems: Sequence[System], frame: Images, bundle: Bundle) -> None:
        """Measure one size and add its rows. Raises NoisyMachine if the figures are not reliable."""
        work = work_of_generator(bundle, frame.shape)
        with background_load() as load:
            rows = rows_at(systems, frame, self.plan, work, bundle.manifest.name)
        if load.share is not None:
            self.load = max(load.share, self.load or 0.0)
            if load.share > self.plan.max_load:
                raise NoisyMachine(
                    f"other programs used {load.share:.0%} of the machine (limit "
                    f"{self.plan.max_load:.0%}) at "
                    f"{rows[0]['size']}; close them and measure again, or accept it with [option:max_load]"
                )
        self.rows += [row for row in rows if row["settled"]]
        self.refused |= {
            f"{row['backend']} at {row['size']}": f"not stable after {row['warmups']} warm-up calls"
            for row in rows
            if not row["settled"]
        }
        if not self.rows:
            raise NoisyMachine("no system became stable; close other programs and measure again")

    def facts(self) -> dict[str, Any]:
        """Return the entries of the report: plan, load, refused systems and rows."""
        return {"plan": asdict(self.plan), "load": self.load, "refused": self.refused, "rows": self.rows}
