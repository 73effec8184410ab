"""Damaged copies of clips, and a worker that puts them through whole jobs.

Run as a program it takes a folder for results and files to read, and prints one JSON line for each:
what was refused and how, or how many frames came out and what is said of the loss. Each file has a time
limit, after which the process is killed by the alarm, whatever it hangs in.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

from mst_deploy.backends import StylizeBackend, open_generator
from mst_deploy.errors import MstError, error_line
from mst_deploy.jobs.render_file import render_file
from mst_deploy.model.zoo import resolve_model
from mst_deploy.styles.plan import constant_plan

LIMIT = 20  # seconds for one small file, on a busy machine


def mutated(data: bytes, seed: int) -> tuple[str, bytes]:
    """What was done, and the bytes: flips, a hole, a missing or repeated piece, or without their end."""
    rng = random.Random(seed)
    broken = bytearray(data)
    kind = rng.choice(["flips", "flips", "many flips", "hole", "missing", "repeated", "truncated"])
    if kind == "truncated":
        return kind, data[: rng.randrange(len(data))]
    start = rng.randrange(len(data))
    length = rng.randrange(1, max(2, len(data) // 20))
    if kind == "hole":
        broken[start : start + length] = bytes(len(broken[start : start + length]))
    elif kind == "missing":
        del broken[start : start + length]
    elif kind == "repeated":
        broken[start:start] = broken[start : start + length]
    else:
        for _ in range(rng.randrange(1, 8) if kind == "flips" else 200):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    return kind, bytes(broken)


def attempt(source: Path, output: Path, generator: StylizeBackend) -> dict[str, Any]:
    """As ``mst video`` does it."""
    style_plan = constant_plan(generator.manifest.layout.identity())
    try:
        result = render_file(source, output, generator, style_plan)
    except MstError as error:
        return {"refused": error_line(error)}
    return {"frames": result.frames, "said": result.damage}


def main() -> None:
    folder = Path(sys.argv[1])
    generator = open_generator(resolve_model(), "fake")
    for name in sys.argv[2:]:
        signal.alarm(LIMIT)
        source = Path(name)
        print(
            json.dumps({"file": name, **attempt(source, folder / f"{source.stem}.mkv", generator)}),
            flush=True,
        )
        signal.alarm(0)


if __name__ == "__main__":
    main()
