"""Log of measured pairs: one line per pair, in a file from which an interrupted run continues.

The first line identifies the measurement; a run with another identity does not continue the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mst_deploy.benchmarks.quality.sets import Pair
from mst_deploy.errors import InputError
from mst_deploy.files import sha256_of


@dataclass(frozen=True)
class Row:
    """Figures of one pair, and its features for whole-set figures."""

    content: str
    style: str
    stylized: str
    group: str
    size: tuple[int, int]
    """(width, height) in pixels."""
    values: dict[str, float]
    photo_style: float
    """Style distance of the photograph itself."""
    features: dict[str, NDArray[np.float32]] = field(repr=False, default_factory=dict)
    """Pooled features of result and artwork: fid768, fid768_style, fid, fid_style."""
    photo_uneven32: float = 0.0
    """``uneven32`` of the photograph itself."""


def key_of(pair: Pair) -> str:
    """Return a key of a pair, computed from the content of its files."""
    files = [pair.content, pair.style, pair.stylized, *([pair.artwork] if pair.artwork else [])]
    hashes = [_hash(path, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:24]


@lru_cache(maxsize=4096)
def _hash(path: Path, _changed: int) -> str:
    return sha256_of(path)


def to_line(key: str, row: Row) -> str:
    """Serialize a row as one line of JSON."""
    features = {name: base64.b64encode(values.tobytes()).decode() for name, values in row.features.items()}
    return json.dumps({"key": key, **asdict(replace(row, features={})), "features": features}) + "\n"


def _from_line(record: dict[str, Any]) -> Row:
    features = {
        name: np.frombuffer(base64.b64decode(text), np.float32)
        for name, text in record.pop("features").items()
    }
    record.pop("key")
    return Row(**{**record, "size": tuple(record["size"]), "features": features})


def read_log(path: Path, identity: dict[str, Any]) -> dict[str, Row]:
    """Return the rows of a log by key; a truncated last line is dropped. Creates the file if missing.

    Raises InputError for a damaged log, or one of another identity.
    """
    if not path.exists():
        path.write_text(json.dumps(identity) + "\n", encoding="utf-8")
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    try:
        found, records = json.loads(whole[0]), [json.loads(line) for line in whole[1:]]
        rows = {record["key"]: _from_line(record) for record in records}
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it to measure anew") from error
    if found != identity:
        raise InputError(
            f"{path} was measured with other networks or metrics; choose another folder, or remove it"
        )
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return rows
