"""Events that a rendering reports while it runs. The command line turns them into a progress bar and
notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # stills need no PyAV
    from mst_deploy.video.info import VideoInfo


@dataclass(frozen=True)
class Started:
    """The input is open and no frame has been stylized yet."""

    info: VideoInfo
    """The video that will be written."""
    done: int
    """Frames that an earlier, unfinished run has written."""


@dataclass(frozen=True)
class FramesDone:
    """One more frame has been stylized."""

    done: int
    """Frames stylized so far, those of an earlier run included."""


@dataclass(frozen=True)
class Note:
    """A note to the user that is not an error."""

    text: str


Event = Started | FramesDone | Note
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing: the default handler."""
