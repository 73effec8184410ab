"""Check of memory growth over two thousand frames of the PyTorch backend."""

from __future__ import annotations

import time
from typing import Any

import torch

from mst_deploy.backends import open_generator
from mst_deploy.benchmarks.environment import device_memory, peak_memory
from tools.gpu_report.inputs import films_of, make_inputs, opened
from tools.gpu_report.networks import names_of
from tools.gpu_report.plan import Settings
from tools.gpu_report.record import Record

COUNTS = (100, 1000, 2000)
SIZE = (1280, 720)


def find_out(settings: Settings, record: Record, before: dict[str, Any]) -> None:
    """Run the smallest shipped model at 1280x720 (or the rehearsal's size), with another style in every
    frame; fewer frames where the time is over before."""
    counts = COUNTS if settings.cuda else tuple(count // 200 or 1 for count in COUNTS)
    size = SIZE if SIZE in settings.sizes or settings.cuda else settings.main_size
    bundle = opened(settings.models[-1])
    films = films_of(bundle)
    calls = [make_inputs(names_of(settings.models[-1]), size, film) for film in films]
    began = time.monotonic()
    with open_generator(bundle, "pytorch", settings.device) as generator:
        for number in range(1, counts[-1] + 1):
            inputs = calls[number % len(calls)]
            generator(inputs["frames"], inputs["film"])
            over = record.left() < 1.0
            if number in counts or over:
                what = {"model": settings.models[-1], "size": size, "frames": number}
                record.row(
                    what, lambda: {**held(settings), "seconds": round(time.monotonic() - began, 1)}, 0.0
                )
            if over:
                return


def held(settings: Settings) -> dict[str, Any]:
    """Return MiB used and reserved by PyTorch, counted by the driver, and of the process."""
    found: dict[str, Any] = {"peak_resident_mib": round(peak_memory(), 1)}
    if settings.cuda:
        found["allocated_mib"] = round(torch.cuda.memory_allocated() / 2**20, 2)
        found["reserved_mib"] = round(torch.cuda.memory_reserved() / 2**20, 2)
        found["driver_mib"] = device_memory()
        free, total = torch.cuda.mem_get_info()
        found["used_on_card_mib"] = (total - free) >> 20
    return found
