"""Tests of the evaluation: figures order results correctly, an interrupted run continues, whole commands."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mst_deploy.benchmarks.quality import report
from mst_deploy.benchmarks.quality.measure import BASIC, Observer, measure_all, open_nets
from mst_deploy.benchmarks.quality.optimum import optimize
from mst_deploy.benchmarks.quality.options import Weights
from mst_deploy.benchmarks.quality.rows import Row
from mst_deploy.benchmarks.quality.sets import Pair
from mst_deploy.benchmarks.quality.systems import Model
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.images import Image, center_crop, load_image, save_image
from mst_deploy.model.bundle import Bundle
from mst_deploy.perceptual.distances import Distances
from mst_deploy.perceptual.vgg import Vgg19, load_vgg
from mst_deploy.stylizer import Stylizer
from mst_deploy.video.reader import VideoReader
from tests.command_line import mst
from tests.conftest import ROOT
from tests.perceptual.test_vgg import REAL
from tests.pictures import picture
from tests.training.test_real_weights import INCEPTION

CPU = torch.device("cpu")
SCALES = REAL.with_name("vgg19_normalisation_scales.safetensors")


@pytest.fixture(scope="module")
def random_vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    torch.manual_seed(0)
    save_file(Vgg19().state_dict(), path)
    return path


def first_frame() -> Image:
    with VideoReader(ROOT / "examples" / "bunny.mp4") as reader:
        return next(iter(reader)).image


def pairs_in(folder: Path, count: int = 3) -> list[Pair]:
    for role, offset in (("content", 0), ("style", 30), ("stylized", 60)):
        (folder / role).mkdir()
        for index in range(count):
            save_image(folder / role / f"{index}.png", picture(80, 80, offset + 7 * index))
    content, style, stylized = (folder / role for role in ("content", "style", "stylized"))
    names = [f"{index}.png" for index in range(count)]
    return [Pair(content / n, style / n, stylized / n, f"g{i % 2}") for i, n in enumerate(names)]


@pytest.mark.skipif(not REAL.exists(), reason="no pretrained weights beside the checkout")
def test_figures_order_results_as_they_should(bundle: Bundle, tmp_path: Path) -> None:
    """Photograph and artwork as results are the extremes; blur and another artwork's style are worse."""
    examples = ROOT / "examples"
    art, other = (
        center_crop(load_image(examples / "paintings" / name), 160)
        for name in ("starry-night.jpg", "zodiac.jpg")
    )
    photo = center_crop(first_frame(), 160)
    with Stylizer(bundle.path) as stylizer:
        model = Model(stylizer)
        result, wrong = model(photo, art), model(photo, other)
    candidates = {
        "photo": photo,
        "art": art,
        "result": result,
        "wrong": wrong,
        "blurred": cv2.GaussianBlur(result, (0, 0), 3),
    }
    pairs = []
    save_image(tmp_path / "photo.png", photo)
    save_image(tmp_path / "art.png", art)
    for name, image in candidates.items():
        save_image(tmp_path / f"r-{name}.png", np.asarray(image, np.uint8))
        pairs.append(Pair(tmp_path / "photo.png", tmp_path / "art.png", tmp_path / f"r-{name}.png"))
    nets = open_nets(Weights(REAL, SCALES), lpips=False, device=CPU)
    rows = measure_all(pairs, Observer(nets, BASIC, CPU), None, lambda done: None)
    of = dict(zip(candidates, rows, strict=True))

    def ranked(metric: str) -> list[str]:
        return sorted(candidates, key=lambda name: of[name].values[metric])

    assert of["photo"].values["content"] == of["art"].values["style"] == 0
    assert of["photo"].values["cfsd"] == pytest.approx(0, abs=1e-3)
    assert of["photo"].values["ssim"] == pytest.approx(1)
    assert of["photo"].values["style"] == pytest.approx(of["art"].photo_style)
    assert ranked("style")[:2] == ["art", "result"]
    assert ranked("content")[0] == ranked("cfsd")[0] == ranked("ssim")[-1] == "photo"
    assert ranked("content")[-1] == "art"
    assert of["art"].values["cfsd"] > of["result"].values["cfsd"]
    assert of["art"].values["palette"] == of["art"].values["strokes"] == 0
    assert of["result"].values["palette"] < of["photo"].values["palette"]
    assert of["photo"].values["fringes"] == pytest.approx(0, abs=1e-2)
    assert of["photo"].values["uneven"] < of["art"].values["uneven"]
    assert of["blurred"].values["strokes"] > of["result"].values["strokes"]
    content, style, photo_style = Distances(load_vgg(REAL, SCALES))(photo, art, result)
    assert of["result"].values["style"] == pytest.approx(style, rel=1e-4)
    assert of["result"].values["content"] == pytest.approx(content, rel=1e-4)
    assert of["result"].photo_style == pytest.approx(photo_style, rel=1e-4)


def test_stopped_run_goes_on(random_vgg: Path, tmp_path: Path) -> None:
    """After a stop in the middle of a line; nothing is measured twice; batches change nothing."""
    pairs = pairs_in(tmp_path)
    fid = INCEPTION if INCEPTION.exists() else None
    nets = open_nets(Weights(random_vgg, inception=fid), lpips=False, device=CPU)
    log = tmp_path / "rows.jsonl"
    whole = measure_all(pairs, Observer(nets, BASIC, CPU), log, lambda done: None)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:3]) + lines[3][:50])

    class Counting(Observer):
        measured = 0

        def rows(self, pairs: Any) -> list[Row]:
            self.measured += len(pairs)
            return super().rows(pairs)

    observer = Counting(nets, BASIC, CPU)
    again = measure_all(pairs, observer, log, lambda done: None)
    assert observer.measured == 1
    together = measure_all(pairs, Observer(nets, BASIC, CPU), None, lambda done: None, batch=3)
    for row, same, batched in zip(whole, again, together, strict=True):
        assert row.values == pytest.approx(same.values, rel=0, abs=0, nan_ok=True)
        assert row.values == pytest.approx(batched.values, rel=1e-3, abs=1e-4, nan_ok=True)
        assert row.photo_uneven32 == same.photo_uneven32
        for name, features in row.features.items():
            np.testing.assert_array_equal(features, same.features[name])
    assert report.summarize(whole) == report.summarize(again)
    with pytest.raises(InputError, match="other networks or metrics"):
        measure_all(pairs, Observer(nets, ["ssim"], CPU), log, lambda done: None)
    with pytest.raises(InvalidArgument, match="unknown metric 'fast'"):
        Observer(nets, ["fast"], CPU)


def rows_of(count: int, shift: float = 0.0) -> list[Row]:
    rng = np.random.default_rng(0)
    features = {"fid768": rng.normal(0, 1, (count, 8)), "fid": rng.normal(0, 1, (count, 8))}
    return [
        Row(
            f"{n}",
            f"{n}",
            f"{n}",
            "",
            (64, 64),
            {"style": 1.0, "content": 0.5, "lpips": 0.5},
            2.0,
            {name: values[n] for name, values in features.items()}
            | {f"{name}_style": values[n] + shift for name, values in features.items()},
        )
        for n in range(count)
    ]


def test_figures_of_whole_sets() -> None:
    """Features shifted by 1 in 8 dimensions: distance 8, ArtFID 1.5 * 9."""
    found = report.summarize(rows_of(60, shift=1.0))["whole_set"]
    assert found == pytest.approx({"fid768": 8, "fid": 8, "artfid": 13.5})


def with_values(row: Row, **values: float) -> Row:
    return replace(row, values={**row.values, **values}, group="a" if values["painted"] > 0.5 else "b")


def test_figures_that_not_every_pair_has() -> None:
    """Means and groups are of the pairs that have it; what none has is not there; nothing becomes NaN."""
    nan = math.nan
    figures = [(0.8, 1, 1), (nan, 2, 2), (0.6, 3, 3), (nan, 10, 6)]
    rows = [
        with_values(row, painted=share, overpainted=nan, inception=distance, uneven32=uneven)
        for row, (share, distance, uneven) in zip(rows_of(4), figures, strict=True)
    ]
    rows = [replace(row, photo_uneven32=2.0) for row in rows]
    summary = report.summarize(rows)
    assert summary["means"]["painted"]["mean"] == pytest.approx(0.7)
    assert summary["means"]["painted"]["pairs"] == 2
    assert "pairs" not in summary["means"]["inception"]
    assert "overpainted" not in summary["means"]
    assert summary["groups"]["a"]["painted"] == pytest.approx(0.7)
    assert "painted" not in summary["groups"]["b"]
    assert summary["whole_set"]["inception_median"] == 2.5
    assert summary["whole_set"]["uneven32_ratio"] == pytest.approx(12 / 8)
    facts = {"system": "s", "summary": summary, "missing": [], "command": "", "nets": {}}
    text = report.markdown(facts)
    assert "(2 pairs) | higher |" in text
    assert "nan" not in text.lower()
    json.loads(json.dumps(summary, allow_nan=False))
    assert "| s | 0.7 | 2.5 |" in report.table(
        [{**facts, "summary": {**summary, "set": "1"}}], ["painted", "inception_median"]
    )


def test_inception_needs_its_weights(random_vgg: Path) -> None:
    nets = open_nets(Weights(random_vgg), lpips=False, device=CPU)
    with pytest.raises(InvalidArgument, match="give it with inception FILE"):
        Observer(nets, ["inception"], CPU)


@pytest.mark.skipif(not INCEPTION.exists(), reason="the real Inception is not here")
def test_style_by_inception_is_of_the_artwork_as_people_see_it(random_vgg: Path, tmp_path: Path) -> None:
    """At 512 pixels it is nothing for the artwork itself, whatever crop the system was shown."""
    art = load_image(ROOT / "examples" / "paintings" / "starry-night.jpg")
    for name, image in (
        ("seen", center_crop(art, 512)),
        ("style", center_crop(art, 96)),
        ("photo", np.full((512, 512, 3), 120, np.uint8)),
    ):
        save_image(tmp_path / f"{name}.png", image)
    photo, style, seen = (tmp_path / f"{name}.png" for name in ("photo", "style", "seen"))
    nets = open_nets(Weights(random_vgg, inception=INCEPTION), lpips=False, device=CPU)
    observer = Observer(nets, ["inception", "painted", "uneven32"], CPU)
    itself, gray = observer.rows([Pair(photo, style, seen, "", seen), Pair(photo, style, photo, "", seen)])
    assert itself.values["inception"] == pytest.approx(0, abs=1e-6)
    assert gray.values["inception"] == pytest.approx(1, abs=0.1)  # nothing of it found
    assert itself.values["painted"] > 0.99
    assert gray.values["painted"] == 0
    assert itself.values["uneven32"] > gray.values["uneven32"] == gray.photo_uneven32 == 0


def test_sets_too_small_for_a_mode() -> None:
    assert "fid768" not in report.summarize(rows_of(49))["whole_set"]
    with pytest.raises(InputError, match="art_fid_inf needs 5000 pairs at least, found 60"):
        report.summarize(rows_of(60), "art_fid_inf")
    rows = rows_of(60)
    rows[3] = Row(**{**vars(rows[3]), "size": (64, 48)})
    with pytest.raises(InputError, match="all pictures of a set must have one size"):
        report.summarize(rows)


def test_reports_of_other_networks_are_not_compared() -> None:
    summary = {**report.summarize(rows_of(60)), "set": "1"}
    one = {"system": "a", "nets": {"vgg": "1"}, "summary": summary}
    assert "| a | 1 | 0.5 |" in report.table([one, one], ["style", "content"])
    with pytest.raises(InputError, match="b and a cannot be compared"):
        report.table([one, {**one, "system": "b", "nets": {"vgg": "2"}}], ["style"])
    with pytest.raises(InputError, match="b and a cannot be compared"):
        report.table([one, {**one, "system": "b", "summary": {**summary, "set": "2"}}], ["style"])


def test_optimization_gets_nearer_than_its_start(random_vgg: Path) -> None:
    vgg = load_vgg(random_vgg)
    photo, art = picture(64, 64, 3), np.ascontiguousarray(picture(64, 64, 40)[:, ::-1, ::-1])
    result = optimize(photo, art, vgg, style_weight=10.0, steps=25, device=CPU)
    content, style, before = Distances(vgg)(photo, art, result)
    assert content + 10 * style < 0.5 * 10 * before


def test_model_then_images_then_compare(random_vgg: Path, tmp_path: Path) -> None:
    """What mst eval model leaves behind, mst eval images measures alike; reports can be compared."""
    photos, paintings = tmp_path / "photos", tmp_path / "paintings"
    photos.mkdir()
    save_image(photos / "bunny.png", first_frame())
    save_image(photos / "mirrored.png", np.ascontiguousarray(first_frame()[:, ::-1]))
    (paintings / "post-impressionism").mkdir(parents=True)
    for name in ("starry-night.jpg", "zodiac.jpg"):
        shutil.copy(ROOT / "examples" / "paintings" / name, paintings / "post-impressionism")
    common = ["--vgg", str(random_vgg), "--device", "cpu", "--json"]
    made = mst(
        "eval",
        "model",
        "--content",
        str(photos),
        "--style",
        str(paintings),
        "--size",
        "96",
        "--pairs-per-style",
        "2",
        "-o",
        str(tmp_path / "model"),
        *common,
    )
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    folder = tmp_path / "model"
    assert found["summary"]["sizes"] == ["96x96"]
    assert found["summary"]["pairs"] == len(list((folder / "stylized").iterdir())) == 4
    assert found["summary"]["groups"]["post-impressionism"]["pairs"] == 4
    for name in ("report.md", "report.html", "rows.csv", "pairs.png", "pairs.svg", "pairs.csv"):
        assert (folder / name).stat().st_size > 0
    assert any("art_inception" in note for note in found["missing"])
    with (folder / "rows.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["style_file"] for row in listed} == {path.name for path in (folder / "style").iterdir()}
    mean = sum(float(row["style"]) for row in listed) / len(listed)
    assert mean == pytest.approx(found["summary"]["means"]["style"]["mean"], rel=1e-4)
    measured = mst(
        "eval",
        "images",
        *(word for role in ("content", "style", "stylized") for word in (f"--{role}", str(folder / role))),
        "--pairs",
        str(folder / "pairs.csv"),
        "-o",
        str(tmp_path / "images"),
        *common,
    )
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["summary"] == found["summary"]
    table = mst("eval", "compare", str(folder), str(tmp_path / "images"))
    assert table.returncode == 0, table.stderr
    assert "| stylized |" in table.stdout
    other = mst(
        "eval",
        "identity",
        "--content",
        str(photos),
        "--style",
        str(paintings),
        "--size",
        "96",
        "--pairs-per-style",
        "2",
        "-o",
        str(folder),
        *common,
    )
    assert other.returncode == 1
    assert "another run" in other.stderr
    assert "Traceback" not in other.stderr
    (tmp_path / "foreign.json").write_text("[1]")
    external = mst("eval", "compare", str(tmp_path / "foreign.json"))
    assert (external.returncode, "not a report of mst eval" in external.stderr) == (1, True)
    early = mst(
        "eval",
        "images",
        *(word for role in ("content", "style", "stylized") for word in (f"--{role}", str(folder / role))),
        "--pairs",
        str(folder / "pairs.csv"),
        "-o",
        str(tmp_path / "early"),
        "--artfid-mode",
        "art_fid_inf",
        *common,
    )
    assert "needs 5000 pairs at least, found 4" in early.stderr
    assert not (tmp_path / "early").exists()  # refused before anything is measured
