"""Limits of the service, so that no request takes the machine away from the others."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000
GB = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """What one client may ask for. Times are in seconds."""

    picture_bytes: int = 50 * MB
    clip_bytes: int = 2 * GB
    picture_pixels: int = 50_000_000
    picture_side: int = 16384
    """Longest side of a picture in pixels."""
    clip_pixels: int = 4096 * 2304
    clip_seconds: float = 600.0
    clip_frames: int = 20_000
    previews: int = 8
    """Stills of one clip in one request."""
    queue: int = 16
    """Pictures that may wait for the model."""
    jobs: int = 20
    """Videos that may wait."""
    cameras: int = 4
    """Cameras that are stylized at a time."""
    camera_side: int = 1920
    """Longest side of a camera's picture in pixels."""
    camera_bytes: int = 2 * MB
    """Size of one picture of a camera."""
    camera_silence: float = 30.0
    """Seconds without a picture after which a camera is disconnected."""
    connections: int = 64
    head_bytes: int = 16384
    """Size of the header of a request."""
    head_seconds: float = 30.0
    """Seconds for the header of a request to arrive."""
    stalled_seconds: float = 5.0
    """Seconds after which a client that takes, or sends, nothing is disconnected."""
    lowest_rate: float = 10_000.0
    """Bytes per second that a client must send on average."""
    keep: float = 3600.0
    """Seconds that uploads, results and styles are kept after their last use."""
    quota: int = 10 * GB
    """Bytes of all files of the service."""
    decode_seconds: float = 30.0
    """Seconds for one picture to be decoded."""
    stuck_seconds: float = 120.0
    """Seconds in which a video job must get at least one frame further."""
    child_memory: int = 4 * GB
    """Address space of a process that decodes."""
