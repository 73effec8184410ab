"""FFmpeg's filters for decoded pictures before conversion to RGB: deinterlacing and tone mapping."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

# Only frames that say they are interlaced are touched; one frame comes out for each that goes in.
DEINTERLACE = "mode=send_frame:parity=auto:deint=interlaced"
TO_SDR = "out_transfer=bt709:out_primaries=bt709:out_range=pc:intent=perceptual"
TRANSFER_NAMES = {16: "smpte2084", 18: "arib-std-b67"}
PRIMARIES_NAMES = {1: "bt709", 9: "bt2020", 11: "smpte431", 12: "smpte432"}


class Deinterlacer:
    """Deinterlacer by bwdif. Times and number of the frames stay."""

    def __init__(self) -> None:
        self.graph: Any = None
        self.kind: tuple[int, int, str] | None = None
        self.base = Fraction(1)

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Filter one frame (None at the end); yield the frames that are ready, one frame late."""
        if frame is not None and self.kind != _kind(frame):
            yield from self._drain()
            self._build(frame)
        if self.graph is None:
            return
        self.graph.push(frame)
        yield from self._pull()

    def _drain(self) -> Iterator[av.VideoFrame]:
        if self.graph is not None:
            self.graph.push(None)
            yield from self._pull()

    def _pull(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                ready = self.graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield self._restored(ready)

    def _build(self, frame: av.VideoFrame) -> None:
        assert frame.time_base is not None  # decoded frames have one
        self.base, self.kind = frame.time_base, _kind(frame)
        self.graph = _chain(frame, ("bwdif", DEINTERLACE))

    def _restored(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the frame with its time restored: the filter counts in halves of the time base."""
        assert frame.time_base is not None
        scale = frame.time_base / self.base
        if frame.pts is not None:
            frame.pts = int(frame.pts * scale)
        frame.duration = int((frame.duration or 0) * scale)
        frame.time_base = self.base
        return frame


def deinterlaced(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield deinterlaced frames; the filter starts at the first frame that is tagged as interlaced."""
    filter_: Deinterlacer | None = None
    for picture in pictures:
        if filter_ is None and not picture.interlaced_frame:
            yield picture
            continue
        filter_ = filter_ or Deinterlacer()
        yield from filter_.push(picture)
    if filter_ is not None:
        yield from filter_.push(None)


class ToneMapper:
    """Tone mapper from PQ or HLG to BT.709 RGB in 8 bits, by FFmpeg's perceptual mapping; uses the mastering
    display."""

    def __init__(self, transfer: int, primaries: int) -> None:
        self.args = (
            f"in_transfer={TRANSFER_NAMES[transfer]}:"
            f"in_primaries={PRIMARIES_NAMES.get(primaries, 'bt2020')}:{TO_SDR}"
        )
        self.graph: Any = None
        self.kind: tuple[int, int, str] | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the frame, tone-mapped, as rgb24."""
        if self.kind != _kind(frame):
            self.graph = _chain(frame, ("scale", self.args), ("format", "pix_fmts=rgb24"))
            self.kind = _kind(frame)
        self.graph.push(frame)
        mapped: av.VideoFrame = self.graph.pull()
        return mapped


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    """Return the properties that a graph depends on; damaged and spliced files change them in between."""
    return frame.width, frame.height, frame.format.name


def _chain(frame: av.VideoFrame, *filters: tuple[str, str]) -> Any:
    """Build a graph from frames like this one through the filters to a sink."""
    graph = av.filter.Graph()
    links = [_buffer(graph, frame), *(graph.add(name, args) for name, args in filters)]
    graph.link_nodes(*links, graph.add("buffersink")).configure()
    return graph


def _buffer(graph: Any, frame: av.VideoFrame) -> Any:
    return graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base),
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )


class Palettes:
    """Converter of RGB frames to 256 colors of their own, for GIF."""

    def __init__(self) -> None:
        self.graph: Any = None

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Filter one frame (None at the end); yield the frames that are ready."""
        if self.graph is None:
            if frame is None:
                return
            self.graph = self._built(frame)
        self.graph.push(frame)
        while True:
            try:
                yield self.graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return

    def _built(self, frame: av.VideoFrame) -> Any:
        graph = av.filter.Graph()
        source = _buffer(graph, frame)
        split = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single")
        use = graph.add("paletteuse", "new=1")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        return graph
