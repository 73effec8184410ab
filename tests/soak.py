"""One long job of ``mst video``: memory, threads and open files while it runs (Linux).

    python -m tests.soak --hours 2

The clip is a few seconds of a synthetic one, repeated. Prints a line of JSON for each sample, and at the end
the slopes of least squares after the first minute, for each hour of work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.pictures import picture

RATE, LOOP = 25, 250
"""Frames per second, and frames until the clip repeats."""
WARMUP = 60.0
"""Seconds that are left out of the slopes."""


def write_loop(path: Path, frames: int) -> None:
    """Write a clip of 64x48 pixels with that many frames, by repeating packets of one loop."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(LOOP)}
        packets = []
        for index in range(LOOP):
            frame = av.VideoFrame.from_ndarray(picture(64, 48, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        data = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for index in range(frames):
            copy = av.Packet(data[index % LOOP][0])
            copy.stream, copy.time_base = stream, Fraction(1, RATE)
            copy.pts = copy.dts = index
            copy.duration, copy.is_keyframe = 1, data[index % LOOP][1]
            container.mux(copy)


def sample(process: int) -> dict[str, int]:
    """Return resident memory in KiB, threads and open files of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "files": len(list(Path(f"/proc/{process}/fd").iterdir())),
    }


def slopes(samples: list[dict[str, float]]) -> dict[str, float]:
    """Return the slope of each figure per hour, after the warm-up."""
    late = [each for each in samples if each["seconds"] >= WARMUP]
    if len(late) < 2:
        return {}
    hours = [each["seconds"] / 3600 for each in late]
    return {
        name: float(np.polyfit(hours, [each[name] for each in late], 1)[0])
        for name in ("memory", "threads", "files")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0, help="length of the clip")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("options", nargs="*", help="further options of mst video, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        write_loop(clip, round(given.hours * 3600 * RATE))
        words = [
            "video",
            clip,
            "--style",
            "udnie",
            "--model",
            "lite",
            "-o",
            Path(folder, "out.mp4"),
            "--quiet",
        ]
        begun, samples = time.monotonic(), list[dict[str, float]]()
        with subprocess.Popen([sys.executable, "-m", "mst_deploy", *map(str, words), *given.options]) as job:
            while job.poll() is None:
                time.sleep(given.every)
                try:
                    found = {"seconds": time.monotonic() - begun, **sample(job.pid)}
                except (OSError, KeyError):  # it has just ended
                    break
                samples.append(found)
                print(json.dumps(found), flush=True)
    print(json.dumps({"exit": job.returncode, "samples": len(samples), "per hour": slopes(samples)}))
    sys.exit(job.returncode)


if __name__ == "__main__":
    main()
