"""Imported once by the process that the steps are forked off. Nothing here may touch a GPU."""

from __future__ import annotations

import time
from importlib import import_module

NAMES = (
    "numpy",
    "cv2",
    "onnx",
    "torch",
    "torch.utils.data",
    "mst_deploy.model.checkpoints",
    "mst_deploy.model.io_wrappers",
)
SECONDS: dict[str, float] = {}
"""Seconds of each import."""
ERRORS: dict[str, str] = {}
"""Reasons why packages could not be imported."""

for name in NAMES:
    began = time.perf_counter()
    try:
        import_module(name)
    except Exception as error:  # the steps that need it will say so
        ERRORS[name] = f"{type(error).__name__}: {error}"
    SECONDS[name] = round(time.perf_counter() - began, 2)
