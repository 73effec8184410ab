"""External pretrained weights: from PyTorch's cache, or downloaded once with their hash checked."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mst_deploy.errors import InputError


def fetched(url: str, what: str, option: str) -> Path:
    """Return the file of ``url`` in PyTorch's cache; download it if it is missing.

    Its name must end in the first digits of its SHA-256 (``name-1234abcd.pth``), which are checked. Raises
    InputError that names ``what`` is needed, and the ``option`` to give a file with.
    """
    name = url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return cached
    prefix = name.rpartition("-")[2].partition(".")[0]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), prefix, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{what} is needed and could not be downloaded ({error}); fetch {url} and give it with {option}"
        ) from error
    return cached
