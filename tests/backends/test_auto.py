"""The choice of ``auto``: its rules as a table, what it remembers, and that it is what really runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mst_deploy as mst
from mst_deploy.backends import auto
from mst_deploy.backends.auto import Check, Memory, resolve
from mst_deploy.backends.choice import LEAST_PSNR, ON_CPU, Choice, Facts, Trial, choose
from mst_deploy.backends.registry import offered, split_precision, with_precision
from mst_deploy.backends.trt.engine_cache import Gpu, Identity, Machine, ShapeRange, store
from mst_deploy.errors import BackendError, InvalidArgument
from mst_deploy.jobs.options import RenderOptions
from mst_deploy.model.bundle import GENERATOR, Bundle, open_bundle
from mst_deploy.model.zoo import resolve_model
from tests.command_line import mst as command
from tests.pictures import picture

GPU = "NVIDIA RTX 4090"
BF16, FP32, ONNXRT = "openvino:bf16", "openvino", "onnxrt"
ALL = {BF16: Trial(55.0, 1.0), FP32: Trial(74.0, 2.0), ONNXRT: Trial(80.0, 4.0)}
WRONG = Trial(20.0, 0.1)
NO_INT8 = {"openvino:int8": "no int8", "onnxrt:int8": "no int8"}
NOT_INSTALLED = {"openvino:bf16": "not installed", "openvino": "not installed", **NO_INT8}


@pytest.mark.parametrize(
    ("facts", "backend", "device"),
    [
        (Facts(gpu=GPU, no_engine=None, trials=ALL), "trt", "cuda"),
        (Facts(gpu=GPU, no_engine=None, no_cuda="no cuDNN"), "trt", "cuda"),
        (Facts(gpu=GPU, trials=ALL), "onnxrt", "cuda"),
        (Facts(gpu=GPU, no_cuda="no cuDNN", trials=ALL), "openvino:bf16", "cpu"),
        (Facts(gpu=GPU, no_cuda="no cuDNN", excluded=NOT_INSTALLED), "onnxrt", "cpu"),
        (Facts(device="cpu", gpu=GPU, no_engine=None, trials=ALL), "openvino:bf16", "cpu"),
        (Facts(device="cuda", gpu=GPU, no_engine=None), "trt", "cuda"),
        (Facts(device="cuda", gpu=GPU, no_cuda="no cuDNN", trials=ALL), "onnxrt", "cuda"),
        (Facts(device="cuda", trials=ALL), "onnxrt", "cuda"),
        (Facts(trials=ALL), "openvino:bf16", "cpu"),
        (Facts(no_engine=None, trials=ALL), "openvino:bf16", "cpu"),
        (Facts(trials=ALL | {BF16: Trial(36.0, 1.0)}), "openvino:bf16", "cpu"),
        (Facts(trials=ALL | {BF16: Trial(35.99, 1.0)}), "openvino", "cpu"),
        (Facts(trials=ALL | {BF16: Trial(55.0, 1.8)}), "openvino:bf16", "cpu"),
        (Facts(trials=ALL | {BF16: Trial(55.0, 1.9)}), "openvino", "cpu"),  # not worth the precision
        (Facts(trials=ALL | {BF16: Trial(55.0, 3.0)}), "openvino", "cpu"),
        (Facts(trials=ALL | {BF16: Trial(55.0, 9.0), FP32: Trial(74.0, 5.0)}), "onnxrt", "cpu"),
        (Facts(excluded={BF16: "no AMX"}, trials={FP32: ALL[FP32]}), "openvino", "cpu"),
        (Facts(excluded={BF16: "no AMX"}, trials={FP32: WRONG, ONNXRT: ALL[ONNXRT]}), "onnxrt", "cpu"),
        (Facts(trials={BF16: Trial(float("nan"), 1.0), FP32: Trial(float("nan"), 1.0)}), "onnxrt", "cpu"),
        (Facts(precision="fp32", trials=ALL), "openvino", "cpu"),
        (Facts(precision="fp32", trials=ALL | {FP32: WRONG}), "onnxrt", "cpu"),
        (Facts(precision="bf16", trials=ALL | {BF16: Trial(40.0, 9.0)}), "openvino:bf16", "cpu"),
        (Facts(excluded=NOT_INSTALLED), "onnxrt", "cpu"),
        (Facts(), "onnxrt", "cpu"),
    ],
)
def test_rules(facts: Facts, backend: str, device: str) -> None:
    chosen = choose(facts)
    assert (chosen.backend, chosen.device) == (backend, device)
    assert chosen.reason


def test_what_is_not_taken_is_reported_with_the_reason() -> None:
    facts = Facts(gpu=GPU, no_engine="no engine for 8x8", no_cuda="no cuDNN", excluded=NOT_INSTALLED)
    assert choose(facts).not_taken == (
        "trt: no engine for 8x8",
        "onnxrt on cuda: no cuDNN",
        "openvino:int8: no int8",
        "onnxrt:int8: no int8",
        "openvino:bf16: not installed",
        "openvino: not installed",
    )
    assert "openvino: not installed" in choose(facts).reason
    assert choose(Facts(excluded=NO_INT8, trials=ALL | {BF16: WRONG})).not_taken == (
        "openvino:int8: no int8",
        "onnxrt:int8: no int8",
        "openvino:bf16: 20 dB from float32, at least 36 dB are needed",
        "onnxrt: takes 2.00 times as long here",
    )


def test_int8_is_taken_where_it_is_the_fastest() -> None:
    assert set(ON_CPU) <= set(offered())
    int8 = {"openvino:int8": Trial(39.0, 0.5), "onnxrt:int8": Trial(41.0, 0.7)}
    assert choose(Facts(trials=ALL | int8)).backend == "openvino:int8"
    assert choose(Facts(precision="int8", trials=int8)).backend == "openvino:int8"
    assert choose(Facts(trials=ALL | int8 | {"openvino:int8": Trial(35.0, 0.5)})).backend == "onnxrt:int8"
    assert choose(Facts(precision="fp32", trials=ALL | int8)).backend == "openvino"


def test_a_precision_is_an_order(
    machine: Callable[..., list[str]], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(frozenset({"avx2"}))
    assert resolve(bundle, "auto", "cpu", precision="fp32").backend == "openvino"
    with pytest.raises(InvalidArgument, match=r"nothing computes in bf16 here: .*AVX512-BF16"):
        resolve(bundle, "auto", "cpu", precision="bf16")
    with pytest.raises(InvalidArgument, match=r"no generator in int8; mst export base .*precision"):
        resolve(bundle, "auto", "cpu", precision="int8")
    with pytest.raises(InvalidArgument, match="unknown precision 'half'"):
        resolve(bundle, "auto", "cpu", precision="half")
    machine(gpu=GPU)
    weights = bundle.manifest.precision
    assert weights != "fp32"
    assert resolve(bundle, "auto", "auto", precision="fp32").backend == "openvino"
    with pytest.raises(InvalidArgument, match=rf"nothing computes in fp32 here: .* computes in {weights}"):
        resolve(bundle, "auto", "cuda", precision="fp32")


def test_a_precision_of_a_named_backend() -> None:
    assert with_precision("openvino", "auto", "cpu", "fp16") == "openvino"
    assert with_precision("openvino", "fp32", "cpu", "fp16") == "openvino"
    assert with_precision("openvino", "bf16", "cpu", "fp16") == "openvino:bf16"
    assert with_precision("openvino:bf16", "bf16", "cpu", "fp16") == "openvino:bf16"
    assert with_precision("onnxrt", "fp32", "cpu", "fp16") == "onnxrt"
    for backend, precision, device in [
        ("openvino:bf16", "fp32", "cpu"),
        ("onnxrt", "bf16", "cpu"),
        ("onnxrt", "fp32", "cuda"),
        ("trt", "fp32", "cuda"),
    ]:
        with pytest.raises(InvalidArgument):
            with_precision(backend, precision, device, "fp16")


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MST_BACKEND", raising=False)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A machine of given properties with an empty cache; returns the list of checks that it made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MST_ENGINES", raising=False)

    def given(
        flags: frozenset[str] = frozenset({"avx512_bf16"}),
        found: Mapping[str, Trial | str] = ALL,
        gpu: str | None = None,
        no_cuda: str | None = None,
        installed: bool = True,
        processor: str = "a processor",
    ) -> list[str]:
        checks: list[str] = []

        def check(self: Check, name: str) -> list[float] | str:
            checks.append(name)
            trial = found[name]
            return trial if isinstance(trial, str) else [trial.psnr, trial.seconds]

        def cuda(bundle: Bundle) -> str | None:
            checks.append("cuda")
            return no_cuda

        monkeypatch.setattr(auto, "processor_flags", lambda: flags)
        monkeypatch.setattr(auto, "processor_name", lambda: processor)
        monkeypatch.setattr(auto, "cuda_device_name", lambda: gpu)
        monkeypatch.setattr(
            auto, "find_module", lambda name: object() if installed or name == "onnxruntime" else None
        )
        monkeypatch.setattr(Check, "__call__", check)
        monkeypatch.setattr(auto, "why_no_cuda", cuda)
        return checks

    return given


def chosen(bundle: Bundle, device: str = "auto") -> Choice:
    choice = resolve(bundle, "auto", device)
    assert not choice.named
    return choice


def test_a_choice_is_made_once(machine: Callable[..., list[str]], bundle: Bundle) -> None:
    checks = machine()
    first = chosen(bundle)
    assert (first.backend, checks) == ("openvino:bf16", [BF16, FP32, ONNXRT])
    assert chosen(bundle) == first
    assert checks == [BF16, FP32, ONNXRT]


@pytest.mark.parametrize("flags", [frozenset({"amx_bf16"}), frozenset({"avx512_bf16", "avx2"})])
def test_bfloat16_is_for_processors_that_have_it(
    machine: Callable[..., list[str]], bundle: Bundle, flags: frozenset[str]
) -> None:
    machine(flags)
    assert chosen(bundle).backend == "openvino:bf16"
    checks = machine(frozenset({"avx2", "avx512f"}))
    assert (chosen(bundle).backend, checks) == ("openvino", [FP32, ONNXRT])


def test_what_is_not_installed_is_not_checked(machine: Callable[..., list[str]], bundle: Bundle) -> None:
    checks = machine(installed=False)
    choice = chosen(bundle)
    assert (choice.backend, choice.device, checks) == ("onnxrt", "cpu", [])
    assert "pip install openvino" in choice.reason


def test_a_failed_check_is_tried_again(machine: Callable[..., list[str]], bundle: Bundle) -> None:
    checks = machine(found=ALL | {BF16: "it does not run here"})
    assert chosen(bundle).backend == "openvino"
    assert chosen(bundle).backend == "openvino"
    assert checks == [BF16, FP32, ONNXRT, BF16]
    machine()
    assert chosen(bundle).backend == "openvino:bf16"


def test_a_gpu_is_taken_unless_the_device_is_the_cpu(
    machine: Callable[..., list[str]], bundle: Bundle
) -> None:
    checks = machine(gpu=GPU)
    assert (chosen(bundle).backend, chosen(bundle).device) == ("onnxrt", "cuda")
    assert checks == ["cuda"]
    assert (chosen(bundle, "cpu").backend, chosen(bundle, "cpu").device) == ("openvino:bf16", "cpu")
    checks = machine(gpu=GPU + " Ti", no_cuda="no cuDNN")
    assert chosen(bundle).backend == "openvino:bf16"
    assert (chosen(bundle, "cuda").backend, chosen(bundle, "cuda").device) == ("onnxrt", "cuda")


def test_an_engine_is_taken_only_for_all_of_the_known_sizes(
    machine: Callable[..., list[str]], bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(gpu=GPU)
    monkeypatch.setenv("MST_ENGINES", str(tmp_path))
    here = Machine({"rtx": "1.7.1.116"}, Gpu(GPU, "8.9", "13.0"))
    cuda = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr("mst_deploy.backends.trt.compat.installed", lambda: ["rtx"])
    monkeypatch.setattr("mst_deploy.backends.trt.runner.open_cuda", lambda: cuda)
    monkeypatch.setattr("mst_deploy.backends.trt.runner.machine", lambda runtimes, cuda: here)

    def taken(*sizes: tuple[int, int], batch: int = 1) -> str:
        choice = resolve(bundle, "auto", "auto", sizes, batch)
        return f"{choice.backend} {choice.device} {' '.join(choice.not_taken)}"

    def build(width: int, height: int, targets: tuple[str, ...], graph: str = "") -> None:
        shape = (1, height, width)
        graph = graph or bundle.manifest.files[GENERATOR]
        shapes = ShapeRange(shape, shape, shape)
        store(tmp_path, Identity("base", graph, "fp16", shapes, "rtx", "1.7.1.116", None, targets), b"-", {})

    none = "onnxrt cuda trt: no engine for 640x360 in the cache; mst build makes one"
    assert taken((640, 360)) == none
    build(640, 360, ("SM89",), graph="another model")
    assert taken((640, 360)) == none
    build(64, 48, ("SM75",))
    build(640, 360, ("SM89",))
    assert taken((640, 360)) == "trt cuda "
    assert taken((640, 360), (640, 360)) == "trt cuda "
    assert taken((640, 360), batch=2) == none
    assert "no engine for 1280x720" in taken((640, 360), (1280, 720))
    assert "the engines for 64x48 in the cache are not for this machine" in taken((640, 360), (64, 48))
    assert taken() == "onnxrt cuda trt: the sizes of the frames are not known beforehand"
    monkeypatch.setattr("mst_deploy.backends.trt.compat.installed", refused)
    assert taken((640, 360)) == "onnxrt cuda trt: TensorRT is not installed"


def refused(*asked: object) -> None:
    raise BackendError("TensorRT is not installed")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "",
        lambda text: "\x00\xff",
        lambda text: json.dumps({**json.loads(text), "facts": [1]}),
        lambda text: json.dumps({**json.loads(text), "facts": {BF16: "fine", FP32: [1e9, 1.0], ONNXRT: [1]}}),
        lambda text: json.dumps({**json.loads(text), "facts": {BF16: [9.0, -1.0]}}),
        lambda text: json.dumps({"facts": {BF16: [99.0, 1e-9]}}),
        lambda text: json.dumps({"key": {}, "facts": {BF16: [99.0, 1e-9]}}),
    ],
)
def test_a_damaged_or_foreign_entry_is_ignored_and_replaced(
    machine: Callable[..., list[str]], bundle: Bundle, spoil: Callable[[str], str]
) -> None:
    machine(found=ALL | {BF16: WRONG})
    assert chosen(bundle).backend == "openvino"
    path = Memory.of(bundle, None).path
    path.write_text(spoil(path.read_text()))
    checks = machine(found=ALL | {BF16: WRONG})
    assert chosen(bundle).backend == "openvino"
    assert checks == [BF16, FP32, ONNXRT]
    facts = {BF16: [20.0, 0.1], FP32: [74.0, 2.0], ONNXRT: [80.0, 4.0]}
    assert json.loads(path.read_text())["facts"] == facts


def test_everything_that_matters_makes_another_entry(
    machine: Callable[..., list[str]], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    paths = [Memory.of(bundle, None).path, Memory.of(bundle, GPU).path]
    paths.append(Memory.of(open_bundle(resolve_model("lite")), None).path)
    paths.append(Memory.of(replace(bundle, manifest=replace(bundle.manifest, model_id="another")), None).path)
    machine(frozenset({"avx2"}))
    paths.append(Memory.of(bundle, None).path)
    machine(frozenset({"avx2"}), processor="another processor")
    paths.append(Memory.of(bundle, None).path)
    monkeypatch.setattr(auto, "version", lambda name: "99" if name == "openvino" else None)
    paths.append(Memory.of(bundle, None).path)
    assert len(set(paths)) == len(paths)
    assert Memory.of(bundle, None).path == paths[-1]


def test_a_cache_that_cannot_be_written_costs_only_time(
    machine: Callable[..., list[str]], bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    checks = machine()
    assert chosen(bundle) == chosen(bundle)
    assert checks == [BF16, FP32, ONNXRT] * 2


def test_a_named_backend_is_an_order(
    machine: Callable[..., list[str]], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = machine()
    with mst.Stylizer(backend="onnxrt", device="cpu") as stylizer:
        assert (stylizer.backend_name, stylizer.choice) == ("onnxrt", Choice("onnxrt", "cpu"))
        assert stylizer.choice.named
    monkeypatch.setenv("MST_BACKEND", "fake")
    assert resolve(bundle, "auto", "cpu") == Choice("fake", "cpu")
    assert resolve(bundle, "onnxrt", "cpu") == Choice("onnxrt", "cpu")
    monkeypatch.setenv("MST_BACKEND", "auto")
    assert resolve(bundle, "auto", "cpu").backend == "openvino:bf16"
    monkeypatch.setenv("MST_BACKEND", "openvnio")
    with pytest.raises(InvalidArgument, match="unknown backend 'openvnio'"):
        mst.Stylizer()
    monkeypatch.delenv("MST_BACKEND")
    assert checks == [BF16, FP32, ONNXRT]
    with pytest.raises(InvalidArgument, match="unknown device 'gpu'"):
        resolve(bundle, "auto", "gpu")
    with pytest.raises(InvalidArgument, match=r"must be named here.*choose one of onnxrt"):
        split_precision("auto")


def test_a_runtime_that_fails_its_check_is_not_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*asked: object) -> None:
        raise BackendError("broken\nin two lines")

    monkeypatch.setattr("mst_deploy.backends.base.open_generator", refuse)
    assert Check(bundle)("openvino") == "it does not run here (broken)"


def test_the_check_distinguishes_right_from_wrong() -> None:
    """ONNX Runtime itself is near its own float32; a generator that paints nothing is far from it."""
    right, wrong = map(Check(open_bundle(resolve_model("lite"))), ("onnxrt", "fake"))
    assert not isinstance(right, str)
    assert not isinstance(wrong, str)
    assert right[0] > 60
    assert wrong[0] < LEAST_PSNR
    assert right[1] > 5 * wrong[1]  # one inverts the picture, the other computes billions of operations


@pytest.mark.slow
def test_the_session_runs_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = picture(48, 64, 0)
    with mst.Stylizer("lite", device="cpu") as stylizer:
        assert not stylizer.choice.named
        named, painted = stylizer.backend_name, stylizer.image(image, "zodiac")
    if find_spec("openvino") is None:
        assert named == "onnxrt"
    else:
        assert named.startswith("openvino")
    with mst.Stylizer("lite", backend=named, device="cpu") as stylizer:
        np.testing.assert_array_equal(stylizer.image(image, "zodiac"), painted)
    started = time.process_time()
    again = resolve(open_bundle(resolve_model("lite")), "auto", "cpu")
    assert again.backend == named
    assert time.process_time() - started < 0.3  # 4 ms here; a check takes longer


def test_one_line_says_what_was_taken(
    machine: Callable[..., list[str]], tmp_path: Path, small_clip: Path
) -> None:
    machine(found=ALL | {ONNXRT: Trial(80.0, 0.5)})  # ONNX Runtime, which is always there, is the fastest
    source = Path(__file__).parents[2] / "examples" / "paintings" / "zodiac.jpg"
    style = ("-s", "zodiac", "--model", "lite", "--size", "48")
    arguments = ("image", source, *style, "-f", "-o", tmp_path / "o.png")
    reported = command(*arguments, "--json", "--device", "cpu")
    assert reported.returncode == 0, reported.stderr
    facts = json.loads(reported.stdout)
    assert (facts["backend"], facts["precision"]) == ("onnxrt", "fp32")
    reason = "the fastest on this processor, 80 dB from float32"
    notes = [line for line in reported.stderr.splitlines() if "--backend auto" in line]
    assert notes == [f"note: --backend auto takes onnxrt on cpu: {reason}"]
    assert command(*arguments, "--quiet", "--device", "cpu").stderr == ""
    assert "--backend auto" not in command(*arguments, "--backend", "fake").stderr
    for name, file in (("image", source), ("video", small_clip), ("sheet", source)):
        asked = (name, file, *style[:4], "--backend", "onnxrt", "--precision", "bf16")
        assert "the backend onnxrt cannot compute in 'bf16'" in command(*asked).stderr
    doctor = json.loads(command("doctor", "--json").stdout)["auto"]
    why = "this model has no generator in int8; mst export base --precision int8 makes one"
    slower = [
        f"openvino:int8: {why}",
        f"onnxrt:int8: {why}",
        "openvino:bf16: takes 2.00 times as long here",
        "openvino: takes 4.00 times as long here",
    ]
    assert doctor == {"backend": "onnxrt", "device": "cpu", "reason": reason, "not_taken": slower}
    report = command("doctor").stdout
    assert f"--backend auto takes onnxrt on cpu: {reason}\n  not {slower[0]}\n  not {slower[1]}\n" in report
    named = command("doctor", env={"MST_BACKEND": "fake"}).stdout
    assert "--backend auto takes fake: the environment variable MST_BACKEND names it\n" in named


def test_a_job_does_not_go_on_with_another_backend(small_clip: Path, tmp_path: Path, bundle: Bundle) -> None:
    """Sessions of different backends write different settings into the journal, whatever wraps them."""
    from mst_deploy.jobs.render_file import settings
    from mst_deploy.video.reader import VideoReader

    found = []
    with VideoReader(small_clip) as reader:
        for backend in ("onnxrt", "fake"):
            with mst.Stylizer(backend=backend, device="cpu") as stylizer:
                plan = stylizer.plan("zodiac")
                found.append(settings(reader.info, stylizer.backend, plan, RenderOptions())["runtime"])
    assert re.fullmatch(r"onnxrt, onnxruntime\S* [0-9.]+ on cpu", found[0])
    assert found[1] == "fake on cpu"


def test_results_of_jobs_name_the_backend(small_clip: Path, tmp_path: Path) -> None:
    with mst.Stylizer(backend="fake") as stylizer:
        made = stylizer.file(small_clip, tmp_path / "out.mp4", "zodiac")
    assert made.backend == "fake"
