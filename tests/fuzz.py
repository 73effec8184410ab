"""Damaged files, random options and random calls of the Python API: a result, or an error in words.

    python -m tests.fuzz --files 2000 --options 500 --calls 200 --seed 0

Every attempt depends on its kind and number and the seed alone. They run in processes of their own, so that
one that dies or hangs is reported like any other finding. Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image as pillow

import mst_deploy as mst
from mst_deploy.errors import MstError
from mst_deploy.size import Size
from tests.clips import Clip, write_clip
from tests.command_line import mst as command
from tests.mutants import mutated
from tests.pictures import picture

SECONDS = 60
"""For one attempt, on a busy machine."""
CHUNK = 25
"""Attempts in one process."""
KINDS = ("files", "options", "calls")
VIDEOS = {
    ".mp4": "libx264",
    ".mkv": "libx264",
    ".ts": "libx264",
    ".avi": "mpeg4",
    ".webm": "libvpx-vp9",
    ".mov": "mpeg4",
}
PICTURES = (".png", ".jpg", ".webp", ".tiff", ".bmp")
"""With an animated GIF twelve kinds."""
RESULTS = (".mkv", ".mp4", ".mov")
SOUND = (".mp4", ".mkv", ".ts", ".mov")
OPTIONS = (
    ("--strength", "0.3", "0", "1.0", "2", "-1", "nan", ""),
    ("--preserve-color",),
    ("--strokes", "0", "1", "7"),
    ("--stroke-size", "2", "0", "9e9"),
    ("--seed", "3", "-3", "x"),
    ("--size", "64", "32x32", "7", "0", "99999999", "axb"),
    ("--json",),
    ("--quiet",),
    ("--max-pixels", "1000000", "1", "0"),
    ("--force",),
    ("--style", "starry-night", "none", "", "calavera@0.1", "."),
    ("--model", "lite", "nowhere"),
)
VIDEO_OPTIONS = (
    ("--start", "0.1", "9", "-1", "00:00"),
    ("--end", "0.2", "0", "x"),
    ("--audio", "none", "aac", "opus", "copy", "mp9"),
    ("--deflicker",),
    ("--batch", "3", "0", "2.5"),
    ("--sdr",),
    ("--codec", "libx264", "ffv1", "prores", "h266"),
    ("--crf", "20", "99", "-1"),
    ("--fps", "10", "0", "30000/1001"),
    ("--resume",),
)
GOOD_WITH_VIDEO = (
    ("--audio", "aac"),
    ("--audio", "flac"),
    ("--deflicker",),
    ("--batch", "3"),
    ("--start", "0.1"),
    ("--end", "0.2"),
)


class Finding(Exception):
    """What must not happen, in words."""


def make_sources(folder: Path) -> list[Path]:
    """Write one small file of each kind."""
    made = [
        write_clip(folder / f"in{suffix}", Clip(frames=12, codec=codec, audio=int(suffix in SOUND)))
        for suffix, codec in VIDEOS.items()
    ]
    frames = [pillow.fromarray(picture(64, 48, index)) for index in range(6)]
    for suffix in PICTURES:
        made.append(folder / f"in{suffix}")
        frames[0].save(made[-1])
    made.append(folder / "in.gif")
    frames[0].save(made[-1], save_all=True, append_images=frames[1:], duration=100)
    return made


def attempt_file(rng: random.Random, sources: list[Path], folder: Path, common: list[str]) -> str:
    """Damage a file and give it to its command."""
    source = rng.choice(sources)
    damage, data = mutated(source.read_bytes(), rng.randrange(2**32))
    known = OPTIONS[:7] + OPTIONS[8:10] + (() if source.suffix in PICTURES else GOOD_WITH_VIDEO)
    good = [(name, *values[:1]) for name, *values in known]
    chosen = rng.sample(good, rng.randrange(4))
    return run_command(chosen, source.suffix, data, folder, common, damage, rng.choice(RESULTS))


def attempt_options(rng: random.Random, sources: list[Path], folder: Path, common: list[str]) -> str:
    """Give a healthy file to its command, with options of which some have wrong values."""
    source = rng.choice(sources)
    known = OPTIONS + (() if source.suffix in PICTURES else VIDEO_OPTIONS)
    chosen = [
        (name, *([rng.choice(values)] if values else []))
        for name, *values in rng.sample(known, rng.randrange(1, 6))
    ]
    return run_command(chosen, source.suffix, source.read_bytes(), folder, common, "healthy")


def run_command(
    chosen: list[tuple[str, ...]],
    suffix: str,
    data: bytes,
    folder: Path,
    common: list[str],
    damage: str,
    result: str = ".mkv",
) -> str:
    """Return the exit code of a command on a file; ``result`` is the suffix of a video. Raises Finding."""
    video = suffix not in PICTURES
    source, output = folder / f"in{suffix}", folder / (f"out{result}" if video else "out.png")
    source.write_bytes(data)
    words = [word for option in chosen for word in option]
    words += [] if "--style" in words else ["--style", "udnie"]
    words += [] if "--size" in words else ["--size", "64"]
    name = "video" if video else "image"
    done = command(name, source, *words, *common, "-o", output)
    words += ["-o", output.name]
    reported = f"{damage}, mst {name} {source.name} {' '.join(words)}: {done.returncode} {done.stderr}"
    left = {each.name for each in folder.iterdir()} - {source.name, output.name}
    if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
        raise Finding(f"no error in words: {reported}")
    if done.returncode and not done.stderr.strip():
        raise Finding(f"no word: {reported}")
    if left:
        raise Finding(f"left behind: {sorted(left)}, {reported}")
    if output.exists() != (done.returncode == 0):
        raise Finding(f"exit code and result disagree: {reported}")
    if output.exists():
        require_readable(output, reported)
    return str(done.returncode)


def require_readable(output: Path, reported: str) -> None:
    """Raise Finding for a result that another reader cannot read."""
    try:
        if output.suffix == ".png":
            with pillow.open(output) as image:
                image.load()
            return
        with av.open(output) as container:
            if not list(container.decode(video=0)):
                raise Finding(f"a result without frames: {reported}")
    except (OSError, ValueError) as error:
        raise Finding(f"a result that cannot be read, {error}: {reported}") from error


def attempt_call(rng: random.Random, sources: list[Path], folder: Path, stylizer: mst.Stylizer) -> str:
    """Call a function of the Python API with arguments of which some are wrong. Raises Finding."""
    calls: list[Callable[[], Any]] = [
        lambda: stylizer.image(some_array(rng), some_style(rng)),
        lambda: stylizer.style(some_style(rng)),
        lambda: stylizer.plan(some_style(rng)),
        lambda: Size.parse(rng.choice(["64", "64x48", "x", "", "0", "-4", "1e3", "64x", "½"])),
        lambda: read_clip(rng, sources, folder, stylizer),
        lambda: write_frames(rng, sources, folder),
    ]
    index = rng.randrange(len(calls))
    state = rng.getstate()
    try:
        calls[index]()
    except MstError:
        return "refused"
    except Exception as error:
        raise Finding(f"call {index} after {hash(state)}: {type(error).__name__}: {error}") from error
    return "done"


def some_array(rng: random.Random) -> Any:
    """Return a picture, or an array that is none."""
    shape = tuple(rng.choice([0, 1, 3, 4, 8, 33, 64]) for _ in range(rng.randrange(5)))
    shape = (*shape[:2], 3) if rng.random() < 0.5 else shape
    array = np.zeros(shape, rng.choice(["uint8", "uint8", "float32", "int64", "bool", "object"]))
    if rng.random() < 0.3:
        array = array[::-1] if array.ndim else array
    if rng.random() < 0.3:
        array.flags.writeable = False
    return array


def some_style(rng: random.Random) -> Any:
    """Return a style, or what is none."""
    names: list[Any] = [
        "udnie",
        "udnie",
        "none",
        "",
        ".",
        "a\0b",
        "x" * 5000,
        b"udnie",
        None,
        5,
        [],
        Path("udnie"),
    ]
    return rng.choice([*names, some_array(rng)])


def read_clip(rng: random.Random, sources: list[Path], folder: Path, stylizer: mst.Stylizer) -> None:
    source = rng.choice(sources)
    path = folder / f"call{source.suffix}"
    path.write_bytes(mutated(source.read_bytes(), rng.randrange(2**32))[1])
    with mst.open_video(rng.choice([path, source, folder, folder / "missing.mp4"])) as clip:
        how: dict[str, Any] = {
            "size": rng.choice([None, "32", "x", "0"]),
            "batch": rng.choice([1, 1, 3, 0, -1]),
        }
        times: Any = rng.choice([[0], [0.1, 0.2], [], [-1], [99], ["x"], [float("nan")]])
        ways: list[Callable[[], Iterator[mst.Frame]]] = [
            lambda: stylizer.frames(clip, some_style(rng), **how),
            lambda: stylizer.preview(clip, some_style(rng), times, **how),
            lambda: iter(clip),
        ]
        frames = rng.choice(ways)()
        for _ in range(rng.randrange(20)):
            if next(frames, None) is None:
                break


def write_frames(rng: random.Random, sources: list[Path], folder: Path) -> None:
    with mst.open_video(rng.choice(sources[:6])) as clip:
        frames = [frame for _, frame in zip(range(rng.randrange(6)), clip, strict=False)]
        if rng.random() < 0.5:
            frames = [mst.Frame(some_array(rng), index, 1) for index in range(3)]
        mst.write_video(folder / rng.choice(["a.mp4", "a.mkv", "a.xyz", "a", "b/a.mp4"]), frames, clip)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Kill the process where an attempt takes longer, even in a library that hears no exception."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def work(kind: str, numbers: range, seed: int, backend: str) -> None:
    """Make attempts in this process; print one line of JSON before and after each."""
    common = ["--backend", backend]
    with tempfile.TemporaryDirectory() as name, mst.Stylizer("lite", backend=backend) as stylizer:
        made = Path(name, "sources")
        made.mkdir()
        sources = make_sources(made)
        for number in numbers:
            print(json.dumps({"begun": number}), flush=True)
            rng = random.Random(f"{seed} {kind} {number}")
            folder = Path(name, str(number))
            folder.mkdir()
            start, finding, outcome = time.monotonic(), "", ""
            try:
                with limited(SECONDS):
                    if kind == "calls":
                        outcome = attempt_call(rng, sources, folder, stylizer)
                    else:
                        attempt = attempt_file if kind == "files" else attempt_options
                        outcome = attempt(rng, sources, folder, common)
            except Finding as error:
                finding = str(error)
            except Exception as error:  # main lets through what would be a traceback
                finding = f"{type(error).__name__}: {error}"
            result = {"number": number, "outcome": outcome, "finding": finding}
            print(json.dumps({**result, "seconds": time.monotonic() - start}), flush=True)


def fuzz(
    counts: dict[str, int], seed: int, backend: str, reported: Callable[[str], None] = print
) -> list[str]:
    """Make all attempts in processes of their own, print each kind, and return the findings."""
    findings = []
    for kind, count in counts.items():
        outcomes: Counter[str] = Counter()
        slowest = 0.0
        at = 0
        while at < count:
            stop = min(at + CHUNK, count)
            arguments = ["--worker", kind, str(at), str(stop), "--seed", str(seed), "--backend", backend]
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", *arguments], capture_output=True, text=True, check=False
            )
            lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            results = [line for line in lines if "number" in line]
            for line in results:
                outcomes[line["outcome"] or "finding"] += 1
                slowest = max(slowest, line["seconds"])
                if line["finding"]:
                    findings.append(f"{kind} {line['number']}: {line['finding']}")
            at = stop
            if done.returncode:
                at = max((line["begun"] for line in lines if "begun" in line), default=at) + 1
                outcomes["died"] += 1
                findings.append(f"{kind} {at - 1}: exit status {done.returncode}: {done.stderr[-2000:]}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        reported(f"{kind}: {dict(outcomes)}, slowest {slowest:.1f} s, most memory so far {peak:.0f} MiB")
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="onnxrt")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "FIRST", "STOP"))
    given = parser.parse_args()
    if given.worker:
        kind, first, stop = given.worker
        work(kind, range(int(first), int(stop)), given.seed, given.backend)
        return
    findings = fuzz({kind: getattr(given, kind) for kind in KINDS}, given.seed, given.backend)
    for finding in findings:
        print(finding)
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
