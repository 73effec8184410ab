"""Where the pretrained Inception comes from when no path is given: the shipped model's own encoder."""

from __future__ import annotations

from pathlib import Path

from mst_deploy.manifest import open_bundle
from mst_deploy.networks import StyleEncoder
from mst_deploy.shipped import DEFAULT_BUNDLE
from mst_deploy.weights import load_bundle, load_inception


def load_trunk_into(encoder: StyleEncoder, path: Path | None) -> None:
    """Fill the encoder's Inception from a file, or from the shipped model. Raises InputError."""
    if path is not None:
        load_inception(encoder, path)
        return
    shipped = load_bundle(open_bundle(DEFAULT_BUNDLE)).film_encoder
    encoder.trunk.load_state_dict(shipped.trunk.state_dict())
