"""Tests of the exported bundle: its contract, its check, and that a failed check writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mst_deploy.backends import open_generator, open_style_encoder, parity
from mst_deploy.errors import BackendError, InvalidArgument, VerificationError
from mst_deploy.export import check, to_onnx
from mst_deploy.export.to_onnx import export_bundle
from mst_deploy.model.bundle import STYLE_ENCODER, Bundle, open_bundle
from mst_deploy.model.checkpoints import Networks, load_bundle, load_checkpoint, model_id, save_checkpoint
from mst_deploy.model.networks import Generator, NetworkConfig, StyleEncoder
from mst_deploy.model.zoo import MODELS, bundle_path
from tests.command_line import mst


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(3)
    config = NetworkConfig(widths=(4, 6, 8), residual_blocks=1, embedding_size=8)
    return Networks(Generator(config).eval(), StyleEncoder(config).eval(), {"note": "random"})


SMALL = ((96, 64), (203, 119))
FULL = check.SIZES


@pytest.fixture(autouse=True)
def _small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of an export at full HD takes the most of its time."""
    monkeypatch.setattr(check, "SIZES", SMALL)


@pytest.fixture(scope="module")
def export(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Gives the bundle in a precision, exported once."""

    @cache
    def exported(precision: str) -> Bundle:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(check, "SIZES", SMALL)
            return export_bundle(networks, tmp_path_factory.mktemp("export") / "tiny", precision)

    return exported


@pytest.fixture(scope="module", params=["fp16", pytest.param("fp32", marks=pytest.mark.slow)])
def exported(request: pytest.FixtureRequest, export: Callable[[str], Bundle]) -> Bundle:
    return export(request.param)


def sizes_of(checks: Iterable[dict[str, Any]]) -> list[str]:
    return [record["size"] for record in checks if "size" in record]


def test_exports_are_checked_small_odd_and_at_full_hd(exported: Bundle) -> None:
    assert FULL == ((96, 64), (853, 479), (1920, 1080))
    assert sizes_of(exported.manifest.checks) == ["96x64", "203x119"]


@pytest.mark.slow
def test_graphs_pass_the_check_at_full_hd(
    exported: Bundle, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SIZES", FULL)
    checks = check.check_bundle(networks, exported)
    assert sizes_of(checks) == ["96x64", "853x479", "1920x1080"]


def signature(values: object) -> dict[str, tuple[int, list[str | int]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in values  # type: ignore[attr-defined]
    }


def test_graphs_have_the_names_types_and_symbolic_axes_of_the_contract(exported: Bundle) -> None:
    uint8, float32 = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    size = exported.manifest.film_size
    graph = onnx.load(exported.generator).graph
    inputs, outputs = signature(graph.input), signature(graph.output)
    assert list(inputs) == ["frames", "film"]
    assert list(outputs) == ["stylized"]
    kind, axes = inputs["frames"]
    assert kind == uint8
    assert all(isinstance(axis, str) for axis in axes[:3])
    assert len(set(axes[:3])) == 3
    assert axes[3] == 3
    assert inputs["film"] == (float32, [axes[0], size])
    assert outputs["stylized"] == (uint8, axes)
    graph = onnx.load(exported.style_encoder).graph
    assert list(signature(graph.input)) == ["style"]
    assert signature(graph.output)["film"][0] == float32
    assert [name for name in signature(graph.output)] == ["embedding", "film"]


def test_norms_are_float32_and_convolutions_are_not(exported: Bundle) -> None:
    """Types after shape inference: what feeds a normalization, and the weights of a convolution."""
    model = onnx.shape_inference.infer_shapes(onnx.load(exported.generator))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    assert len(norms) == len(exported.manifest.film_layers)
    assert {types[node.input[0]] for node in norms} == {onnx.TensorProto.FLOAT}
    half = exported.manifest.precision == "fp16"
    wanted = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {weights[node.input[1]] for node in convolutions} == {wanted}


def test_manifest_holds_what_was_checked(exported: Bundle, networks: Networks) -> None:
    manifest = open_bundle(exported.path).manifest
    assert manifest.checks == exported.manifest.checks
    assert manifest.model_id == model_id(networks)
    assert manifest.training == {"note": "random"}
    assert manifest.film_layers == networks.config.film_layout.layers


def test_weights_come_back_out_of_the_graphs(exported: Bundle, networks: Networks) -> None:
    found = load_bundle(exported).state_dict()
    for name, tensor in networks.state_dict().items():
        expected = tensor.half().float() if exported.manifest.precision == "fp16" else tensor
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)


def test_styles_of_both_precisions_are_interchangeable(exported: Bundle, networks: Networks) -> None:
    style = parity.sample_picture(96, 80, seed=5)[None]
    _, film = open_style_encoder(exported, device="cpu")(style)
    _, reference = open_style_encoder(exported, "pytorch", "cpu")(style)
    np.testing.assert_allclose(film, reference, atol=2e-2 * np.abs(reference).max())


@pytest.mark.parametrize("size", [(17, 23), (8, 8), (200, 31)])
def test_onnx_runtime_agrees_with_pytorch(exported: Bundle, size: tuple[int, int]) -> None:
    frames = np.stack([parity.sample_picture(*size, seed=seed) for seed in (1, 2)])
    rng = np.random.default_rng(0)
    identity = exported.manifest.layout.identity()
    films = np.stack([identity, identity]) + rng.normal(0, 0.2, (2, len(identity))).astype(np.float32)
    with (
        open_generator(exported, "onnxrt", "cpu") as onnxrt,
        open_generator(exported, "pytorch", "cpu") as torch_,
    ):
        found, wanted = onnxrt(frames, films), torch_(frames, films)
    limit = check.TOLERANCES[exported.manifest.precision].pixel
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= limit


@pytest.fixture
def _traced_before(exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports get copies of the graphs of ``exported``: tracing takes seconds."""

    def copy(networks: Networks, folder: Path, precision: str, opset: int) -> None:
        assert precision == exported.manifest.precision
        for graph in (exported.generator, exported.style_encoder):
            shutil.copy(graph, folder)

    monkeypatch.setattr(to_onnx, "write_graphs", copy)


@pytest.mark.usefixtures("_traced_before")
def test_command_writes_a_bundle(exported: Bundle, networks: Networks, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "weights.safetensors", networks)
    precision = exported.manifest.precision
    done = mst(
        "export",
        tmp_path / "weights.safetensors",
        "--precision",
        precision,
        "-o",
        tmp_path / "made",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    made = open_bundle(tmp_path / "made")
    assert made.manifest.model_id == model_id(networks)
    assert (made.manifest.name, made.manifest.precision) == ("made", precision)


@pytest.mark.usefixtures("_traced_before")
def test_failed_check_writes_nothing(
    exported: Bundle, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = exported.manifest.precision
    impossible = check.Tolerance(pixel=-1, psnr=101.0, film=-1.0)
    monkeypatch.setitem(check.TOLERANCES, precision, impossible)
    monkeypatch.setattr(check, "SIZES", ((16, 16),))
    with pytest.raises(VerificationError, match="nothing was written"):
        export_bundle(networks, tmp_path / "bundle", precision)
    assert list(tmp_path.iterdir()) == []


def test_check_sees_a_wrong_graph(
    exported: Bundle, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails when the reference network is another one: it compares something real."""
    torch.manual_seed(4)
    other = Networks(Generator(networks.config).eval(), networks.encoder)
    monkeypatch.setattr(check, "SIZES", ((64, 64),))
    with pytest.raises(VerificationError, match="differ from PyTorch"):
        check.check_bundle(other, exported)


def test_unknown_precision_is_refused(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="fp16, fp32"):
        export_bundle(networks, tmp_path / "bundle", "int8")


def test_checkpoint_round_trip(networks: Networks, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "weights.safetensors", networks)
    loaded = load_checkpoint(tmp_path / "weights.safetensors")
    assert loaded.config == networks.config
    assert loaded.training == networks.training
    assert model_id(loaded) == model_id(networks)


def test_psnr_closed_form() -> None:
    zeros = np.zeros((4, 4), np.uint8)
    assert parity.psnr(zeros, zeros) == 100.0
    assert parity.psnr(zeros, zeros + 255) == 0.0
    assert parity.psnr(zeros, zeros + 1) == pytest.approx(48.1308, abs=1e-3)


def test_bf16_generator_with_its_float32_statistics(
    networks: Networks, export: Callable[[str], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed as bfloat16, checked in float32; styles are those of the other precisions.

    The encoder has float16 here too: the one that is traced already is copied.
    """
    trace = to_onnx.trace

    def trace_generator(module: Any, inputs: Any, outputs: Any, dynamic: Any, path: Path, opset: int) -> None:
        if path.name == STYLE_ENCODER:
            assert opset == to_onnx.OPSET
            assert {value.dtype for value in module.parameters()} >= {torch.float16}
            shutil.copy(export("fp16").style_encoder, path)
        else:
            trace(module, inputs, outputs, dynamic, path, opset)

    monkeypatch.setattr(to_onnx, "trace", trace_generator)
    bundle = export_bundle(networks, tmp_path / "bf16", "bf16")
    assert bundle.manifest.opset == 22
    assert bundle.manifest.model_id == model_id(networks)
    model = onnx.shape_inference.infer_shapes(onnx.load(bundle.generator))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for op, kind in (("Conv", onnx.TensorProto.BFLOAT16), ("InstanceNormalization", onnx.TensorProto.FLOAT)):
        assert {types[node.output[0]] for node in model.graph.node if node.op_type == op} == {kind}
    with pytest.raises(BackendError, match="cannot compute the bfloat16 graph"):
        open_generator(bundle)
    wanted = {name: t.bfloat16().float() for name, t in networks.generator.state_dict().items()}
    for name, tensor in load_bundle(bundle).generator.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_opset_17_bundle_runs_and_is_checked(networks: Networks, tmp_path: Path, precision: str) -> None:
    bundle = open_bundle(export_bundle(networks, tmp_path / "old", precision, opset=17).path)
    for graph in (bundle.generator, bundle.style_encoder):
        assert onnx.load(graph).opset_import[0].version == 17
    assert bundle.manifest.opset == 17
    assert bundle.manifest.model_id == model_id(networks)


def test_opsets_that_cannot_be_had(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="unknown opset 13; choose one of 17, 20"):
        export_bundle(networks, tmp_path / "x", opset=13)
    with pytest.raises(InvalidArgument, match="bf16 needs opset 22"):
        export_bundle(networks, tmp_path / "x", "bf16", opset=17)


@pytest.mark.parametrize("model", MODELS)
def test_shipped_graphs_name_no_file_of_the_machine_they_were_made_on(model: str) -> None:
    bundle = open_bundle(bundle_path(model))
    for path in (bundle.generator, bundle.style_encoder):
        assert b".py" not in path.read_bytes()


def test_exported_graphs_name_no_source_file(exported: Bundle) -> None:
    for path in (exported.generator, exported.style_encoder):
        assert b".py" not in path.read_bytes()
