"""Does a long clip need more memory than a short one: ``python -m mst_deploy.benchmarks.memory``.

Clips of tiny frames go through whole jobs in processes of their own, with the fake model: what grows
could only be the video path. Peak resident memory of each goes to stdout as JSON, and to a file with -o.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer

from mst_deploy.benchmarks.environment import environment_info, peak_memory
from mst_deploy.styles.plan import constant_plan
from mst_deploy.stylizer import Stylizer


def make_clip(path: Path, seconds: float, size: tuple[int, int], rate: int) -> Path:
    """Moving bars and a tone, written without keeping anything."""
    width, height = size
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        sound: Any = container.add_stream("aac", rate=8000)
        sound.layout = "mono"
        bars = np.arange(width) * 8 % 256
        tone = np.sin(np.arange(8000 // rate) * 2 * np.pi * 500 / 8000, dtype=np.float32)[None]
        for index in range(round(seconds * rate)):
            row = np.roll(bars, index).astype(np.uint8)
            image = np.broadcast_to(row[None, :, None], (height, width, 3))
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture))
            block = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            block.sample_rate, block.pts = 8000, index * tone.shape[1]
            container.mux(sound.encode(block))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


def one_job(source: Path, output: Path) -> dict[str, Any]:
    """Run a job here -> frames, seconds, peak resident memory in MiB."""
    started = time.perf_counter()
    with Stylizer(backend="fake") as stylizer:
        plan = constant_plan(stylizer.manifest.layout.identity(), stylizer.manifest)
        result = stylizer.file(source, output, plan)
    return {
        "frames": result.frames,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mib": round(peak_memory(), 1),  # of this program alone: getrusage would count its parent too
    }


def main(
    minutes: Annotated[list[float], typer.Option("--minutes", help="Length of a clip; may be repeated.")],
    width: Annotated[int, typer.Option(min=8)] = 64,
    height: Annotated[int, typer.Option(min=8)] = 48,
    rate: Annotated[int, typer.Option(min=1, help="Frames a second.")] = 25,
    suffix: Annotated[str, typer.Option(help="Kind of file that is read and written.")] = ".mp4",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the JSON here too.")] = None,
) -> None:
    """Measure the peak memory of jobs of several lengths."""
    rows, started = [], environment_info()
    with tempfile.TemporaryDirectory() as folder:
        for length in minutes:
            clip = make_clip(Path(folder) / f"{length:g}{suffix}", 60 * length, (width, height), rate)
            code = (
                f"from {__spec__.name} import one_job; import json, pathlib, sys; "
                "print(json.dumps(one_job(*map(pathlib.Path, sys.argv[1:]))))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, clip, clip.with_name(f"out-{clip.name}")],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows.append(
                {"minutes": length, "size": f"{width}x{height}", "suffix": suffix, **json.loads(done.stdout)}
            )
    text = json.dumps({**started, "memory": rows}, indent=2)
    print(text)
    if output is not None:
        output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
