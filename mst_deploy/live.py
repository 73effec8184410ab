"""Live video: a source, a model and sinks, joined by a pipeline in which the newest frame wins.

with mst.open_live("camera", "virtual-camera", style="udnie", fps=25) as live:
    live.style("zodiac", fade=1.0)
    print(live.stats())
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mst_deploy.backends.registry import AUTO
from mst_deploy.errors import InvalidArgument, OutputError
from mst_deploy.images.files import save_image
from mst_deploy.pipeline.events import Note
from mst_deploy.pipeline.live import LivePipeline
from mst_deploy.pipeline.live_counts import LiveReport
from mst_deploy.pipeline.live_options import LiveOptions
from mst_deploy.pipeline.live_size import SizePolicy, even, sizes_for
from mst_deploy.pipeline.live_style import LiveStyle
from mst_deploy.size import Size
from mst_deploy.styles.resolve import encode_film
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline
from mst_deploy.stylizer import Name, Stylizer
from mst_deploy.video.capture import TestPattern, open_live_source
from mst_deploy.video.info import Image
from mst_deploy.video.latency import LatencyReader, LatencyReport
from mst_deploy.video.live_encoding import PIPE, EncodedSink
from mst_deploy.video.live_sink import SinkSettings
from mst_deploy.video.live_sinks import live_sink_spec, open_live_sink
from mst_deploy.video.live_sound import Sound
from mst_deploy.video.live_source import CaptureOptions, hidden

if TYPE_CHECKING:
    from mst_deploy.video.live_source import LiveSource

T = TypeVar("T")
TICK = 0.1  # seconds between checks whether Ctrl-C was pressed


class LiveSession(ExitStack):
    """An opened source, opened sinks and the pipeline between them.

    :meth:`run` stylizes in the caller's thread, :meth:`start` in one of its own. Styles and strength may be
    changed meanwhile, from any thread.
    """

    def __init__(
        self,
        stylizer: Stylizer,
        source: str,
        sinks: Sequence[str],
        timeline: Timeline,
        options: LiveOptions | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Read every style of the timeline, open the source and then the sinks.

        Styles at time 0 are shown first, later ones can be chosen. The stylizer stays the caller's. Raises
        InputError, OutputError, InvalidArgument, BundleError, BackendError.
        """
        super().__init__()
        options = options or LiveOptions()
        self.sinks: dict[str, Any] = {}
        check_sinks(sinks, source)
        with ExitStack() as unless_it_fails:
            wanted = Size.parse(options.size) if options.size else Size()
            self.stylizer = stylizer
            style = first_style(stylizer, timeline)
            hear = self._hear if options.audio else None
            capture = CaptureOptions(options.loop, options.retry, on_note, hear)
            self.source: LiveSource = unless_it_fails.enter_context(
                interruptible(lambda: open_live_source(source, capture))
            )
            info = self.source.info
            painted = even(*wanted.applied(info.width, info.height))
            policy = None
            if options.fps is not None:
                least = max(stylizer.manifest.min_size, options.min_size)
                policy = SizePolicy(sizes_for(info.width, info.height, least), options.fps)
            rate = info.rate if options.fps is None else Fraction(options.fps).limit_denominator(1001)
            self.has_sound = options.audio and bool(info.audio)
            if options.max_fps is not None:
                rate = min(rate, Fraction(options.max_fps).limit_denominator(1001))
            shown = painted
            if options.sink_size is not None:
                shown = even(*Size.parse(options.sink_size).applied(*painted))
            settings = SinkSettings(*shown, rate, options.force, self.has_sound)
            for name in sinks:
                sink = open_live_sink(name, settings)
                unless_it_fails.push(lambda *error, sink=sink: _abandoned(sink, error[1]))
                self.sinks[hidden(name)] = sink
            self.names = list(sinks)
            self.readers: dict[str, LatencyReader] = {}
            self.pipeline = LivePipeline(
                self.source.pictures,
                self.sinks,
                stylizer.backend,
                style,
                painted,
                policy=policy,
                max_fps=options.max_fps,
                similar=options.similar,
                on_event=lambda event: on_note(event.text) if isinstance(event, Note) else None,
            )
            self.push(unless_it_fails.pop_all())

    def run(self, seconds: float | None = None) -> LiveReport:
        """Stylize until the source ends, ``seconds`` have passed or :meth:`stop`: ``LivePipeline.run``."""
        return self.pipeline.run(seconds)

    def stop(self) -> None:
        """End soon and in order; may be called from a signal handler."""
        self.pipeline.stop()

    def stats(self) -> LiveReport:
        """Return the present counts and delays; may be called from any thread."""
        return self.pipeline.report()

    def _hear(self, sound: Sound) -> None:
        for sink in self.sinks.values():
            if isinstance(sink, EncodedSink):
                sink.hear(sound)

    def hints(self) -> list[str]:
        """Return how to see the result of each sink."""
        return [sink.hint for sink in self.sinks.values() if sink.hint]

    def snapshot(self, folder: Path) -> Path:
        """Save the picture painted last as a PNG of a new name, and return its path. Raises OutputError."""
        image = self.picture()
        number = 1
        while (path := folder / f"mst-{number:03d}.png").exists():
            number += 1
        save_image(path, image)
        return path

    def picture(self) -> Image:
        """Return the picture painted last, (H, W, 3) uint8. Raises OutputError before there is one."""
        if self.pipeline.newest is None:
            raise OutputError("nothing has been painted yet; try again")
        return self.pipeline.newest.image

    def read_back(self) -> None:
        """Start reading back the frame counter from the output of the sinks; needs the source ``test``."""
        assert isinstance(self.source, TestPattern)
        for name in self.names:
            self.readers[name] = LatencyReader(name, self.sinks[hidden(name)], self.source.shown)

    def latency(self) -> Mapping[str, LatencyReport]:
        """Return the report of the reader of each sink, by name, after the end."""
        return {name: reader.finish() for name, reader in self.readers.items()}

    @property
    def active_style(self) -> LiveStyle:
        """The style of the frames from now on. A timeline or a style can be assigned as well; its times count
        from now, and its pictures are read first, while the old style goes on."""
        return self.pipeline.active_style

    @active_style.setter
    def active_style(self, style: LiveStyle | Timeline | Name) -> None:
        if not isinstance(style, LiveStyle):
            timeline = style if isinstance(style, Timeline) else Timeline((StyleKey(str(style)),))
            style = LiveStyle.of(_plan(self.stylizer, timeline), time.monotonic())
        self.pipeline.active_style = style

    def style(self, name: str, *, fade: float = 0.0, strength: float | None = None) -> None:
        """Change to a style, in ``fade`` seconds. One that was not read before is read first, while the old
        one goes on. Raises InputError, BundleError, InvalidArgument."""
        plan = self.active_style.plan
        if name not in plan.film_params:
            read = self.stylizer.style(name)
            plan = replace(
                plan,
                film_params={**plan.film_params, name: read.film},
                defaults={**plan.defaults, name: (read.strokes, read.stroke_size)},
            )
        active = self.active_style
        active = replace(
            active, plan=replace(active.plan, film_params=plan.film_params, defaults=plan.defaults)
        )
        self.pipeline.active_style = active.with_style(name, time.monotonic(), fade, strength)


@contextmanager
def open_live(
    source: str,
    *sinks: str,
    style: Name | Timeline,
    styles: Sequence[str] = (),
    model: Name | None = None,
    backend: str = AUTO,
    device: str = "auto",
    precision: str = AUTO,
    threads: int | None = None,
    on_note: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Iterator[LiveSession]:
    """Stylize live video in a thread while the block runs.

    ``source`` and ``sinks`` are named as for ``mst live``; ``styles`` are read at the start in addition to
    ``style``; ``options`` are those of :class:`LiveOptions`. At the end of the block, sinks are finished, and
    the error that ended the run before, if there was one, is raised: InputError, OutputError, BackendError.
    """
    timeline = style if isinstance(style, Timeline) else Timeline((StyleKey(str(style)),))
    more = tuple(StyleKey(name, Fraction(1)) for name in styles if name not in timeline.names)
    timeline = replace(timeline, styles=(*timeline.styles, *more))
    with (
        Stylizer(model, backend=backend, device=device, precision=precision, threads=threads) as stylizer,
        LiveSession(
            stylizer, source, sinks or ("null",), timeline, LiveOptions(**options), on_note
        ) as session,
    ):
        errors: list[BaseException] = []

        def run() -> None:
            try:
                session.run()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="live", daemon=True)
        thread.start()
        try:
            yield session
        finally:
            session.stop()
            thread.join()
        if errors:
            raise errors[0]


def first_style(stylizer: Stylizer, timeline: Timeline) -> LiveStyle:
    """Read every style of a timeline and return those that are shown at time 0."""
    shown = tuple(key for key in timeline.styles if key.time == 0)
    plan = _plan(stylizer, timeline)
    return LiveStyle.of(replace(plan, timeline=replace(timeline, styles=shown)), time.monotonic())


def _plan(stylizer: Stylizer, timeline: Timeline) -> Any:
    """Return the plan of a timeline whose strength may fall below 1 later: it can read the content's own
    vector."""
    plan = stylizer.plan(replace(timeline, strength=(StrengthKey(1.0),)))
    encoder = None if timeline.always_full else stylizer.encoder()
    return replace(
        plan, timeline=timeline, read=lambda image: encode_film(encoder or stylizer.encoder(), image)
    )


def check_sinks(names: Sequence[str], source: str = "") -> None:
    """Refuse names that mean no sink, names given twice, and a sink that is the source. Raises
    InvalidArgument."""
    for name in names:
        if name == source and name != PIPE:
            raise InvalidArgument(
                field="sinks", problem=f"{hidden(name)} is the source", hint="a sink must be another place"
            )
        live_sink_spec(name)
        if list(names).count(name) > 1:
            raise InvalidArgument(f"the sink {name} was given twice")


def interruptible(work: Callable[[], T]) -> T:
    """Run work that may block for seconds in FFmpeg in a thread, so that Ctrl-C works meanwhile."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="open", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(TICK)
    if errors:
        raise errors[0]
    return results[0]


def _abandoned(sink: Any, error: BaseException | None) -> bool:
    """Close a sink that the pipeline has not finished; do nothing for a finished one."""
    sink.abandon(error or OutputError("the run ended before"))
    return False
