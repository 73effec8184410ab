"""What the routes of the service do, without HTTP: pictures, sheets, styles, clips; one model for all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mst_deploy.contact_sheet import contact_sheet
from mst_deploy.images import Image, on_white, resize, resize_long_side
from mst_deploy.images.files import Picture, encode_picture
from mst_deploy.model.film import Style
from mst_deploy.pipeline.still import stylize_picture
from mst_deploy.serve.children import Child, ClipFacts, ClipOrder, Parent, PictureDecoders
from mst_deploy.serve.jobs import Job, Jobs
from mst_deploy.serve.library import Library, unknown_style
from mst_deploy.serve.limits import Limits
from mst_deploy.serve.problems import Refused
from mst_deploy.serve.style_settings import StyleSettings, size_within
from mst_deploy.serve.turns import Kind, TurnBackend, Turns
from mst_deploy.styles.plan import StylePlan, load_plan
from mst_deploy.styles.resolve import encode_film
from mst_deploy.stylizer import Stylizer

T = TypeVar("T")
WORKERS = 2
"""Pictures in work at a time: one is decoded or encoded while the model works on the other."""
FIRST_FRAME, FACTS = "frame.jpg", "facts.json"
"""Files beside an uploaded clip."""
SWEEP = 60.0  # seconds between two removals of expired files


class Service:
    """A session of the model with what was uploaded and what is being made. A context manager."""

    def __init__(self, stylizer: Stylizer, folder: Path, limits: Limits | None = None) -> None:
        self.stylizer, self.limits = stylizer, limits or Limits()
        turns = Turns()
        self.live, self.picture, self.frames = (
            TurnBackend(stylizer.backend, turns, kind) for kind in (Kind.LIVE, Kind.PICTURE, Kind.CLIP)
        )
        self.library = Library(folder, self.limits)
        self.decoders = PictureDecoders(self.limits)
        self.jobs = Jobs(self.library, self.limits, self._order_of_job, self._parent)
        self.pool = ThreadPoolExecutor(WORKERS, "picture")
        self.clip_pool = ThreadPoolExecutor(1, "clip")
        """One at a time, because each starts a process."""
        self.camera_pool = ThreadPoolExecutor(self.limits.cameras, "camera")
        self.admitted = self.clips = self.cameras = 0
        self.seconds = 1.0
        """Mean time of the last pictures."""
        self.counts: Counter[str] = Counter()
        self.warm, self.closing = False, threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Service:
        self._stack.enter_context(self.library)
        self.jobs.start()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._stack.close()

    def close(self) -> None:
        """Stop all work; unfinished videos go on at the next start."""
        self.closing.set()
        self.jobs.close()
        self.pool.shutdown(cancel_futures=True)
        self.clip_pool.shutdown(cancel_futures=True)
        self.camera_pool.shutdown(cancel_futures=True)
        self.decoders.close()

    def warm_up(self) -> None:
        """Stylize a small gray picture, so that the first real one does not wait for the runtime."""
        style = next(iter(self.styles()), None)
        if style is not None:
            self.stylizer.image(np.full((64, 64, 3), 128, np.uint8), self.plan(StyleSettings((style,))))
        self.decoders.start()
        self.warm = True

    @property
    def ready(self) -> bool:
        """Return whether the model is warm and there is room in the queue."""
        return self.warm and not self.closing.is_set() and self.admitted < self.limits.queue

    async def in_line(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work on a picture in its turn. Raises Refused (429) when too many are waiting."""
        if self.admitted >= self.limits.queue + WORKERS:
            wait = max(1, round(self.admitted * self.seconds / WORKERS))
            raise Refused(429, f"{self.admitted} pictures are waiting already", "ask again", retry=wait)
        self.admitted += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)
        finally:
            self.admitted -= 1

    async def with_clip(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work that reads a clip, one after the other. Raises Refused (429) when too many are waiting."""
        if self.clips >= self.limits.jobs:
            raise Refused(429, f"{self.clips} clips are waiting already", "ask again", retry=10)
        self.clips += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.clip_pool, work, *arguments)
        finally:
            self.clips -= 1

    # Styles

    def styles(self) -> dict[str, Style]:
        """Return all styles by their ids, the shipped ones first; the id of those is their name."""
        shipped = {style.name: style for style in self.stylizer.styles()}
        return {**shipped, **self.library.styles(self.stylizer.manifest.model_id)}

    def style(self, identity: str) -> Style:
        """Return a shipped or uploaded style. Raises InvalidArgument; no file of that name is looked for."""
        shipped = {style.name: style for style in self.stylizer.styles()}
        found = shipped.get(identity) or self.library.style(identity)
        if found is None or found.model_id != self.stylizer.manifest.model_id:
            raise unknown_style(identity, list(shipped))
        return found

    def add_style(self, data: bytes, name: str) -> tuple[str, Style]:
        """Make a style of a picture file and keep it; return its id. Raises InputError, Refused."""
        self.library.require_space()
        sha256 = hashlib.sha256(data).hexdigest()
        film = encode_film(self.stylizer.encoder(), self.decoders.decode(data).image)
        style = Style(name, film, self.stylizer.manifest.model_id, sha256)
        self.library.add_style(sha256[:32], style)
        self.counts["styles"] += 1
        return sha256[:32], style

    def plan(self, settings: StyleSettings) -> StylePlan:
        """Read the styles that settings name. Raises InvalidArgument."""
        stylizer = self.stylizer
        return load_plan(settings.timeline(), stylizer.manifest, stylizer.encoder, read_style=self.style)

    # Pictures

    def stylize(self, data: bytes, settings: StyleSettings, size: str, suffix: str) -> bytes:
        """Stylize a picture file -> the content of one of another kind. Raises InputError, InvalidArgument.

        ``suffix`` "" is that of JPEG, or of PNG for a picture with transparency.
        """
        started = time.monotonic()
        plan = self.plan(settings)
        picture = self._sized(self.decoders.decode(data), size)
        stylized = stylize_picture(picture.image, self.picture, plan)
        content = encode_picture(
            suffix or (".jpg" if picture.alpha is None else ".png"), stylized, picture.alpha
        )
        self.seconds += 0.2 * (time.monotonic() - started - self.seconds)
        self.counts["pictures"] += 1
        return content

    def _sized(self, picture: Picture, size: str) -> Picture:
        high, wide = picture.image.shape[:2]
        width, height = size_within(size, wide, high, self.limits.picture_pixels)
        alpha = None if picture.alpha is None else resize(picture.alpha, width, height)
        return replace(picture, image=resize(picture.image, width, height), alpha=alpha)

    def small(self, data: bytes, long_side: int) -> Image:
        """Decode a picture for a sheet: on white, with a long side of so many pixels. Raises InputError."""
        picture = self.decoders.decode(data)
        image = resize_long_side(picture.image, long_side)
        return on_white(image, None if picture.alpha is None else resize_long_side(picture.alpha, long_side))

    def stylize_small(self, image: Image, settings: StyleSettings) -> Image:
        """Stylize one cell of a sheet."""
        self.counts["cells"] += 1
        return stylize_picture(image, self.picture, self.plan(settings))

    @staticmethod
    def encode(image: Image) -> bytes:
        """Return a picture as JPEG."""
        return encode_picture(".jpg", image)

    def sheet(self, data: bytes, rows: dict[str, StyleSettings], long_side: int, suffix: str) -> bytes:
        """Return the content of a picture file that shows a picture in several styles, as ``mst sheet``.

        The keys of ``rows`` are the labels.
        """
        image = self.small(data, long_side)
        cells = [image, *(self.stylize_small(image, settings) for settings in rows.values())]
        return encode_picture(suffix, contact_sheet(cells, ["source", *rows]))

    # Clips

    def in_child(self, task: str, *arguments: Any, patience: float, parent: Parent | None = None) -> Any:
        """Run a task on a clip in a process of its own."""
        child = Child(self.limits.child_memory)
        try:
            return child.run(task, *arguments, patience=patience, parent=parent)
        finally:
            child.close()

    def accept_clip(self, path: Path) -> ClipFacts:
        """Check an uploaded clip, and keep its facts and first frame beside it. Raises InputError."""
        patience = self.limits.decode_seconds
        facts, frame = self.in_child("probe", path, self.limits, patience=patience)
        path.with_name(FIRST_FRAME).write_bytes(encode_picture(".jpg", frame))
        path.with_name(FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")
        self.counts["clips"] += 1
        accepted: ClipFacts = facts
        return accepted

    def previews(
        self, path: Path, times: list[Fraction], settings: StyleSettings, size: str, deflicker: bool
    ) -> list[bytes]:
        """Return stills of the result as JPEG, earliest first. Raises InputError, InvalidArgument."""
        order = self._order(settings, size, deflicker)
        stills = self.in_child(
            "preview",
            path,
            sorted(times),
            order,
            self.limits,
            patience=self.limits.stuck_seconds,
            parent=self._parent(),
        )
        return [encode_picture(".jpg", still) for still in stills]

    def add_job(self, clip: str, settings: StyleSettings, size: str, deflicker: bool) -> Job:
        """Put a video in line. Raises Refused, InvalidArgument, InputError."""
        self.library.require_space()
        self.plan(settings)  # a wrong style is refused now
        path = self.library.clip(clip)
        facts = ClipFacts(**json.loads(path.with_name(FACTS).read_text(encoding="utf-8")))
        size_within(size, facts.width, facts.height, self.limits.clip_pixels)
        return self.jobs.add(clip, settings.values(), size, deflicker, facts.frames)

    def _order_of_job(self, job: Job) -> ClipOrder:
        return self._order(StyleSettings.of(job.settings), job.size, job.deflicker)

    def _order(self, settings: StyleSettings, size: str, deflicker: bool) -> ClipOrder:
        plan, backend = replace(self.plan(settings), read=None), self.frames
        return ClipOrder(plan, backend.manifest, backend.name, backend.device, size, deflicker)

    def _parent(self) -> Parent:
        def encode(image: Image) -> Any:
            return encode_film(self.stylizer.encoder(), image)

        return Parent(self.frames, encode, canceled=self.closing.is_set)

    def _sweep(self) -> None:
        while not self.closing.wait(SWEEP):
            self.library.expire(self.jobs.in_use)
            self.jobs.forget_deleted()

    def metrics(self) -> str:
        """Return counts as Prometheus text."""
        lines = [f'mst_work_total{{kind="{kind}"}} {count}' for kind, count in sorted(self.counts.items())]
        lines += [f'mst_jobs{{state="{state}"}} {count}' for state, count in self.jobs.counts().items()]
        lines += [
            f"mst_pictures_waiting {self.admitted}",
            f"mst_picture_seconds {self.seconds:.3f}",
            f"mst_cameras {self.cameras}",
        ]
        return "\n".join(lines) + "\n"
