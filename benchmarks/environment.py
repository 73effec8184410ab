"""Description of the machine and the software that figures were measured with, and the load meanwhile."""

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
    """Return processor, threads, GPU with its clocks, package versions, commit, command line and time
    (UTC)."""
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
    """Return the command line in a form that can be repeated: ``mst ...``, or ``python -m MODULE ...``.

    Files outside the working directory are reduced to their names, which keeps private paths out of reports.
    """
    words = [_shortened(word) for word in started[1:]]
    if "-m" in words:
        module, *others = words[words.index("-m") + 1 :]
        return ["mst", *others] if module == "mst_deploy" else ["python", "-m", module, *others]
    return [Path(words[0]).name, *words[1:]] if words else []


def _shortened(word: str) -> str:
    """Map ``/x/a.mp4`` to ``a.mp4`` and ``name=../x/a`` to ``name=a``; return everything else unchanged."""
    before, mark, path = word.rpartition("=")
    outside = path.startswith(("/", "..", "~"))
    return f"{before}{mark}{Path(path).name}" if outside else word


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model name of the processor."""
    return _cpuinfo(cpuinfo).get("model name") or platform.processor() or platform.machine()


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the available instruction sets that determine how fast networks run."""
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
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> float | None:
    """Return the main memory in GiB, or None where the system does not report it."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def gpu() -> dict[str, str] | None:
    """Return the first GPU with driver, clocks and power state as reported by nvidia-smi, or None."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    line = _output([program, f"--query-gpu={','.join(GPU)}", "--format=csv,noheader"])
    values = [value.strip() for value in line.partition("\n")[0].split(",")]
    return dict(zip(GPU, values, strict=True)) if len(values) == len(GPU) else None


def device_memory() -> int | None:
    """Return the GPU memory of this process in MiB, or None without a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    lines = _output([program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"])
    held = [line.split(",") for line in lines.splitlines() if line.startswith(f"{os.getpid()},")]
    return sum(int(words[1]) for words in held) if held else None


def commit() -> str | None:
    """Return the commit of this source tree, with -dirty if it was changed; None for an installed copy."""
    folder = Path(__file__).resolve().parent
    tracked = _output(["git", "-C", str(folder), "ls-files", Path(__file__).name])
    if not tracked:
        return None
    return _output(
        ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    )


@dataclass
class Load:
    """Share of all processors used by other programs, 0..1; set when the measured block ends, None if
    unknown."""

    share: float | None = None


@contextmanager
def background_load() -> Iterator[Load]:
    """Measure the load of other programs during the block; unknown (None) outside Linux."""
    found, before = Load(), _busy()
    own, began = _own(), time.monotonic()
    yield found
    after = _busy()
    if before is not None and after is not None:
        available = (time.monotonic() - began) * (os.cpu_count() or 1)
        share = ((after - before) - (_own() - own)) / max(available, 1e-9)
        found.share = min(1.0, max(0.0, share))  # the system counts in hundredths of a second


def refuse_busy_machine(limit: float, seconds: float = 2.0) -> None:
    """Raise NoisyMachine if other programs use more than the share ``limit`` of the machine right now.

    Called before a measurement of minutes, which would end with the same error.
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
    """Return the peak resident memory of this process since its start, in MiB."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _busy() -> float | None:
    """Return the seconds that all processors together have worked since the system started; None if
    unknown."""
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
    """Return the fields of the first processor."""
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
