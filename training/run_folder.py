"""The folder of a run: one owner at a time, a state to continue from, and a record of what was done.

run.json             configuration, versions, data, commit, command, figures
state.pt             to continue from (weights, averages, optimizer, position in the data)
weights.safetensors  the result so far: averaged weights, for mst export
log.jsonl            losses and speed, one line per report; tensorboard/ holds the same as curves
samples-STEP.jpg     the same few pictures at every save
bad-batch-STEP.pt    what the loss was no number on, if that happened
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import filelock
import lightning
import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from mst_deploy import __version__
from mst_deploy.errors import InputError, InvalidArgument, OutputError
from mst_deploy.files import replacing
from mst_deploy.images import Image, save_image
from mst_deploy.training.reports import BadBatch, Report

LENGTH = ("steps", "epochs", "minutes")  # may differ when a run is continued


class RunFolder:
    """Writes of one run. Made by ``open_run``."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        self.log = (path / "log.jsonl").open("a", encoding="utf-8")
        self.curves = SummaryWriter(str(path / "tensorboard"))

    def close(self) -> None:
        self.log.close()
        self.curves.close()

    def restore(self) -> dict[str, Any] | None:
        """The state to continue from, or None. Raises InvalidArgument when it is another run's."""
        file = self.path / "state.pt"
        if not file.exists():
            return None
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises anything for a damaged file
            raise InputError(
                f"cannot continue from {file}: {error}; choose another folder with [option:output]"
            ) from error
        refuse_other_run(state["run"], self.identity(), self.path)
        return dict(state)

    def identity(self) -> dict[str, Any]:
        """What must not change within a run."""
        config = {name: value for name, value in self.facts["config"].items() if name not in LENGTH}
        same = {name: self.facts[name] for name in ("phase", "data", "losses")}
        return dict(json.loads(json.dumps({**same, **config})))

    def record(self, report: Report) -> None:
        """A line in the log and a point on every curve."""
        speed = {"images_per_second": report.images_per_second, "waiting": report.waiting}
        rounded = {name: float(f"{value:.5g}") for name, value in {**speed, **report.values}.items()}
        line = {"step": report.step, "seconds": round(report.seconds), **rounded}
        print(json.dumps(line), file=self.log, flush=True)
        for name, value in rounded.items():
            self.curves.add_scalar(name, value, report.step)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace state.pt; the one that was there stays until the new one is complete."""
        with replacing(self.path / "state.pt") as temporary:
            write_state(temporary, {**state, "run": self.identity()})

    def save_samples(self, sheet: Image, step: int) -> None:
        """A picture beside the weights and on the board."""
        save_image(self.path / f"samples-{step:06d}.jpg", sheet)
        self.curves.add_image("samples", sheet, step, dataformats="HWC")
        self.curves.flush()

    def write_facts(self, done: dict[str, Any]) -> None:
        """run.json: what was known at the start, and ``done`` so far."""
        if torch.cuda.is_available():
            done = {**done, "gpu_memory_mib": torch.cuda.max_memory_allocated() >> 20}
        with replacing(self.path / "run.json") as temporary:
            temporary.write_text(json.dumps({**self.facts, "done": done}, indent=2) + "\n", encoding="utf-8")

    def keep_bad_batch(self, bad: BadBatch) -> Path:
        """Write the batch on which the loss was no number."""
        file = self.path / f"bad-batch-{bad.step:06d}.pt"
        styles = {str(tuple(view)): crop for view, crop in bad.batch.styles.items()}
        with replacing(file) as temporary:
            write_state(
                temporary,
                {
                    "contents": bad.batch.contents,
                    "moved": bad.batch.moved,
                    "shifts": bad.batch.shifts,
                    "styles": styles,
                    "views": [None if v is None else tuple(v) for v in bad.batch.views],
                    "terms": bad.terms,
                },
            )
        return file


def write_state(path: Path, state: dict[str, Any]) -> None:
    """torch.save, with its many forms of "no space left" as OSError."""
    try:
        torch.save(state, path)
    except RuntimeError as error:  # the C++ writer's form
        raise OSError(
            None, f"the file could not be written in full ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def open_run(path: Path, facts: dict[str, Any]) -> Iterator[RunFolder]:
    """The folder of a run, for this process alone. Raises OutputError when another run is using it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise OutputError(
            f"another run is writing into {path}; wait for it or choose another folder with [option:output]"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot use the folder {path}: {error.strerror}; choose another with [option:output]"
        ) from error
    for left_over in path.glob(".*-*/"):  # of a process that was killed while it wrote
        shutil.rmtree(left_over, ignore_errors=True)
    folder = RunFolder(path, facts)
    try:
        yield folder
    finally:
        folder.close()
        lock.release()


def refuse_other_run(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Raise InvalidArgument, naming a difference, unless both describe the same run."""
    for name in wanted:
        if found.get(name) != wanted[name]:
            raise InvalidArgument(
                field="output",
                problem=(
                    f"{path} holds a run with {name} = {_short(found.get(name))}, now it would be "
                    f"{_short(wanted[name])}"
                ),
                hint="give the same options to continue it or another folder with [option:output]",
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def gather_facts(**facts: Any) -> dict[str, Any]:
    """What run.json says from the start: the given facts, command, versions, machine, commit."""
    return {
        **facts,
        "command": ["mst", *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": git_commit(),
        "versions": {
            "mst-deploy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        "machine": {
            "cpu": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def git_commit() -> str | None:
    """The commit of the source tree this runs from, with -dirty if changed; None outside of one."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
