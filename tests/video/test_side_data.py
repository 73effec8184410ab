"""Marks beside the pixels: kept where the file can say them, else said to be lost."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import pytest
from av.sidedata.sidedata import Type as SideData

from mst_deploy.errors import InputError
from mst_deploy.jobs.render_file import render_file
from mst_deploy.styles.plan import constant_plan
from mst_deploy.video import reader as reader_module
from mst_deploy.video.reader import VideoReader
from mst_deploy.video.side_data import is_dolby_vision_5
from tests.clips import Clip, write_clip
from tests.pictures import picture

CAPTION = bytes([0xB5, 0, 0x31, *b"GA94", 3, 0x41, 0xFF, 0xFC, 0x94, 0x20, 0xFF])
"""User data of ATSC A/53, part 4: one pair of CEA-608 bytes."""
SPHERICAL_ID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
SPHERICAL = (
    b'<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/"><GSpherical:Spherical>true'
    b"</GSpherical:Spherical><GSpherical:Stitched>true</GSpherical:Stitched><GSpherical:StitchingSoftware>"
    b"none</GSpherical:StitchingSoftware>"
    b"<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    b"</rdf:SphericalVideo>"
)


def write_captioned(path: Path) -> Path:
    """H.264 with captions in a message (SEI) of every frame but the first."""
    message = bytes([0, 0, 0, 1, 6, 4, len(CAPTION), *CAPTION, 0x80])
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"bf": "0"}
        frames = [av.VideoFrame.from_ndarray(picture(64, 48, n), "rgb24") for n in range(5)]
        for packet in (packet for frame in (*frames, None) for packet in stream.encode(frame)):
            data = bytes(packet)
            changed = av.Packet(data if packet.pts == 0 else message + data)
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.stream, changed.is_keyframe = stream, packet.is_keyframe
            container.mux(changed)
    return path


def write_spherical(path: Path) -> Path:
    """A uuid box in the track, as Google's Spherical Video V1 wants it."""
    data = write_clip(path, Clip(frames=3, audio=0)).read_bytes()
    moov, track = data.rindex(b"moov") - 4, data.rindex(b"trak") - 4
    box = struct.pack(">I", 24 + len(SPHERICAL)) + b"uuid" + SPHERICAL_ID + SPHERICAL
    sizes = {at: struct.unpack_from(">I", data, at)[0] for at in (moov, track)}
    end = track + sizes[track]
    made = bytearray(data[:end] + box + data[end:])
    for at, size in sizes.items():
        struct.pack_into(">I", made, at, size + len(box))
    path.write_bytes(made)
    return path


def test_captions_that_are_lost_are_said(tmp_path: Path, identity: Any, film: Any) -> None:
    source = write_captioned(tmp_path / "in.ts")
    with av.open(source) as container:
        frames: Any = container.decode(video=0)
        kinds = [SideData.A53_CC in [each.type for each in frame.side_data] for frame in frames]
    assert kinds == [False, True, True, True, True]  # the clip is what it says
    result = render_file(source, tmp_path / "out.mp4", identity, constant_plan(film))
    assert any("closed captions" in loss for loss in result.not_kept)


def test_360_degrees_that_are_lost_are_said(tmp_path: Path, identity: Any, film: Any) -> None:
    result = render_file(
        write_spherical(tmp_path / "in.mp4"), tmp_path / "out.mp4", identity, constant_plan(film)
    )
    assert any("360-degree" in loss for loss in result.not_kept)


@pytest.mark.parametrize("mode", ["left_right", "right_left", "top_bottom", "bottom_top"])
def test_stereo_is_kept_in_matroska(mode: str, tmp_path: Path, identity: Any, film: Any) -> None:
    source = tmp_path / "in.mkv"
    with av.open(source, "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["stereo_mode"] = mode
        for packet in stream.encode(av.VideoFrame.from_ndarray(picture(64, 48, 0), "rgb24")):
            container.mux(packet)
        container.mux(stream.encode(None))
    for name in ("out.mkv", "out.mp4"):
        result = render_file(source, tmp_path / name, identity, constant_plan(film))
        with VideoReader(tmp_path / name) as reader:
            assert reader.info.stereo_mode == (mode if name == "out.mkv" else None)
        assert any("stereo" in loss for loss in result.not_kept) == (name == "out.mp4")


def metadata(profile: int, full_range: int) -> bytes:
    """FFmpeg's AVDOVIMetadata: offsets of three parts, then the RPU's header."""
    header = struct.pack("=BxHBBBBBBBB", 2, 18, profile, 6, 0, 0, 23, 1, full_range, 10)
    return struct.pack("=5Qi4x", 48, 64, 80, 96, 0, 0) + header + bytes(64)


def test_dolby_vision_5_is_refused(small_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_dolby_vision_5(metadata(0, 1))
    assert not is_dolby_vision_5(metadata(1, 0))  # of profile 8, whose base layer is HDR10
    assert not is_dolby_vision_5(None)
    monkeypatch.setattr(
        reader_module,
        "side_data",
        lambda picture, kind: metadata(0, 1) if kind is SideData.DOVI_METADATA else None,
    )
    with pytest.raises(InputError, match=r"Dolby Vision of profile 5.*convert it"):
        VideoReader(small_clip)
