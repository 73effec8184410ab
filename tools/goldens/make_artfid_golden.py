"""Make goldens of LPIPS and ArtFID with their authors' own packages, on weights, images and features from
seeds.

Run from the repository: pip install lpips art-fid torchvision && python -m tools.goldens.make_artfid_golden

Writes artfid.json.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.goldens import GOLDENS

Array = NDArray[np.float32]
ROWS = 5200  # of features for the extrapolated distance, which starts at 5,000
WIDTH = 6


def seeded(name: str, shape: tuple[int, ...]) -> Array:
    """Return a tensor that depends only on its name and shape, scaled to keep activations of order one."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "bn.weight")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) < 2:
        return rng.normal(0, 0.1, shape).astype(np.float32)
    return (rng.normal(0, 1, shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)


def images(seed: int, size: int = 96) -> Array:
    """Return images (2, 3, size, size) in 0..1: soft noise with edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, 3, size // 8, size // 8)).repeat(8, axis=2).repeat(8, axis=3)
    return np.clip(0.7 * coarse + 0.3 * rng.random((2, 3, size, size)), 0, 1).astype(np.float32)


def features(seed: int, rows: int = ROWS) -> NDArray[np.float64]:
    """Return features (rows, WIDTH): correlated random numbers."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(0, 1, (WIDTH, WIDTH))
    return rng.normal(0, 1, (rows, WIDTH)) @ mixing + rng.normal(0, 0.5, WIDTH)


def main() -> None:
    import lpips
    import torch
    from art_fid import art_fid as reference
    from art_fid.inception import Inception3

    def filled(module: Any, prefix: str = "") -> Any:
        state = module.state_dict()
        fresh = {
            name: torch.from_numpy(seeded(prefix + name, tuple(value.shape)))
            for name, value in state.items()
            if value.dtype == torch.float32
        }
        module.load_state_dict({**state, **fresh})
        return module.eval()

    first, second = (torch.from_numpy(images(seed)) for seed in (1, 2))
    distance = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        for part in distance.net.children():  # slices of torchvision's features, by their index there
            for index, layer in part.named_children():
                for name, value in layer.named_parameters():
                    value.copy_(torch.from_numpy(seeded(f"features.{index}.{name}", tuple(value.shape))))
        color = distance(2 * first - 1, 2 * second - 1).flatten()
        gray = [
            (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
            for x in (first, second)
        ]
        grayed = distance(2 * gray[0] - 1, 2 * gray[1] - 1).flatten()
        pooled = filled(Inception3(init_weights=False))(first, return_features=True).numpy()
    few = [features(seed, 300) for seed in (3, 4)]
    gaussians = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in few]
    many = {"stylized": features(3), "style": features(4)}

    def stored(files: str, *_: Any) -> NDArray[np.float64]:
        return many[files[0].rpartition("/")[0]]

    # Only what reads files and networks is replaced; the extrapolation is the authors'.
    reference.get_activations = stored
    reference.get_image_paths = lambda path, sort=False: [f"{path}/{n}" for n in range(ROWS)]
    reference.utils.download = lambda url: None
    reference.inception.Inception3 = lambda: torch.nn.Identity()
    reference.torch.load = lambda *_, **__: {}
    infinite = []
    for seed in range(10):
        np.random.seed(seed)
        infinite.append(float(reference.compute_fid_infinity("stylized", "style", 1, "cpu")))
    flat = pooled.ravel()
    golden = {
        "lpips": color.tolist(),
        "lpips_gray": grayed.tolist(),
        "art_inception": {"norm": float(np.linalg.norm(flat)), "some": flat[::97].tolist()},
        "frechet": float(reference.compute_frechet_distance(*gaussians[0], *gaussians[1])),
        "frechet_infinity": {"mean": float(np.mean(infinite)), "spread": float(np.std(infinite))},
    }
    (GOLDENS / "artfid.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(json.dumps({**golden, "art_inception": golden["art_inception"]["norm"]}, indent=1))


if __name__ == "__main__":
    main()
