"""A generator in 8 bits, made of the shipped `lite`: what it paints, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mst_deploy.backends import open_generator
from mst_deploy.backends.parity import psnr
from mst_deploy.backends.registry import BACKENDS
from mst_deploy.errors import BackendError, BundleError, InvalidArgument, VerificationError
from mst_deploy.export import command, int8
from mst_deploy.export.calibration import Material
from mst_deploy.export.int8 import Effort, export_int8
from mst_deploy.export.options import ExportOptions
from mst_deploy.images import load_image
from mst_deploy.model.bundle import GENERATOR, GENERATOR_INT8, STYLE_ENCODER, Bundle, open_bundle
from mst_deploy.model.zoo import bundle_path, load_shipped_styles, shipped_photographs
from mst_deploy.onnx_passes.cpu import in_float32

STYLES = ("starry-night", "zodiac")
LITTLE = Effort(calibrated=6, measured=1, photographs=1, sizes=((96, 64),))


@pytest.fixture(scope="module")
def lite() -> Bundle:
    return open_bundle(bundle_path("lite"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("int8") / "small"
    export_int8(bundle_path("lite"), target, STYLES, effort=LITTLE)
    return open_bundle(target)


def copied_without(bundle: Bundle, folder: Path) -> Bundle:
    """A bundle that has no generator in 8 bits, whether the shipped one has or not."""
    files = {name: digest for name, digest in bundle.manifest.files.items() if name != GENERATOR_INT8}
    return Bundle(bundle.path, replace(bundle.manifest, files=files, int8={}))


@pytest.mark.slow
def test_it_is_the_same_model_and_paints_nearly_the_same_picture(made: Bundle, lite: Bundle) -> None:
    assert made.manifest.model_id == lite.manifest.model_id
    for graph in (GENERATOR, STYLE_ENCODER):
        assert (made.path / graph).read_bytes() == (lite.path / graph).read_bytes()
    assert made.generator_int8.stat().st_size < 0.6 * lite.generator.stat().st_size
    frame, film = load_image(shipped_photographs()[4])[None], load_shipped_styles("lite")[0].film[None]
    with open_generator(lite, "onnxrt", "cpu") as whole:
        wanted = whole(frame, film)
    backends = ["onnxrt:int8", *(["openvino:int8"] if _has_openvino() else [])]
    for backend in backends:
        with open_generator(made, backend, "cpu") as generator:
            found = generator(frame, film)
            np.testing.assert_array_equal(generator(frame, film), found)
        assert int8.LEAST_WORST < psnr(wanted, found) < 60, backend


def _has_openvino() -> bool:
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.slow
def test_the_manifest_holds_calibration_layers_and_checks(made: Bundle) -> None:
    facts = made.manifest.int8
    layers = [name for name in facts["layers"] if name.startswith("blocks.")]
    assert len(layers) == 2 * made.manifest.network["residual_blocks"]
    quantized = [name for name, found in facts["layers"].items() if found["type"] == "int8"]
    kinds = [node.op_type for node in onnx.load(made.generator_int8).graph.node]
    assert kinds.count("QuantizeLinear") == len(quantized) >= len(layers)
    assert facts["layers"]["stem"]["scale"] == pytest.approx(1 / 255, rel=1e-4)
    assert facts["calibration"]["styles"] == list(STYLES)
    assert facts["checks"]["pictures"] == 4  # two styles, a photograph and a size each
    assert facts["checks"]["worst_psnr_db"] >= int8.LEAST_WORST
    assert set(facts["checks"]["styles"]["zodiac"]) == {"mean", "worst", "96x64"}
    text = "\n".join(int8.report(facts))
    assert f"{facts['checks']['mean_psnr_db']} dB in the mean" in text
    assert "left in float32: none" in text


@pytest.mark.slow
def test_a_damaged_graph_is_refused_by_name(made: Bundle, tmp_path: Path) -> None:
    for name in (*made.manifest.files, "manifest.json"):
        (tmp_path / name).write_bytes((made.path / name).read_bytes())
    with (tmp_path / GENERATOR_INT8).open("ab") as file:
        file.write(b"0")
    with pytest.raises(BundleError, match=f"{GENERATOR_INT8} is not the file"):
        open_bundle(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "worst"), [(101.0, 0.0), (0.0, 101.0)])
def test_below_the_limits_nothing_is_written(
    lite: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float, worst: float
) -> None:
    monkeypatch.setattr(int8, "LEAST_MEAN", mean)
    monkeypatch.setattr(int8, "LEAST_WORST", worst)
    monkeypatch.setattr(int8, "sensitivity", lambda graph, ranges, samples: dict.fromkeys(ranges, 0.0))
    effort = Effort(calibrated=1, photographs=0, sizes=((32, 32),))
    with pytest.raises(VerificationError, match="at least 101") as error:
        export_int8(lite.path, tmp_path / "made", ["zodiac"], effort=effort)
    assert "nothing was written" in str(error.value)
    assert "zodiac at 32x32" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_check_sees_another_graph(lite: Bundle) -> None:
    """Against a graph with one layer's weights turned the check fails: it compares something real."""
    reference, other = (in_float32(lite.generator) for _ in range(2))
    weights = next(t for t in other.graph.initializer if t.name == "generator.up2.conv.weight")
    values = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(values[..., ::-1].copy(), weights.name))
    material = Material((), tuple(load_shipped_styles("lite")[:1]))
    with pytest.raises(VerificationError, match="differ too much"):
        int8.check(reference, other, lite.manifest, material, [(32, 24)])
    assert int8.check(reference, reference, lite.manifest, material, [(32, 24)])["worst_psnr_db"] == 100


def test_a_bundle_without_it_says_how_to_make_one(lite: Bundle, tmp_path: Path) -> None:
    for backend in ("onnxrt:int8",):
        with pytest.raises(BundleError, match=r"no generator in int8.*mst export .*int8"):
            open_generator(copied_without(lite, tmp_path), backend, "cpu")


def test_backends_that_do_not_multiply_integers_refuse_in_one_line(lite: Bundle) -> None:
    with pytest.raises(BackendError, match=r"onnxrt:int8 computes on the CPU only"):
        open_generator(lite, "onnxrt:int8", "cuda")
    for name in ("trt", "pytorch"):
        with pytest.raises(InvalidArgument, match=f"{name} cannot compute in 'int8'"):
            open_generator(lite, f"{name}:int8")
    assert {name for name, spec in BACKENDS.items() if "int8" in spec.precisions} == {"onnxrt", "openvino"}


def test_options_that_do_not_go_together(lite: Bundle, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for message, options in (
        ("no styles are needed for fp16", ExportOptions("lite", styles=("zodiac",), output=made)),
        ("have opset 20 and are copied", ExportOptions("lite", "int8", opset=17, output=made)),
        ("fp16, fp32, bf16, int8", ExportOptions("lite", "int4", output=made)),
        ("engines are built in fp16, fp32", ExportOptions("lite", "int8", engine="64x48", output=made)),
    ):
        with pytest.raises(InvalidArgument, match=message):
            command.export(options)
    manifest = replace(lite.manifest, model_id="0" * 16)
    with pytest.raises(InvalidArgument, match="no ready styles of the model lite"):
        int8.find_styles((), Bundle(lite.path, manifest), None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
