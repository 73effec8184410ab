"""Programs that make tables and pictures of the documents; run each as ``python -m tools.docs.NAME``."""

from __future__ import annotations

from pathlib import Path

import cv2

from mst_deploy.files import replacing
from mst_deploy.images import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
HELD_OUT = ROOT / "training" / "held_out.txt"
"""SHA-256 of the images that the shipped models have not seen."""


def save_jpeg(path: Path, image: Image, most_bytes: int) -> None:
    """Write (H, W, 3) uint8 RGB as a JPEG file of the highest quality that has at most ``most_bytes``.

    Raises ValueError where even a quality of 40 has more.
    """
    for quality in range(95, 39, -1):
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if data.size <= most_bytes:
            with replacing(path) as temporary:
                temporary.write_bytes(data.tobytes())
            print(f"{path.name}: {data.size} bytes, quality {quality}")
            return
    raise ValueError(f"{path.name} has more than {most_bytes} bytes; make it smaller")
