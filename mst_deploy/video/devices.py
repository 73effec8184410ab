"""Cameras and screens of this machine, by number or by name, as FFmpeg's input devices."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from mst_deploy.errors import InputError

SYSTEM: str = sys.platform


@dataclass(frozen=True)
class Device:
    """A camera or a screen of this machine."""

    kind: str
    """``camera``, ``screen``, or ``virtual-camera``: one to which pictures can be sent."""
    address: str
    """Address in FFmpeg's syntax."""
    name: str


DRIVERS = {
    "linux": ("v4l2", "x11grab"),
    "darwin": ("avfoundation", "avfoundation"),
    "win32": ("dshow", "gdigrab"),
}
"""FFmpeg's names of the input devices for cameras and screens, by system."""


def devices(root: Path = Path("/sys/class/video4linux")) -> list[Device]:
    """List the cameras and screens of this machine, and on Linux its virtual cameras."""
    found: list[Device] = []
    if SYSTEM == "linux":
        for entry in sorted(root.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
            with suppress(OSError):
                name = (entry / "name").read_text("utf-8").strip()
                found.append(Device("camera", f"/dev/{entry.name}", name))
                if "virtual" in entry.resolve().parts:  # of v4l2loopback, which has no hardware
                    found.append(Device("virtual-camera", f"/dev/{entry.name}", name))
        if display := os.environ.get("DISPLAY"):
            found.append(Device("screen", display, f"display {display}"))
        return found
    camera, _ = DRIVERS.get(SYSTEM, ("", ""))
    with suppress(ValueError, OSError, AttributeError):
        for each in av.enumerate_input_devices(camera):
            if "video" in each.media_types or not each.media_types:
                kind = "screen" if "screen" in each.description.lower() else "camera"
                found.append(Device(kind, each.name, each.description))
    if SYSTEM == "win32":
        found.append(Device("screen", "desktop", "desktop"))
    return found


def device_address(name: str) -> tuple[str, dict[str, Any]]:
    """Return FFmpeg's address and options for ``camera[:N|:NAME]`` or ``screen[:N]``. Raises InputError."""
    kind, _, wanted = name.partition(":")
    known = [device for device in devices() if device.kind == kind]
    if SYSTEM not in DRIVERS:
        raise InputError(f"cannot open {name}: cameras and screens of {SYSTEM} are not supported")
    driver = DRIVERS[SYSTEM][kind == "screen"]
    chosen: Device | None = None
    if (wanted.isascii() and wanted.isdigit()) or not wanted:
        number = int(wanted or 0)
        chosen = known[number] if number < len(known) else None
    else:
        matches = [device for device in known if device.name == wanted] or [
            device for device in known if wanted.lower() in device.name.lower()
        ]
        chosen = matches[0] if matches else None
    if chosen is None:
        if not known:
            raise InputError(f"cannot open {name}: no {kind} was found on this machine")
        there = ", ".join(f"{number} {device.name!r}" for number, device in enumerate(known))
        raise InputError(f"no {kind} called {wanted or 0!r}; there are: {there}")
    try:
        av.ContainerFormat(driver, "r")
    except ValueError as error:
        raise InputError(f"cannot open {name}: this build of PyAV has no {driver}") from error
    address = f"video={chosen.name}" if driver == "dshow" else chosen.address
    return address, {"format": driver, "options": {"framerate": "30"} if kind == "screen" else {}}
