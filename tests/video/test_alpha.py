"""Transparent clips: kept where codec and container can, else said, and no tag that lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mst_deploy.jobs.options import RenderOptions
from mst_deploy.jobs.render_file import render_file
from mst_deploy.size import Size
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video.codecs import EncodeOptions
from mst_deploy.video.reader import VideoReader

FORMS = {
    ".webm": ("libvpx-vp9", "yuva420p"),
    ".mov": ("prores_ks", "yuva444p10le"),
    ".mkv": ("ffv1", "yuva444p"),
}


def write_transparent(path: Path) -> Path:
    """A ramp from transparent to opaque, left to right; a square in the middle is opaque."""
    codec, form = FORMS[path.suffix]
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, form
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(
                np.dstack([np.full((64, 96, 3), 128, np.uint8), ramp()]), "rgba"
            )
            container.mux(stream.encode(frame.reformat(format=form)))
        container.mux(stream.encode(None))
    return path


def ramp() -> Any:
    alpha = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None], 64, axis=0)
    alpha[24:40, 40:56] = 255
    return alpha


def alpha_of(path: Path) -> Any:
    """Alpha of the last frame, by another way than the reader's; None without any."""
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        context: Any = stream.codec_context
        if context.name == "vp9":
            context = av.CodecContext.create("libvpx-vp9", "r")
        frames: list[Any] = []
        for packet in container.demux(stream):
            frames += context.decode(packet if packet.size else None)
    if not any(component.is_alpha for component in frames[-1].format.components):
        return None
    return frames[-1].to_ndarray(format="rgba")[:, :, 3]


@pytest.mark.parametrize(
    ("source", "output", "codec"),
    [
        (".webm", "out.webm", None),
        (".webm", "out.mkv", "vp9"),
        (".mov", "out.mov", "prores"),
        (".mov", "out.webm", None),
        (".mkv", "out.mkv", "ffv1"),
        (".mkv", "out.mov", "prores"),
    ],
)
def test_transparency_is_kept(
    source: str, output: str, codec: str | None, tmp_path: Path, identity: Any, film: Any
) -> None:
    given = write_transparent(tmp_path / f"in{source}")
    options = RenderOptions(encode=EncodeOptions(codec), part_frames=2)
    result = render_file(given, tmp_path / output, identity, constant_plan(film), options)
    assert not any("transparen" in loss for loss in result.not_kept)
    found = alpha_of(tmp_path / output)
    assert found is not None
    assert np.abs(found.astype(int) - ramp()).mean() < 4


def test_animations_keep_it_too(tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_transparent(tmp_path / "in.webm")
    for name in ("out.gif", "out.webp"):
        result = render_file(source, tmp_path / name, identity, constant_plan(film))
        assert not any("transparen" in loss for loss in result.not_kept)
    found = alpha_of(tmp_path / "out.gif")
    assert np.abs(found.astype(int) - np.where(ramp() >= 128, 255, 0)).mean() < 10
    done, animation = cv2.imreadanimation(str(tmp_path / "out.webp"))
    assert done
    assert np.abs(animation.frames[-1][:, :, 3].astype(int) - ramp()).mean() < 4
    with VideoReader(tmp_path / "out.gif") as reader:
        assert reader.info.alpha
        assert next(iter(reader)).alpha is not None


def test_it_is_scaled_with_the_picture(tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_transparent(tmp_path / "in.webm")
    render_file(
        source, tmp_path / "out.webm", identity, constant_plan(film), RenderOptions(size=Size.parse("48x32"))
    )
    found = alpha_of(tmp_path / "out.webm")
    assert np.abs(found.astype(int) - cv2.resize(ramp(), (48, 32), interpolation=cv2.INTER_AREA)).mean() < 5


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.y4m", "out%d.png"])
def test_where_it_is_lost_this_is_said(name: str, tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_transparent(tmp_path / "in.webm")
    result = render_file(source, tmp_path / name, identity, constant_plan(film))
    assert any("transparency" in loss for loss in result.not_kept)
    with VideoReader(tmp_path / name) as reader:
        assert not reader.info.alpha
        assert "alpha_mode" not in {word.lower() for word in reader.stream.metadata}


def test_an_opaque_gif_is_not_called_transparent(
    small_clip: Path, tmp_path: Path, identity: Any, film: Any
) -> None:
    render_file(small_clip, tmp_path / "in.gif", identity, constant_plan(film))
    with VideoReader(tmp_path / "in.gif") as reader:
        assert not reader.info.alpha
