"""What figures were made with: their birth certificate. And what else the machine was doing meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mst_deploy import __version__
from mst_deploy.environment import version
from mst_deploy.errors import NoisyMachine

PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "torch",
    "tensorrt",
    "opencv-python-headless",
    "opencv-python",
    "ai-edge-litert",
    "av",
)
GPU = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "pstate",
    "power.limit",
    "temperature.gpu",
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
STATUS, STAT = Path("/proc/self/status"), Path("/proc/stat")


def environment_info() -> dict[str, Any]:
    """Processor, threads, GPU with its clocks, versions, commit, command and time."""
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(),
        "commit": commit(),
        "machine": {
            "platform": platform.platform(),
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "instructions": instructions(),
            "memory_gib": memory(),
            "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
            "gpu": gpu(),
        },
        "versions": {
            "mst-deploy": __version__,
            "python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := version(name))},
        },
    }


def command(started: Sequence[str] = tuple(sys.orig_argv)) -> list[str]:
    """What was typed, so that it can be typed again: ``mst ...``, or ``python -m MODULE ...``.

    Of files outside the working directory only the name: where they lay is nobody's business.
    """
    words = [_shortened(word) for word in started[1:]]
    if "-m" in words:
        module, *others = words[words.index("-m") + 1 :]
        return ["mst", *others] if module == "mst_deploy" else ["python", "-m", module, *others]
    return [Path(words[0]).name, *words[1:]] if words else []


def _shortened(word: str) -> str:
    """``/x/a.mp4`` -> ``a.mp4``, ``name=../x/a`` -> ``name=a``; everything else as it is."""
    before, mark, path = word.rpartition("=")
    background_style = path.startswith(("/", "..", "~"))
    return f"{before}{mark}{Path(path).name}" if background_style else word


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself."""
    return _cpuinfo(cpuinfo).get("model name") or platform.processor() or platform.machine()


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Of the instruction sets that decide how fast networks run, those that are there."""
    matter = (
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_bf16",
        "amx_int8",
        "asimd",
        "bf16",
        "i8mm",
    )
    there = _cpuinfo(cpuinfo)
    flags = f"{there.get('flags', '')} {there.get('Features', '')}".split()
    return [name for name in matter if name in flags]


def usable_cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> float | None:
    """Main memory, GiB, where the system tells."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def gpu() -> dict[str, str] | None:
    """The first GPU with driver, clocks and power state as nvidia-smi tells them, or None."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    line = _output([program, f"--query-gpu={','.join(GPU)}", "--format=csv,noheader"])
    values = [value.strip() for value in line.partition("\n")[0].split(",")]
    return dict(zip(GPU, values, strict=True)) if len(values) == len(GPU) else None


def device_memory() -> int | None:
    """MiB of GPU memory held by this process, or None without a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    lines = _output([program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"])
    held = [line.split(",") for line in lines.splitlines() if line.startswith(f"{os.getpid()},")]
    return sum(int(words[1]) for words in held) if held else None


def commit() -> str | None:
    """Of the source tree this runs from, with -dirty when it was changed; None for an installed copy."""
    folder = Path(__file__).resolve().parent
    tracked = _output(["git", "-C", str(folder), "ls-files", "machine.py"])
    if not tracked:
        return None
    return _output(
        ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    )


@dataclass
class Load:
    """The share of the machine that other programs used, once the block it was measured over is left."""

    share: float | None = None


@contextmanager
def background_load() -> Iterator[Load]:
    """Watch what other programs use of all processors meanwhile; unknown (None) outside Linux."""
    found, before = Load(), _busy()
    own, began = _own(), time.monotonic()
    yield found
    after = _busy()
    if before is not None and after is not None:
        available = (time.monotonic() - began) * (os.cpu_count() or 1)
        share = ((after - before) - (_own() - own)) / max(available, 1e-9)
        found.share = min(1.0, max(0.0, share))  # the system counts in hundredths of a second


def refuse_busy_machine(limit: float, seconds: float = 2.0) -> None:
    """Raises NoisyMachine if other programs use more than ``limit`` of the machine right now.

    Asked before a measurement of minutes, whose end would say the same.
    """
    if limit >= 1:
        return
    with background_load() as load:
        time.sleep(seconds)
    if load.share is not None and load.share > limit:
        raise NoisyMachine(
            f"other programs use {load.share:.0%} of the machine (limit {limit:.0%}); close them and measure "
            "again, or accept wider figures with [option:max_load], which is then written beside them"
        )


def peak_memory() -> float:
    """The most memory this process has held, MiB: since its start."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _busy() -> float | None:
    """Seconds that all processors together have worked, since the system started."""
    try:
        words = STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, words)
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpuinfo(path: Path) -> dict[str, str]:
    """Of the first processor."""
    try:
        lines = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
