"""Installed packages and the GPU of this machine, found without importing any of them."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def gpu_name() -> str | None:
    """Return the names that nvidia-smi gives to the first GPU and its driver, or None."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def cuda_device_name() -> str | None:
    """Return the name that the NVIDIA driver gives to the first GPU, or None without a driver or GPU.

    Takes milliseconds, where starting nvidia-smi takes up to a second.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, count, name = ctypes.c_int(0), ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetName(name, len(name), device):
        return "NVIDIA GPU"
    return name.value.decode(errors="replace")


def processor_flags() -> frozenset[str]:
    """Return the instruction sets of the processor by Linux's names; none on other systems, which do not list
    them."""
    return frozenset(_processor_line("flags", "Features").split())


def processor_name() -> str:
    """Return the processor's model as the system names it."""
    return _processor_line("model name", "CPU part") or platform.processor()


def _processor_line(*keys: str) -> str:
    """Return the first value of one of the keys in Linux's list of processors; empty without one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""
