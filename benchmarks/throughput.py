"""Measure the throughput of the pipeline and its parts: ``python -m mst_deploy.benchmarks.throughput``.

For every size: the generator alone, the conversions between the codec's YUV planes and RGB alone, and a whole
job from file to file with the share of the time in which each of its stages worked. A clip of noise and
motion is made first. JSON goes to stdout, with -o to a file too. Published figures need an idle machine.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer
from av.video.reformatter import VideoReformatter

from mst_deploy.backends import StylizeBackend
from mst_deploy.benchmarks.environment import Load, background_load, environment_info
from mst_deploy.cli.console import progress
from mst_deploy.cli.options import BackendOption, DeviceOption, ModelOption, run_alone
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.pipeline.events import FramesDone
from mst_deploy.size import Size
from mst_deploy.styles.plan import constant_plan
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.rgb import SCALING


def make_clip(path: Path, width: int, height: int, frames: int) -> Path:
    """Write an H.264 clip at 25 fps, a drifting gradient under noise: neither trivial nor random to
    encode."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    noise: Any = rng.integers(0, 24, (height, width, 3))
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            base: Any = np.stack([x + 3 * index, y + index, x + y - 2 * index], axis=-1) % 232
            image: Any = (base + np.roll(noise, index, axis=1)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def frames_per_second(generator: StylizeBackend, size: tuple[int, int], count: int, batch: int) -> float:
    """Return the frames per second of the generator alone, after two warm-up calls; ``size`` is (width,
    height)."""
    width, height = size
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
    film_params = np.repeat(generator.manifest.layout.identity()[None], batch, axis=0)
    for _ in range(2):
        generator(frames, film_params)
    calls = -(-count // batch)
    started = time.perf_counter()
    for _ in generator.stream((frames, film_params) for _ in range(calls)):
        pass
    return calls * batch / (time.perf_counter() - started)


def conversion_ms(size: tuple[int, int], count: int) -> dict[str, float]:
    """Return the milliseconds per frame of YUV 4:2:0 to RGB and back, converted as by reader and writer."""
    width, height = size
    rng = np.random.default_rng(0)
    planes: Any = rng.integers(16, 235, (height * 3 // 2, width), np.uint8)
    coded = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    to_rgb, to_yuv = VideoReformatter(), VideoReformatter()
    spent = {"yuv_to_rgb": 0.0, "rgb_to_yuv": 0.0}
    for turn in range(count + 2):
        started = time.perf_counter()
        rgb = to_rgb.reformat(coded, format="rgb24", interpolation=SCALING)
        image: Any = np.ascontiguousarray(rgb.to_ndarray())
        middle = time.perf_counter()
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        to_yuv.reformat(picture, format="yuv420p", interpolation=SCALING)
        if turn >= 2:
            spent["yuv_to_rgb"] += middle - started
            spent["rgb_to_yuv"] += time.perf_counter() - middle
    return {name: round(1000 * seconds / count, 3) for name, seconds in spent.items()}


def measure(
    stylizer: Stylizer, size: tuple[int, int], count: int, options: RenderOptions, clip: Path
) -> dict[str, Any]:
    """Return all figures of one size; ``clip`` has ``count`` frames of it."""
    manifest = stylizer.manifest
    style_plan = constant_plan(manifest.layout.identity(), manifest)
    alone = frames_per_second(stylizer.backend, size, count, options.batch)
    with progress(f"{size[0]}x{size[1]}", count) as on_progress:
        output = clip.with_name(f"out-{clip.name}")
        result = stylizer.file(
            clip,
            output,
            style_plan,
            options,
            on_event=lambda event: on_progress(event.done) if isinstance(event, FramesDone) else None,
        )
    slowest = {stage: share * result.seconds for stage, share in result.stages.items()}
    return {
        "size": f"{size[0]}x{size[1]}",
        "frames": result.frames,
        "batch": options.batch,
        "steady": options.deflicker,
        "generator_fps": round(alone, 3),
        "pipeline_fps": round(result.fps, 3),
        "of_generator": round(result.fps / alone, 4),
        "limit": result.limit,
        "shares": {stage: round(share, 4) for stage, share in result.stages.items()},
        "ms_per_frame": {stage: round(1000 * s / result.frames, 3) for stage, s in slowest.items()},
        "conversion_ms": conversion_ms(size, min(count, 50)),
    }


def main(
    sizes: Annotated[list[str], typer.Option("--size", help="WIDTHxHEIGHT; may be repeated.")],
    frames: Annotated[int, typer.Option(help="Frames of the clip.", min=2)] = 250,
    batch: Annotated[int, typer.Option(help="Frames in one call of the model.", min=1)] = 1,
    codec: Annotated[str, typer.Option(help="Codec of the result.")] = "h264",
    deflicker: Annotated[bool, typer.Option("--deflicker", help="As mst video --deflicker.")] = False,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the JSON here too.")] = None,
) -> None:
    """Measure generator, conversions and the whole pipeline at several sizes."""
    options = RenderOptions(encode=EncodeOptions(codec), batch=batch, deflicker=deflicker)
    started = environment_info()
    with (
        background_load() as load,
        Stylizer(model, backend=backend, device=device) as stylizer,
        tempfile.TemporaryDirectory() as folder,
    ):
        rows = []
        for size in (Size.parse(text).applied(0, 0) for text in sizes):
            clip = make_clip(Path(folder) / f"{size[0]}x{size[1]}.mp4", *size, frames)
            rows.append(measure(stylizer, size, frames, options, clip))
        where = {
            "backend": backend,
            "device": stylizer.device,
            "codec": codec,
            "model": stylizer.manifest.name,
            "precision": stylizer.manifest.precision,
        }
    text = json.dumps({**started, **where, "background_load": _rounded(load), "throughput": rows}, indent=2)
    print(text)
    if output is not None:
        output.write_text(f"{text}\n", encoding="utf-8")


def _rounded(load: Load) -> float | None:
    """Return the share of the machine that other programs used meanwhile, 0..1; None if unknown."""
    return None if load.share is None else round(load.share, 3)


if __name__ == "__main__":
    run_alone(main)
