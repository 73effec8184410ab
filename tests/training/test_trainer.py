"""Tests of the trainer on toy data: it learns, resumes exactly, and stops on non-finite losses."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mst_deploy.errors import InvalidArgument
from mst_deploy.model.checkpoints import new_networks
from mst_deploy.model.film import at_strength
from mst_deploy.model.injections import INJECTIONS
from mst_deploy.perceptual.distances import gram, style_distance
from mst_deploy.training.command import with_canvas
from mst_deploy.training.config import PAPER, Stage, TrainConfig
from mst_deploy.training.loop import Trainer
from mst_deploy.training.reports import NonFiniteLoss, Report
from mst_deploy.training.running import make_fabric
from mst_deploy.training.samples import View, style_crops
from mst_deploy.training.style_network import stack, to_tensor
from tests.training.toys import CONFIG, batch_of, make_trainer, with_injection


def advance(trainer: Trainer, steps: int) -> list[float]:
    """Some steps of the run; gives the losses."""
    source = trainer.batches()
    return [trainer.update(*next(source))["total"].item() for _ in range(steps)]


def test_the_loss_goes_down() -> None:
    trainer = make_trainer(replace(CONFIG, steps=60))
    trainer.initialize_encoder()
    losses = advance(trainer, 40)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


@pytest.mark.parametrize("workers", [0, 2])
def test_continued_run_equals_uninterrupted_run(workers: int) -> None:
    config = replace(CONFIG, temporal_weight=1.0)
    whole, first = make_trainer(config, workers=workers), make_trainer(config, workers=workers)
    whole.initialize_encoder()
    first.initialize_encoder()
    advance(whole, 6)
    advance(first, 3)
    second = make_trainer(config)  # without workers: their number must not matter
    second.load_state(first.state())
    advance(second, 3)
    assert (second.step, second.seen) == (whole.step, whole.seen) == (6, 12)
    for name, value in whole.trained.items():
        torch.testing.assert_close(second.trained[name], value, rtol=0, atol=0)
        torch.testing.assert_close(second.average[name], whole.average[name], rtol=0, atol=0)


def test_kept_targets_are_those_of_the_view() -> None:
    """Bitwise, in any order, and with those of another view where the style is the photograph itself."""
    trainer = make_trainer()
    trainer.initialize_encoder()
    views = list(trainer.targets.kept)
    assert len(views) == 3 * CONFIG.style_views
    chosen = [views[4], None, views[0], views[4]]
    found = trainer.targets.of(chosen, {}, trainer.device)
    assert found is not None
    for row, view in enumerate(chosen):
        if view is None:
            continue
        fresh = trainer.targets.make_all(
            stack([style_crops(CONFIG, trainer.styles, view, set())]), trainer.device
        )
        for name, value in fresh.tensors().items():
            torch.testing.assert_close(found.tensors()[name][row], value[0], rtol=0, atol=0)


@pytest.mark.parametrize("injection", ["film", "patch"])
def test_targets_that_are_not_kept_are_made_together(injection: str) -> None:
    """The same as one by one, in a batch whose shape does not change."""
    trainer = make_trainer(replace(with_injection(injection), style_views=1_000_000))
    assert trainer.targets.known is None
    views = [View(0, 3), None, View(2, 70_000), View(0, 3)]
    crops = {
        view: torch.from_numpy(style_crops(CONFIG, trainer.styles, view, set()))
        for view in views
        if view is not None
    }
    seen: list[int] = []
    trainer.vgg.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    found = trainer.targets.of(views, crops, trainer.device)
    assert seen == [4]
    assert found is not None
    for row, view in enumerate(views):
        if view is None:
            continue
        alone = trainer.targets.make_all(crops[view][None], trainer.device).tensors()
        assert found.tensors().keys() == alone.keys()
        for name, value in alone.items():
            tolerance = 2e-3 if value.dtype == torch.float16 else 1e-4
            torch.testing.assert_close(found.tensors()[name][row], value[0], rtol=tolerance, atol=1e-4)
    assert trainer.targets.of([None], {}, trainer.device) is None


@pytest.mark.gpu
def test_compiled_networks_learn_the_same() -> None:
    config = replace(CONFIG, temporal_weight=1.0, strength_share=0.5)
    runs = []
    for compiled in (False, True):
        fabric = make_fabric("cuda", "fp32")  # as a run does: the compiler warns of other settings
        runs.append(advance(make_trainer(config, fabric, compiled=compiled), 3))
    assert runs[1] == pytest.approx(runs[0], rel=1e-2)


def test_run_reports_and_gives_averaged_weights() -> None:
    trainer = make_trainer()
    reports: list[Report] = []
    saves: list[int] = []
    trainer.run(reports.append, lambda: saves.append(trainer.step), log_every=4, save_steps=5)
    assert [report.step for report in reports] == [4, 8, 12]
    assert saves == [5, 10, 12]
    assert all(0 <= report.waiting <= 1 for report in reports)
    result = trainer.result("all of them")
    assert result.training["steps_done"] == 12
    for name, value in trainer.average.items():
        torch.testing.assert_close(result.state_dict()[name], value, rtol=0, atol=0)


def test_run_stops_when_asked() -> None:
    trainer = make_trainer()

    def stop(_: Report) -> None:
        trainer.stop_requested = True

    trainer.run(stop, lambda: None, log_every=3)
    assert trainer.step == 3


def test_average_of_no_decay_is_the_last_weights() -> None:
    trainer = make_trainer(replace(CONFIG, ema_decay=0.0))
    advance(trainer, 2)
    for name, value in trainer.trained.items():
        torch.testing.assert_close(trainer.average[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_injection_learns_all_it_has(injection: str) -> None:
    trainer = make_trainer(with_injection(injection))
    trainer.initialize_encoder()
    before = {name: value.detach().clone() for name, value in trainer.trained.items()}
    assert not any(".trunk." in name for name in before)
    advance(trainer, 2)
    assert all((trainer.trained[name] - value).abs().max() > 0 for name, value in before.items())
    assert trainer.samples(rows=2, columns=2, size=32).shape[2] == 3


def test_encoder_phase_leaves_the_generator_alone() -> None:
    joint = make_trainer()
    config = replace(CONFIG, train_trunk=True)
    trainer = Trainer(
        config, joint.networks, joint.vgg, joint.contents, joint.styles, joint.fabric, frozen="generator"
    )
    generator = {k: v.clone() for k, v in trainer.networks.generator.state_dict().items()}
    encoder = {k: v.detach().clone() for k, v in trainer.trained.items()}
    assert all(name.startswith("encoder.") for name in encoder)
    assert any(".trunk." in name for name in encoder)
    advance(trainer, 2)
    for name, value in trainer.networks.generator.state_dict().items():
        torch.testing.assert_close(value, generator[name], rtol=0, atol=0)
        assert trainer.networks.generator.get_parameter(name).grad is None
    assert all((trainer.trained[name] - value).abs().max() > 0 for name, value in encoder.items())


def test_loss_that_is_no_number_stops_the_run_before_the_weights_change() -> None:
    trainer = make_trainer()
    batch = batch_of(trainer)
    with torch.no_grad():
        trainer.networks.generator.head.weight.fill_(float("nan"))
    before = trainer.networks.generator.stem.conv.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match=r"at step 0.*nan") as caught:
        trainer.update(batch, 0.1)
    assert caught.value.bad.batch is batch
    torch.testing.assert_close(trainer.networks.generator.stem.conv.weight, before, rtol=0, atol=0)


def test_projection_starts_centerd() -> None:
    """After initialization the projections of the training styles sum to zero."""
    trainer = make_trainer(replace(CONFIG, gram_pretraining_steps=0))
    trainer.initialize_encoder()
    encoder = trainer.networks.encoder
    assert encoder is not None
    crops = [stack([style_crops(CONFIG, trainer.styles, View(i, 0), set())]) for i in range(3)]
    pooled = [trainer.targets.make_all(crop, trainer.device).pooled for crop in crops]
    rows = torch.cat([p for p in pooled if p is not None])
    projected = encoder.project((rows - encoder.centre) / encoder.spread)
    torch.testing.assert_close(projected.mean(dim=0), torch.zeros(6), atol=1e-3, rtol=0)
    assert projected.std(dim=0)[0] > 1e-3


def test_temporal_term_is_part_of_the_loss() -> None:
    trainer = make_trainer(replace(CONFIG, temporal_weight=10.0))
    batch = batch_of(trainer)
    assert batch.moved is not None
    assert batch.moved.shape == batch.contents.shape
    terms = trainer.losses(batch, CONFIG.stages[0])
    rest = terms["content"] + 5.0 * terms["style"] + 0.5 * terms["tv"] + 20.0 * terms["identity"]
    torch.testing.assert_close(terms["total"], rest + 10.0 * terms["temporal"])
    assert terms["temporal"] > 0


def test_weaker_styles_are_painted_between_two_film_vectors() -> None:
    """As film.with_strength does it when deployed, and the style weighs less there."""
    trainer = make_trainer(replace(CONFIG, strength_share=1.0, identity_share=0.0))
    batch = batch_of(trainer)
    assert ((batch.strengths >= 0.5) & (batch.strengths < 1)).all()
    contents = to_tensor(batch.contents, trainer.device)
    targets = trainer.targets.of(batch.views, batch.styles, trainer.device)
    encoder, generator = trainer.networks.encoder, trainer.networks.generator
    assert encoder is not None
    terms = trainer.losses(batch, CONFIG.stages[0])
    style = 0.0
    assert targets is not None
    assert targets.pooled is not None
    for row, (content, pooled_style, strength) in enumerate(
        zip(contents, targets.pooled, batch.strengths.tolist(), strict=True)
    ):
        shown = F.interpolate(content[None], (256, 256), mode="bilinear")
        own, full = (
            encoder.film_of(encoder.embed(pooled)).detach().numpy()[0]
            for pooled in (encoder.pooled(shown), pooled_style[None])
        )
        film = at_strength(own, full, strength).film
        taps = trainer.vgg(generator(contents[row : row + 1], torch.from_numpy(film)[None]))
        grams = {name: gram(taps[name]) for name in targets.grams}
        wanted = {name: matrix[row : row + 1] for name, matrix in targets.grams.items()}
        style += style_distance(grams, wanted).item() * strength**CONFIG.strength_power / len(batch)
    assert terms["style"].item() == pytest.approx(style, rel=1e-4)


def test_style_layers_can_be_chosen() -> None:
    """The mean over layers is over the chosen ones; layers that the weights lack are refused."""
    every = make_trainer(CONFIG)
    batch = batch_of(every)
    layers = every.style_layers
    single = []
    for layer in layers:
        one = make_trainer(replace(CONFIG, style_layers=(layer,)))
        single.append(one.losses(batch, CONFIG.stages[0])["style"].item())
    together = every.losses(batch, CONFIG.stages[0])["style"].item()
    assert together == pytest.approx(sum(single) / len(layers), rel=1e-4)
    with pytest.raises(InvalidArgument, match="no style layer relu5_1"):
        make_trainer(replace(CONFIG, style_layers=("relu1_1", "relu5_1")))


def test_the_style_reaches_only_the_layers_that_were_named() -> None:
    """In a run of some steps: the FiLM parameters of other layers learn, and depend on no style."""
    config = replace(CONFIG, film_layers=("blocks", "up2"), steps=6, learning_rate=0.01)
    trainer = make_trainer(config)
    encoder = trainer.networks.film_encoder
    trainer.initialize_encoder()
    advance(trainer, 4)
    with torch.no_grad():
        vectors = encoder.film_of(torch.randn(5, config.network.embedding_size))
        before = torch.from_numpy(config.network.film_layout.identity())
    for (name, _), pair in zip(
        config.network.film_layout.layers, trainer.networks.generator.split_film(vectors), strict=True
    ):
        follows = name.startswith(("blocks", "up2"))
        assert all((part.std(dim=0) > 0).all() == follows for part in pair), name
    assert not torch.equal(encoder.film.bias, before)
    with pytest.raises(InvalidArgument, match=r"no layer begins with 'block5'; there are stem\.norm, down1"):
        make_trainer(replace(CONFIG, film_layers=("stem", "block5")))
    again = TrainConfig.from_dict(config.to_dict())
    assert again.film_layers == ("blocks", "up2")


def test_strength_is_full_by_default() -> None:
    trainer = make_trainer(CONFIG)
    assert (batch_of(trainer).strengths == 1).all()


def test_johnson_takes_one_style() -> None:
    config = with_injection("johnson")
    trainer = make_trainer(config)
    with pytest.raises(InvalidArgument, match="one style; 2 style images"):
        Trainer(config, trainer.networks, trainer.vgg, trainer.contents, trainer.styles * 2, trainer.fabric)


def test_stages_follow_progress() -> None:
    config = TrainConfig()
    assert [config.stage_at(p).crop for p in (0.0, 0.44, 0.45, 0.84, 0.85, 1.0)] == [
        128,
        128,
        192,
        192,
        256,
        256,
    ]
    with pytest.raises(InvalidArgument):
        TrainConfig(stages=(Stage(0.5, 32, 1, 1.0),))


def test_workers_start_anew_at_a_stage_and_lose_no_sample() -> None:
    stages = (Stage(0.5, 32, 2, 5.0), Stage(1.0, 48, 1, 5.0))
    trainer = make_trainer(replace(CONFIG, stages=stages, steps=4))
    seen = []
    for batch, progress in trainer.batches():
        seen.append((len(batch), batch.contents.shape[1]))
        trainer.update(batch, progress)
    assert seen == [(2, 32), (2, 32), (1, 48), (1, 48)]
    assert trainer.seen == 6


def test_epochs_are_passes_over_the_photographs() -> None:
    trainer = make_trainer(replace(CONFIG, epochs=2))
    trainer.run(lambda _: None, lambda: None)
    assert trainer.seen == 6  # three photographs, twice


def test_recipe_of_the_paper_is_as_published() -> None:
    assert PAPER.learning_rate == 1e-4
    assert PAPER.epochs == 80
    assert {stage.batch for stage in PAPER.stages} == {32}
    assert [stage.crop for stage in PAPER.stages] == [128, 256]
    assert TrainConfig.from_dict(PAPER.to_dict()) == PAPER


def test_unknown_setting_is_named() -> None:
    with pytest.raises(InvalidArgument, match="'momentum'"):
        TrainConfig.from_dict({"momentum": 0.9})


def test_averages_are_of_the_same_device_after_loading(tmp_path: Path) -> None:
    trainer = make_trainer()
    torch.save(trainer.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)  # nothing in it but tensors and plain values
    trainer.load_state(state)
    assert trainer.step == 0


CANVAS = replace(
    CONFIG,
    network=replace(CONFIG.network, canvas_bands=3),
    temporal_weight=10.0,
    strength_share=0.5,
    style_scales=2,
    palette_weight=10.0,
    fringe_weight=10.0,
    flat_content=0.2,
    flatness_ranks=2,
    style_views=4,
    stroke_zoom=1.2,
    stroke_sizes=(0.6, 2.0),
    strokes_share=0.5,
)


def test_a_generator_with_a_canvas_learns_to_paint_from_it() -> None:
    trainer = make_trainer(CANVAS)
    before = trainer.networks.generator.canvas.weight.detach().clone()
    for batch, progress in islice(trainer.batches(), 4):
        assert batch.canvas is not None
        assert batch.canvas.shape == (*batch.contents.shape[:3], 1)
        assert batch.gains.shape == (len(batch), 3)
        terms = trainer.update(batch, progress)
        assert {"palette", "temporal"} <= terms.keys()
    assert (trainer.networks.generator.canvas.weight != before).any()


def test_canvas_and_picture_move_alike() -> None:
    """The second windows of the noise are shifted as those of the photograph."""
    trainer = make_trainer(replace(CANVAS, temporal_noise=0.0))
    batch = batch_of(trainer)
    assert batch.moved is not None
    assert batch.canvas is not None
    assert batch.moved_canvas is not None
    size = batch.contents.shape[1]
    for row, (down, right) in enumerate(batch.shifts.tolist()):
        here = (slice(max(down, 0), size + min(down, 0)), slice(max(right, 0), size + min(right, 0)))
        there = (slice(max(-down, 0), size - max(down, 0)), slice(max(-right, 0), size - max(right, 0)))
        for one, other in ((batch.contents, batch.moved), (batch.canvas, batch.moved_canvas)):
            torch.testing.assert_close(one[row][here], other[row][there], rtol=0, atol=0)


def test_gains_follow_strokes_size_and_strength() -> None:
    trainer = make_trainer(replace(CANVAS, identity_share=0.3))
    batches = [batch for batch, _ in islice(trainer.batches(), 8)]
    lengths, wanted = [], []
    for batch in batches:
        for row, view in enumerate(batch.views):
            lengths.append(float(batch.gains[row].norm()))
            wanted.append(0.0 if view is None else float(batch.strokes[row] * batch.strengths[row]))
    assert 0.0 in wanted
    assert len(set(wanted)) > 4
    np.testing.assert_allclose(lengths, wanted, atol=1e-6)


@pytest.mark.parametrize("oriented", [False, True])
def test_a_model_without_a_canvas_gets_one(oriented: bool) -> None:
    plain = new_networks(CONFIG.network)
    with_one = with_canvas(plain, 4, oriented=oriented)
    assert with_one.config.canvas_bands == 4
    assert with_one.config.oriented_canvas == oriented
    state = with_one.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    image = torch.rand(1, 3, 32, 32)
    vector = torch.from_numpy(plain.config.film_layout.identity())[None]
    silent = torch.cat([vector, torch.zeros(1, 4)], dim=1)
    with torch.inference_mode():
        wanted = plain.generator(image, vector)
        found = with_one.generator(image, silent, torch.randn(1, 1, 32, 32))
    torch.testing.assert_close(found, wanted)
