"""Handlers of events for tests: one kind of event goes to a function, the others nowhere."""

from __future__ import annotations

from collections.abc import Callable

from mst_deploy.pipeline.events import Event, FramesDone, Note, OnEvent


def frames_to(take: Callable[[int], object]) -> OnEvent:
    """Give the number of finished frames to a function, after each frame."""

    def on_event(event: Event) -> None:
        if isinstance(event, FramesDone):
            take(event.done)

    return on_event


def notes_to(take: Callable[[str], object]) -> OnEvent:
    """Give the text of each note to a function."""

    def on_event(event: Event) -> None:
        if isinstance(event, Note):
            take(event.text)

    return on_event
