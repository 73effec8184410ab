"""Tests of whole runs through the command line: killed and continued, distributed, refused."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mst_deploy.errors import BackendError, InputError, InvalidArgument, OutputError
from mst_deploy.model.checkpoints import load_checkpoint, new_networks, save_checkpoint
from mst_deploy.model.networks import NetworkConfig
from mst_deploy.training.command import configure, read_recipe, read_start, train
from mst_deploy.training.config import RECIPES
from mst_deploy.training.loop import check
from mst_deploy.training.options import JointOptions, TrainOptions
from mst_deploy.training.pruning import prune_channels
from mst_deploy.training.reports import NonFiniteLoss
from mst_deploy.training.run_folder import RunFolder, open_run
from mst_deploy.training.running import check_compiler
from tests.command_line import mst, mst_process
from tests.conftest import ROOT
from tests.ports import free_port
from tests.training.toys import batch_of, make_trainer, write_folders

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Sums are rounded otherwise with another number of threads, so runs that are compared have the same."""
FACTS: dict[str, Any] = {"phase": "joint", "config": {"seed": 1, "steps": 5}, "data": "x", "losses": "y"}


def kill(arguments: list[str], folder: Path) -> None:
    """Train in a process of its own, and kill it as soon as a state is written."""
    environment = {**os.environ, **ONE_THREAD}
    command = [sys.executable, "-m", "mst_deploy", *arguments]
    running = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (folder / "state.pt").exists() and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


class Crash(Exception):
    """Nothing of the program handles it."""


def crash(arguments: list[str], folder: Path) -> None:
    """Train in this process, and leave it as soon as a state is written."""
    save = RunFolder.save_state

    def save_and_crash(self: RunFolder, state: dict[str, Any]) -> None:
        save(self, state)
        raise Crash

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunFolder, "save_state", save_and_crash)
        with pytest.raises(Crash):
            mst(*arguments)


@pytest.mark.parametrize(
    ("stop", "run_mst", "workers"),
    [
        pytest.param(crash, mst, ["--workers", "0"], id="crashed", marks=pytest.mark.slow),
        pytest.param(
            kill,
            partial(mst_process, env=ONE_THREAD),
            [],
            id="killed",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups"),
            ],
        ),
    ],
)
def test_stopped_and_continued_equals_twenty_steps_straight(
    stop: Callable[[list[str], Path], None], run_mst: Any, workers: list[str], tmp_path: Path
) -> None:
    data = write_folders(tmp_path)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    common = ["train", "joint", *data, "--save-steps", "10", *workers]
    assert run_mst(*common, "-o", straight).returncode == 0
    stop([*common, "-o", str(broken)], broken)
    (broken / ".state-left-over").mkdir()  # as if it had been killed while writing
    assert torch.load(broken / "state.pt", weights_only=True)["step"] == 10
    finished = run_mst(*common, "-o", broken)
    assert finished.returncode == 0, finished.stderr
    assert "continuing" in finished.stderr
    expected, found = (load_file(run / "weights.safetensors") for run in (straight, broken))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    states = [torch.load(run / "state.pt", weights_only=True) for run in (straight, broken)]
    assert all(torch.equal(states[0]["trained"][n], states[1]["trained"][n]) for n in states[0]["trained"])
    run = json.loads((broken / "run.json").read_text())
    assert run["done"]["finished"]
    assert run["done"]["steps"] == 20
    assert run["config"]["network"]["widths"] == [4, 6, 8]
    assert set(run["data"]) == {"content", "style"}
    assert "torch" in run["versions"]
    assert (broken / "samples-000020.jpg").exists()
    assert not [path.name for path in broken.iterdir() if path.name.startswith(".state")]
    refused = run_mst(*common, "-o", broken, "--learning-rate", "0.5")
    assert refused.returncode == 2
    assert "learning_rate = 0.001, now it would be 0.5" in refused.stderr
    assert "Traceback" not in refused.stderr


DDP = """
import sys, torch
from mst_deploy.training.running import make_fabric
from tests.training.toys import CONFIG, batch_of, make_trainer
from dataclasses import replace
config = replace(CONFIG, stages=(replace(CONFIG.stages[0], batch=4),), temporal_weight=2.0)
fabric = make_fabric("cpu", "fp32")
trainer = make_trainer(config, fabric)
terms = trainer.losses(batch_of(trainer), config.stages[0])
fabric.backward(terms["total"])
if fabric.is_global_zero:
    assert fabric.world_size == int(sys.argv[2])
    torch.save({name: p.grad for name, p in trainer.trained.items()}, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    """Same global batch of 4, with gloo. Sums in another order differ by 1e-5 of the largest entry."""
    script = tmp_path / "ddp.py"
    script.write_text(DDP)
    gradients = []
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for processes, launcher in ((1, []), (2, launch)):
        file = tmp_path / f"{processes}.pt"
        command = [sys.executable, *launcher, str(script), str(file), str(processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        gradients.append(torch.load(file, weights_only=True))
    one, two = gradients
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=0, atol=1e-5 * gradient.abs().max().item())
        before_zeros = name.startswith(("encoder.hidden", "encoder.deeper"))  # .correct starts as zeros
        assert (gradient.abs().max() > 0) != before_zeros


def torchrun(*launcher: str, folder: Path, data: list[str]) -> subprocess.Popen[str]:
    """One machine's torchrun of a run of three steps."""
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, "-m", "mst_deploy", "train", "joint"]
    command += [*data, "-o", str(folder), "--steps", "3", "--workers", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_torchrun_trains_with_two_processes(machines: int, tmp_path: Path) -> None:
    """On one machine, and as two machines that meet at an address: same weights, and one report."""
    data, folder = write_folders(tmp_path), tmp_path / "run"
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--local-addr=127.0.0.1"]
    launcher = [f"--nnodes={machines}", f"--nproc-per-node={2 // machines}", *meeting]
    running = [torchrun(*launcher, folder=folder, data=data) for _ in range(machines)]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0] * machines, errors[0][-2000:]
    assert "".join(errors).count("losses: content relu4_1") == 1
    run = json.loads((folder / "run.json").read_text())
    assert run["processes"] == 2
    assert run["done"]["images_seen"] == 6
    assert load_checkpoint(folder / "weights.safetensors").training["steps_done"] == 3
    alone = mst_process(
        *("train", "joint", *data, "-o", tmp_path / "alone", "--steps", "3", "--workers", "0"), env=ONE_THREAD
    )
    assert alone.returncode == 0, alone.stderr
    expected, found = (load_file(path / "weights.safetensors") for path in (tmp_path / "alone", folder))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-3)


def test_curves_and_log_hold_what_was_reported(tmp_path: Path) -> None:
    trainer = make_trainer()
    with open_run(tmp_path / "run", FACTS) as folder:
        trainer.run(folder.record, lambda: None, log_every=4)
        folder.save_samples(trainer.samples(2, 2, 32), trainer.step)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    style = [event.value for event in board.Scalars("style")]
    assert style == pytest.approx([line["style"] for line in lines], rel=1e-4)
    assert {"content", "learning_rate", "gradient", "images_per_second"} <= set(board.Tags()["scalars"])
    assert board.Tags()["images"] == ["samples"]


def test_batch_that_gave_no_number_is_kept(tmp_path: Path) -> None:
    trainer = make_trainer()
    batch = batch_of(trainer)
    with torch.no_grad():
        trainer.networks.generator.head.weight.fill_(float("inf"))
    with open_run(tmp_path, FACTS) as folder, pytest.raises(NonFiniteLoss) as caught:
        trainer.update(batch, 0.0)
    kept = torch.load(folder.keep_bad_batch(caught.value.bad), weights_only=True)
    assert torch.equal(kept["contents"], batch.contents)
    assert len(kept["views"]) == len(batch)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "run", FACTS),
        pytest.raises(OutputError, match="another run is writing"),
        open_run(tmp_path / "run", FACTS),
    ):
        pass
    with open_run(tmp_path / "run", FACTS):
        pass


def test_other_data_or_settings_are_not_continued_in_silence(tmp_path: Path) -> None:
    with open_run(tmp_path, FACTS) as folder:
        folder.save_state({"step": 3})
        assert folder.restore() is not None
    longer = {**FACTS, "config": {"seed": 1, "steps": 50}}  # more of the same is fine
    with open_run(tmp_path, longer) as folder:
        assert folder.restore() is not None
    for other in ({**FACTS, "data": "z"}, {**FACTS, "config": {"seed": 2, "steps": 5}}):
        with open_run(tmp_path, other) as folder, pytest.raises(InvalidArgument, match="another folder"):
            folder.restore()


def test_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with (
        open_run(tmp_path, FACTS) as folder,
        pytest.raises(InputError, match=r"cannot continue from .*state\.pt"),
    ):
        folder.restore()


def test_previous_state_survives_a_full_disk(tmp_path: Path) -> None:
    """The system refuses to write more than 1 MB to any file, in the middle of a larger state."""
    with open_run(tmp_path, FACTS) as folder:
        folder.save_state({"step": 1})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            with pytest.raises(OutputError, match=r"cannot write .*state\.pt"):
                folder.save_state({"step": 2, "weights": torch.zeros(1_000_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        state = folder.restore()
    assert state is not None
    assert state["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "log.jsonl", "state.pt", "tensorboard"]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot use the folder"), open_run(tmp_path / "file" / "x", FACTS):
        pass


def job(**options: Any) -> TrainOptions:
    return JointOptions(content=(), style=(), **options)


def test_options_take_the_place_of_the_recipe() -> None:
    config = configure(job(steps=7, style_weight=3.0, batch_scale=2.0, injection="add", seed=9))
    default = RECIPES["default"]
    assert (config.steps, config.minutes, config.seed) == (7, None, 9)
    assert config.network.injection == "add"
    assert [stage.style_weight for stage in config.stages] == [3.0] * len(default.stages)
    assert [stage.batch for stage in config.stages] == [2 * stage.batch for stage in default.stages]
    assert configure(job()) == default
    assert configure(job(recipe="paper", minutes=5.0)).epochs is None
    assert configure(job(injection="johnson")).identity_share == 0


def test_bad_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="unknown recipe 'paperr'; choose one of default, lite, paper"):
        read_recipe("paperr")
    with pytest.raises(InvalidArgument, match="one length"):
        configure(job(steps=1, minutes=1.0))
    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(str(tmp_path / "r.json"))
    (tmp_path / "r.json").write_text(json.dumps({"config": {"stages": [{"until": 2}]}}))
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(str(tmp_path / "r.json"))


def test_narrowed_start_has_the_recipes_generator_and_the_models_encoder(tmp_path: Path) -> None:
    wide = new_networks(NetworkConfig((18, 34, 66), 5, embedding_size=6, hidden_size=7, statistics="mean"))
    save_checkpoint(tmp_path / "wide.safetensors", wide)
    given = job(recipe="lite", prune_from=tmp_path / "wide.safetensors")
    start = read_start(given)
    assert start is not None
    config = configure(given, start)
    assert config.network == NetworkConfig(
        (16, 32, 64), 4, embedding_size=6, hidden_size=7, statistics="mean"
    )
    assert config.learning_rate == RECIPES["lite"].learning_rate
    padded = replace(RECIPES["lite"], network=replace(RECIPES["lite"].network, padding="zero"))
    (tmp_path / "padded.json").write_text(json.dumps(padded.to_dict()))
    given = job(recipe=str(tmp_path / "padded.json"), prune_from=tmp_path / "wide.safetensors")
    start_padded = read_start(given)
    assert start_padded is not None
    assert configure(given, start_padded).network == replace(config.network, padding="zero")
    with pytest.raises(InvalidArgument, match="statistics moments: the model to start from has mean"):
        configure(job(recipe="lite", statistics="moments"), start)


@pytest.mark.parametrize("other", ["start", "generator"])
def test_narrowing_is_the_only_start(other: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"prune_from cannot be had with {other}"):
        read_start(job(prune_from=tmp_path, **{other: tmp_path}))


def test_narrowed_run_begins_with_the_parts_of_the_wide_one(tmp_path: Path) -> None:
    """One step at a learning rate of nothing leaves the narrowed weights."""
    write_folders(tmp_path)
    wide = new_networks(NetworkConfig((5, 9, 9), 2, embedding_size=6))
    save_checkpoint(tmp_path / "wide.safetensors", wide)
    options = JointOptions(
        content=(tmp_path / "photos",),
        style=(tmp_path / "art",),
        output=tmp_path / "run",
        recipe=str(tmp_path / "recipe.json"),
        prune_from=str(tmp_path / "wide.safetensors"),
        device="cpu",
        steps=1,
        vgg=tmp_path / "vgg.safetensors",
        learning_rate=1e-30,
        workers=0,
    )
    train("joint", options)
    result = load_checkpoint(tmp_path / "run" / "weights.safetensors")
    expected = prune_channels(wide, NetworkConfig((4, 6, 8), 1, embedding_size=6))
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(result.state_dict()[name], tensor, msg=name)


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / ("cl.exe" if os.name == "nt" else "c++")
    compiler.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    check_compiler("cpu")
    compiler.unlink()
    options = JointOptions(
        content=(tmp_path,), style=(tmp_path,), output=tmp_path / "run", compiled=True, device="cpu"
    )
    with pytest.raises(BackendError, match=r"compiled: no C\+\+ compiler found"):
        train("joint", options)
    assert not (tmp_path / "run").exists()


def test_recipe_of_a_finished_run_is_the_same_recipe(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"config": RECIPES["paper"].to_dict(), "phase": "joint"}))
    assert read_recipe(str(tmp_path / "run.json")) == RECIPES["paper"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--content", "EMPTY", "--style", "EMPTY"], "no images in", 1),
        (["--content", "photos", "--style", "art", "--vgg", "absent.pth"], "absent.pth does not exist", 1),
        (["--content", "photos", "--style", "art", "--injection", "x"], "unknown injection 'x'", 2),
        (["--content", "photos", "--style", "art", "--precision", "fp16"], "trains on CUDA only", 2),
        (["--content", "photos", "--style", "art", "--injection", "johnson", "--vgg", "VGG"], "one style", 2),
    ],
)
def test_bad_input_is_one_line_and_starts_no_run(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mst_deploy.cli import main

    write_folders(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "VGG").symlink_to(tmp_path / "vgg.safetensors")
    monkeypatch.chdir(tmp_path)
    named = ["vgg.safetensors" if word == "VGG" else word for word in arguments]
    monkeypatch.setattr(sys, "argv", ["mst", "train", "joint", *named, "--device", "cpu", "-o", "run"])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    assert stopped.value.code == code
    assert message in captured.err
    assert captured.err.splitlines()[-1].startswith("mst: ")
    assert not (tmp_path / "run").exists()


def test_batch_that_processes_cannot_share_is_refused() -> None:
    trainer = make_trainer()
    three = SimpleNamespace(world_size=3)
    with pytest.raises(InvalidArgument, match="cannot be divided evenly among 3"):
        check(trainer.config, trainer.networks, trainer.vgg, trainer.styles, three)  # type: ignore[arg-type]
