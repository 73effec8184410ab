"""LPIPS and ArtFID's network against the authors' packages (goldens), on weights from seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mst_deploy.benchmarks.quality.nets import (
    ArtInception,
    Lpips,
    fid768,
    fid_trunk,
    load_art_inception,
    load_lpips,
    relu3_1,
)
from mst_deploy.errors import InputError
from mst_deploy.model.inception import InceptionTrunk
from mst_deploy.perceptual.vgg import Vgg19
from tests.conftest import ROOT
from tests.training.test_real_weights import INCEPTION
from tools.goldens.make_artfid_golden import images, seeded

GOLDEN = json.loads((ROOT / "tests" / "goldens" / "artfid.json").read_text())
FIRST, SECOND = (torch.from_numpy(images(seed)) for seed in (1, 2))


def saved(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({name: torch.from_numpy(seeded(name, shape)) for name, shape in shapes.items()}, path)
    return path


def test_lpips_equals_the_published_package(tmp_path: Path) -> None:
    shapes = {f"features.{name}": tuple(t.shape) for name, t in Lpips().features.state_dict().items()}
    lpips = load_lpips(saved(tmp_path / "alexnet.safetensors", shapes))
    np.testing.assert_allclose(lpips(FIRST, SECOND), GOLDEN["lpips"], rtol=1e-4)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    gray = [(x * weights).sum(1, keepdim=True) for x in (FIRST, SECOND)]
    np.testing.assert_allclose(lpips(*gray), GOLDEN["lpips_gray"], rtol=1e-4)
    assert lpips(FIRST, FIRST).tolist() == [0, 0]


@torch.no_grad()
def test_art_inception_equals_the_published_package(tmp_path: Path) -> None:
    """Its batch norms are folded; names are the package's."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in ArtInception().state_dict().items():
        plain = name.removeprefix("trunk.")
        if plain.endswith(".conv.weight"):
            shapes[plain] = tuple(tensor.shape)
            norm = plain.replace("conv.weight", "bn")
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{norm}.{part}"] = (len(tensor),)
    found = load_art_inception(saved(tmp_path / "art.safetensors", shapes))(FIRST).numpy().ravel()
    wanted = GOLDEN["art_inception"]
    assert np.linalg.norm(found) == pytest.approx(wanted["norm"], rel=1e-4)
    np.testing.assert_allclose(found[::97], wanted["some"], rtol=2e-3, atol=1e-4)


@pytest.mark.skipif(not INCEPTION.exists(), reason="the real Inception is not here")
def test_inception_of_fid_is_taken_and_another_is_refused(tmp_path: Path) -> None:
    trunk = fid_trunk(INCEPTION)
    with torch.no_grad():
        assert fid768(trunk, FIRST).shape == (2, 768)
    other = {name: tuple(tensor.shape) for name, tensor in InceptionTrunk().state_dict().items()}
    with pytest.raises(InputError, match="not the one FID is defined with"):
        fid_trunk(saved(tmp_path / "other.safetensors", other))


@torch.no_grad()
def test_plain_relu3_1_differs_from_the_mirrored_network_at_the_border_only() -> None:
    """The mirrored one is checked against goldens; zeros reach 9 positions inwards at most."""
    torch.manual_seed(0)
    vgg = Vgg19()
    image = torch.rand(1, 3, 96, 96)
    plain, mirrored = relu3_1(vgg, image), vgg(image)["relu3_1"]
    assert plain.shape == mirrored.shape == (1, 256, 24, 24)
    torch.testing.assert_close(plain[..., 9:-9, 9:-9], mirrored[..., 9:-9, 9:-9])
    assert (plain - mirrored).abs()[..., 0, :].max() > 1e-3
