"""Jobs that are broken off at a frame and resumed, and the content of their results."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from tests.clips import probe
from tests.conftest import IdentityGenerator

TEN = RenderOptions(part_frames=10)


class Breaking(IdentityGenerator):
    """Raises an error in place of frame ``at``."""

    def __init__(self, bundle: Any, error: BaseException, at: int) -> None:
        super().__init__(bundle)
        self.error, self.left = error, at

    def __call__(self, frames: Any, film_params: Any, canvas: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__call__(frames, film_params)


def stopped(
    source: Path, output: Path, bundle: Any, film: Any, error: BaseException, at: int
) -> BaseException:
    """A job that was broken off at a frame."""
    with pytest.raises(type(error)) as caught:
        render_file(source, output, Breaking(bundle, error, at), constant_plan(film), TEN)
    return caught.value


def go_on(source: Path, output: Path, bundle: Any, film: Any, options: RenderOptions = TEN) -> Any:
    generator = Breaking(bundle, RuntimeError(), 10**9)
    return render_file(source, output, generator, constant_plan(film), replace(options, resume=True))


def everything(path: Path) -> tuple[list[Fraction], list[bytes], list[Any]]:
    """Time and content of every decoded frame, and all sound packets."""
    with av.open(path) as container:
        frames: list[Any] = list(container.decode(video=0))
    contents = [frame.to_ndarray().tobytes() for frame in frames]
    return [frame.pts * frame.time_base for frame in frames], contents, probe(path).audio
