"""Tests of ``mst style optimize`` and ``--optimize-style``: the commands' output, cache and errors."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mst_deploy.benchmarks.quality import command as quality_command
from mst_deploy.images import center_crop, load_image, save_image
from mst_deploy.jobs import plan_optimizer
from mst_deploy.model.film import load_style
from mst_deploy.model.zoo import shipped_photographs
from mst_deploy.styles import optimize, tuning_data
from mst_deploy.styles.options import OptimizeOptions
from mst_deploy.video.reader import VideoReader
from tests.clips import Clip, write_clip
from tests.command_line import mst
from tests.conftest import ROOT
from tests.pictures import picture

PAINTING = ROOT / "examples" / "paintings" / "great-wave.jpg"


@dataclass(frozen=True)
class FewSteps(OptimizeOptions):
    """Enough to see that a style was optimized."""

    steps: int = 4


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Few steps, and a part of one shipped photograph."""
    photograph = tmp_path_factory.mktemp("photographs") / "photograph.png"
    save_image(photograph, center_crop(load_image(shipped_photographs()[0]), 128))
    for module in (optimize, tuning_data):
        monkeypatch.setattr(module, "shipped_photographs", lambda: [photograph])
    for module in (plan_optimizer, quality_command):
        monkeypatch.setattr(module, "OptimizeOptions", FewSteps)


@pytest.fixture(
    params=[pytest.param(True, id="shortened"), pytest.param(False, id="in full", marks=pytest.mark.slow)]
)
def shortened(request: pytest.FixtureRequest) -> bool:
    """In full, everything is as people get it."""
    if request.param:
        request.getfixturevalue("few_steps")
    return bool(request.param)


@pytest.mark.usefixtures("shortened")
def test_the_command_writes_a_style_for_the_model(tmp_path: Path, vgg_file: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=6))
    output = tmp_path / "tuned.safetensors"
    made = mst(
        "style",
        "optimize",
        PAINTING,
        "--for",
        clip,
        "--steps",
        1,
        "--frames",
        2,
        "--model",
        "lite",
        "--vgg",
        vgg_file,
        "--device",
        "cpu",
        "-o",
        output,
        "--json",
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["output"] == str(output)
    style = load_style(output)
    assert style.name == "tuned"
    plain = mst("style", "make", PAINTING, "--model", "lite", "-o", tmp_path / "plain.safetensors")
    assert plain.returncode == 0, plain.stderr
    moved = np.abs(style.film - load_style(tmp_path / "plain.safetensors").film)
    assert moved.max() == pytest.approx(OptimizeOptions().rate, rel=0.01)
    for_all = mst(
        "style",
        "optimize",
        PAINTING,
        "--steps",
        1,
        "--model",
        "lite",
        "--vgg",
        vgg_file,
        "--device",
        "cpu",
        "-o",
        tmp_path / "all.safetensors",
    )
    assert for_all.returncode == 0, for_all.stderr
    assert "flicker" in for_all.stdout  # of the photographs' two windows
    painted = mst("video", clip, "--style", output, "--model", "lite", "-o", tmp_path / "painted.mp4", "-q")
    assert painted.returncode == 0, painted.stderr
    twice = mst("style", "optimize", PAINTING, "--for", clip, "-o", output, "--vgg", vgg_file)
    assert twice.returncode == 1
    assert "--force" in twice.stderr
    from_style = mst("style", "optimize", output, "--for", clip)
    assert from_style.returncode == 2
    assert "which holds no picture" in from_style.stderr
    nothing = mst(
        "style",
        "optimize",
        PAINTING,
        "--for",
        tmp_path / "none.mp4",
        "--vgg",
        vgg_file,
        "-o",
        tmp_path / "x.safetensors",
    )
    assert nothing.returncode == 1
    assert "none.mp4" in nothing.stderr
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.usefixtures("few_steps")
def test_models_are_measured_tuned(tmp_path: Path, vgg_file: Path) -> None:
    for folder, seed in (("photos", 1), ("art", 40)):
        (tmp_path / folder).mkdir()
        save_image(tmp_path / folder / "a.png", np.ascontiguousarray(picture(80, 80, seed)))
    sets = [
        "--content",
        tmp_path / "photos",
        "--style",
        tmp_path / "art",
        "--size",
        80,
        "--pairs-per-style",
        1,
    ]
    how = ["--vgg", vgg_file, "--metrics", "style", "--device", "cpu"]
    common = ["eval", "model", "lite", *sets, *how]
    made = mst(*common, "--optimize-style", tmp_path / "rows", "-o", tmp_path / "tuned", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["system"] == "lite, tuned"
    assert len(list((tmp_path / "rows").iterdir())) == 1
    alone = mst(*common, "--optimize-once", "-o", tmp_path / "alone")
    assert alone.returncode == 2
    assert "--optimize-once needs --optimize-style and a folder" in alone.stderr
    weaker = mst(*common, "--optimize-style", tmp_path / "rows", "--strength", 0.7, "-o", tmp_path / "weaker")
    assert weaker.returncode == 0, weaker.stderr
    assert len(list((tmp_path / "rows").iterdir())) == 1


def command_with_cache(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """``mst`` that keeps tuned rows in ``folder``."""
    return mst(*arguments, env={"XDG_CACHE_HOME": str(folder)})


@pytest.mark.slow
def test_videos_are_tuned_on_the_way_as_beforehand(tmp_path: Path, vgg_file: Path, shortened: bool) -> None:
    """``mst video --optimize-style`` paints what ``mst style optimize`` and ``mst video`` paint, and
    waits only once."""
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=3))
    how = ["--model", "lite", "--device", "cpu"]
    beforehand = mst(
        "style",
        "optimize",
        PAINTING,
        "--for",
        clip,
        "--vgg",
        vgg_file,
        *how,
        *(["--steps", FewSteps().steps] if shortened else []),
        "-o",
        tmp_path / "tuned.safetensors",
    )
    assert beforehand.returncode == 0, beforehand.stderr
    for style, output in (("tuned.safetensors", "one.mkv"), (PAINTING, "plain.mkv")):
        done = mst(
            "video", clip, "--style", tmp_path / style, *how, "--codec", "ffv1", "-o", tmp_path / output
        )
        assert done.returncode == 0, done.stderr
    reported = []
    for output in ("two.mkv", "three.mkv"):
        done = command_with_cache(
            tmp_path / "cache",
            "video",
            clip,
            "--style",
            PAINTING,
            "--optimize-style",
            "--vgg",
            vgg_file,
            *how,
            "--codec",
            "ffv1",
            "-o",
            tmp_path / output,
            "--json",
        )
        assert done.returncode == 0, done.stderr
        reported.append(json.loads(done.stdout)["tuned"][str(PAINTING)])
        kept = list((tmp_path / "cache" / "mst" / "tuned").iterdir())
        assert len(kept) == 1
    assert reported[0] == reported[1]  # to the last digit: read, not made again
    one, two, plain = (frames_of(tmp_path / name) for name in ("one.mkv", "two.mkv", "plain.mkv"))
    assert np.abs(one - two).max() <= 1  # threads may add up in another order
    assert np.abs(one - plain).mean() > 1
    np.testing.assert_array_equal(two, frames_of(tmp_path / "three.mkv"))


def frames_of(clip: Path) -> Any:
    """All frames of a video, (N, H, W, 3) float."""
    with VideoReader(clip) as reader:
        return np.stack([frame.image for frame in reader]).astype(float)


@pytest.mark.usefixtures("few_steps")
def test_pictures_are_tuned_one_by_one(tmp_path: Path, vgg_file: Path) -> None:
    names = []
    for seed in (1, 2):
        names.append(tmp_path / f"{seed}.png")
        save_image(names[-1], np.ascontiguousarray(picture(96, 80, seed)))
    (tmp_path / "out").mkdir()
    done = command_with_cache(
        tmp_path / "cache",
        "image",
        *names,
        "--style",
        PAINTING,
        "--optimize-style",
        "--vgg",
        vgg_file,
        "--model",
        "lite",
        "--device",
        "cpu",
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert list(facts["tuned"]) == facts["outputs"]
    first, second = (facts["tuned"][output][str(PAINTING)]["before"] for output in facts["outputs"])
    assert first != second
    assert len(list((tmp_path / "cache" / "mst" / "tuned").iterdir())) == 2


def test_what_cannot_be_optimized_is_reported(tmp_path: Path, vgg_file: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Clip(width=96, height=64, frames=2))
    common = ["--model", "lite", "--device", "cpu", "-o", tmp_path / "x.mp4"]
    for style, more, message in (
        ("udnie", ["--optimize-style"], "needs the picture itself"),
        (PAINTING, ["--vgg", vgg_file], "give both or neither"),
    ):
        done = mst("video", clip, "--style", style, *more, *common)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    piped = mst("video", "-", "--style", PAINTING, "--optimize-style", "--vgg", vgg_file, *common)
    assert piped.returncode == 2
    assert "a pipe can be read only once" in piped.stderr
    assert not (tmp_path / "x.mp4").exists()
