"""The command ``mst live``: from a camera, a stream or a file to a window, a stream, a virtual camera."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mst_deploy.cli.job import PreserveOption, parsed_by
from mst_deploy.cli.keys import pressed_keys
from mst_deploy.cli.live_control import controlled
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    StrengthOption,
)
from mst_deploy.errors import InvalidArgument, MstError, OutputError
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline

if TYPE_CHECKING:
    from mst_deploy.pipeline.live import LivePipeline, LiveReport, Look
    from mst_deploy.stylizer import Stylizer
    from mst_deploy.video.capture import CaptureOptions, LiveSource
    from mst_deploy.video.latency import LatencyReport

T = TypeVar("T")
TICK = 0.1  # seconds between checks whether Ctrl-C was pressed
STEP = 0.1  # of strength, for the keys + and -
KEYS = "keys: 1-9 choose a style, 0 shows the source, + - change the strength, q ends"


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="camera[:N or :NAME], screen[:N], udp:// tcp:// rtmp:// rtsp:// http://, a file, or "
            "test[:WxH@FPS], a moving picture with a frame counter.",
            show_default=False,
        ),
    ] = None,
    sinks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SINK...]",
            help="window, virtual-camera[:DEVICE], udp:// tcp:// rtmp:// rtsp://, a file (.mp4, .mov, .mkv, "
            ".ts), mjpeg:[HOST:]PORT, or null. Several at once. Default: window, where one can be shown.",
            show_default=False,
        ),
    ] = None,
    style: Annotated[
        list[StyleKey] | None,
        typer.Option(
            "--style",
            "-s",
            metavar="STYLE[=WEIGHT]",
            parser=parsed_by(StyleKey.parse),
            help="An image, a style file, or the name of a shipped style (see: mst style list). Repeat it to "
            "mix styles by weight.",
            show_default=False,
        ),
    ] = None,
    styles: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Styles to change to with the keys 1 to 9. All are read at the start."
        ),
    ] = None,
    fade: Annotated[
        float, typer.Option(min=0, help="Seconds in which one style goes over into the next.")
    ] = 0.0,
    strength: StrengthOption = 1.0,
    preserve_color: PreserveOption = False,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second to keep: the stylized picture gets smaller where the machine is too "
            "slow, and larger again, at most once in 5 s."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Size to stylize at: WIDTHxHEIGHT, or the short side. Default: as the source."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so many seconds.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again at its end.")] = False,
    retry: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a source that is gone, until giving up.")
    ] = 30.0,
    control: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Change style and strength over HTTP while it runs: PATCH /v1/live on 127.0.0.1; GET "
            "returns the counts.",
        ),
    ] = None,
    latency_test: Annotated[
        bool,
        typer.Option(
            "--latency-test",
            help="With the source test: read the frame counter back from what each sink sends, and report "
            "the true delay.",
        ),
    ] = False,
    list_devices: Annotated[
        bool, typer.Option("--list", help="List the cameras and screens of this machine.")
    ] = False,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize live video: the newest frame is stylized, older ones are dropped, so the delay never grows.

    Ends with q, Ctrl-C, --seconds or the source, and reports the numbers and delays of the frames.
    """
    from mst_deploy.cli.console import echo, print_result
    from mst_deploy.video.capture import CaptureOptions

    if list_devices:
        return _list(as_json=as_json)
    if source is None:
        raise typer.BadParameter("name a source, for example: mst live camera window", param_hint="SOURCE")
    names = _sink_names(sinks or [])
    timeline = _timeline(style, styles, strength, preserve_color)
    if latency_test:
        _check_latency_test(source, names)
    if fps is not None and size is not None:
        raise InvalidArgument("--fps chooses the size and --size fixes it; leave out one of them")
    on_note = _note_printer(quiet)
    model_of = {"model": model, "backend": backend, "device": device}
    capture = CaptureOptions(loop, retry, on_note=on_note)
    with _Session(source, names, timeline, model_of, fps, size, capture, force=force) as run:
        if latency_test:
            run.read_back()
        for hint in run.hints():
            echo(hint, quiet=quiet)
        controls = _Controls(run.live, tuple(dict.fromkeys(key.style for key in timeline.styles)), fade)
        error: MstError | None = None
        with ExitStack() as around:
            if control is not None:
                port = around.enter_context(controlled(run.live, control))
                echo(f"control it at http://127.0.0.1:{port}/v1/live", quiet=quiet)
            around.enter_context(stopped_by_signals(run.live.stop))
            heard = around.enter_context(pressed_keys(controls.press))
            if heard:
                echo(KEYS, quiet=quiet)
            with _status_line(run.live, shown=not quiet and sys.stderr.isatty()):
                try:
                    run.live.run(seconds)
                except MstError as failed:
                    error = failed
        report, latency = run.live.report(), run.latency()
    if report.captured or error is None:
        print_result(_summary(report, latency), _values(report, latency), as_json=as_json, quiet=quiet)
    if error is not None:
        raise error


class _Session(ExitStack):
    """The model, the source, the sinks and the pipeline of one run."""

    def __init__(
        self,
        source: str,
        names: list[str],
        timeline: Timeline,
        model: dict[str, Any],
        fps: float | None,
        size: str | None,
        capture: CaptureOptions,
        *,
        force: bool,
    ) -> None:
        super().__init__()
        from mst_deploy.pipeline.events import Note
        from mst_deploy.pipeline.live import LivePipeline
        from mst_deploy.pipeline.live_size import SizePolicy, even, sizes_for
        from mst_deploy.size import Size
        from mst_deploy.stylizer import Stylizer
        from mst_deploy.video.capture import hidden, open_live_source
        from mst_deploy.video.live_sinks import SinkSettings, open_live_sink

        with ExitStack() as unless_it_fails:
            wanted = Size.parse(size) if size else Size()
            stylizer = unless_it_fails.enter_context(Stylizer(**model))
            look = _look(stylizer, timeline)
            self.source: LiveSource = unless_it_fails.enter_context(
                interruptible(lambda: open_live_source(source, capture))
            )
            info = self.source.info
            painted = even(*wanted.applied(info.width, info.height))
            policy = None
            if fps is not None:
                least = max(stylizer.manifest.min_size, 180)
                policy = SizePolicy(sizes_for(info.width, info.height, least), fps)
            rate = info.rate if fps is None else Fraction(fps).limit_denominator(1001)
            settings = SinkSettings(*painted, rate, force)
            self.sinks: dict[str, Any] = {}
            for name in names:
                sink = open_live_sink(name, settings)
                unless_it_fails.push(lambda *error, sink=sink: _abandoned(sink, error[1]))
                self.sinks[hidden(name)] = sink
            self.names = names
            self.readers: dict[str, Any] = {}
            self.live: LivePipeline = LivePipeline(
                self.source.pictures,
                self.sinks,
                stylizer.backend,
                look,
                painted,
                policy=policy,
                on_event=lambda event: capture.on_note(event.text) if isinstance(event, Note) else None,
            )
            self.push(unless_it_fails.pop_all())

    def hints(self) -> list[str]:
        """Return how to see the result of each sink."""
        return [sink.hint for sink in self.sinks.values() if sink.hint]

    def read_back(self) -> None:
        """Start reading back the output of the sinks."""
        from mst_deploy.video.capture import TestPattern, hidden
        from mst_deploy.video.latency import LatencyReader

        assert isinstance(self.source, TestPattern)
        for name in self.names:
            self.readers[name] = LatencyReader(name, self.sinks[hidden(name)], self.source.shown)

    def latency(self) -> dict[str, LatencyReport]:
        """Return the report of the reader of each sink, by name."""
        return {name: reader.finish() for name, reader in self.readers.items()}


def _abandoned(sink: Any, error: BaseException | None) -> bool:
    """Close a sink that the pipeline has not finished; do nothing for a finished one."""
    sink.abandon(error or OutputError("the run ended before"))
    return False


def _look(stylizer: Stylizer, timeline: Timeline) -> Look:
    """Read every style and start with the requested ones."""
    from mst_deploy.pipeline.live import Look
    from mst_deploy.styles.resolve import encode_film

    plan = stylizer.plan(replace(timeline, strength=(StrengthKey(1.0),)))
    encoder = None if timeline.always_full else stylizer.encoder()
    shown = tuple(key for key in timeline.styles if key.time == 0)
    plan = replace(
        plan,
        timeline=replace(timeline, styles=shown),
        read=lambda image: encode_film(encoder or stylizer.encoder(), image),
    )
    return Look.of(plan, time.monotonic())


def _timeline(
    style: list[StyleKey] | None, styles: str | None, strength: float, preserve_color: bool
) -> Timeline:
    """Return a timeline with the initial styles at time 0 and those that can be chosen at time 1."""
    if any(key.time for key in style or []):
        raise InvalidArgument("live video has no timeline; leave out @TIME, and see --styles")
    choices = [name.strip() for name in (styles or "").split(",") if name.strip()]
    if len(choices) > 9:
        raise InvalidArgument(f"--styles has room for 9, one for each key; got {len(choices)}")
    begin = list(style or []) or [StyleKey(name) for name in choices[:1]]
    if not begin:
        raise typer.BadParameter("name a style", param_hint="--style")
    later = [StyleKey(name, Fraction(1)) for name in dict.fromkeys(choices)]
    return Timeline((*begin, *later), (StrengthKey(strength),), preserve_color=preserve_color)


def _sink_names(names: list[str]) -> list[str]:
    """Return the given sinks, or a window where one can be opened. Raises InvalidArgument."""
    from mst_deploy.video.live_sinks import KINDS, find_player, live_sink_spec

    if not names:
        if find_player() is None:
            raise InvalidArgument(f"name a sink; a window cannot be shown here. Known are: {KINDS}")
        return ["window"]
    for name in names:
        live_sink_spec(name)
        if names.count(name) > 1:
            raise InvalidArgument(f"the sink {name} was given twice")
    return names


def _check_latency_test(source: str, names: list[str]) -> None:
    from mst_deploy.video.latency import READABLE, can_be_read

    if source.partition(":")[0] != "test":
        raise InvalidArgument("--latency-test needs the source test, whose frames have a counter")
    for name in names:
        if not can_be_read(name):
            raise InvalidArgument(f"--latency-test cannot read back from {name}; use {READABLE}")


class _Controls:
    """Actions of keys."""

    def __init__(self, live: LivePipeline, choices: tuple[str, ...], fade: float) -> None:
        self.live, self.choices, self.fade = live, choices, fade
        self.before = 1.0

    def press(self, key: str) -> None:
        """Replace the look, or stop."""
        now, look = time.monotonic(), self.live.look
        if key == "q":
            self.live.stop()
        elif key.isdigit() and key != "0" and int(key) <= len(self.choices):
            self.live.look = look.with_style(self.choices[int(key) - 1], now, self.fade)
        elif key == "0":
            shown = look.strength(now)
            self.live.look = look.with_strength(self.before if shown == 0 else 0.0, now)
            self.before = shown or self.before
        elif key in "+-":
            changed = look.strength(now) + (STEP if key == "+" else -STEP)
            self.live.look = look.with_strength(min(1.0, max(0.0, round(changed, 3))), now)
        elif key == "?":
            print(f"\n{KEYS}", file=sys.stderr)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM end the block in order; a second Ctrl-C interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _note_printer(quiet: bool) -> Callable[[str], None]:
    from mst_deploy.cli.console import echo

    return lambda text: echo(f"note: {text}", quiet=quiet)


@contextmanager
def _status_line(live: LivePipeline, *, shown: bool) -> Iterator[None]:
    """Show one line of status on the terminal, updated each second."""
    ended = threading.Event()

    def show() -> None:
        last = live.report()
        while not ended.wait(1.0):
            report = live.report()
            ages = [sink.age_ms["p50"] for sink in report.sinks.values() if sink.age_ms["p50"] is not None]
            delay = f", delay {max(ages):.0f} ms" if ages else ""
            print(
                f"\r{report.stylized - last.stylized} fps at {report.width}x{report.height}{delay}, "
                f"{sum(report.dropped.values())} of {report.captured} dropped\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )
            last = report
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, name="status", daemon=True)
    if shown:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if shown:
            thread.join()


def _summary(report: LiveReport, latency: dict[str, LatencyReport]) -> str:
    dropped = sum(report.dropped.values())
    lines = [
        f"{report.captured} frames captured in {report.seconds:.1f} s: {report.stylized} stylized "
        f"({report.fps:.1f} fps, {report.width}x{report.height}), {dropped} dropped, "
        f"{report.in_flight} unfinished"
    ]
    for name, sink in report.sinks.items():
        late = f", {sink.dropped} dropped" if sink.dropped else ""
        ended = f"; {sink.error}" if sink.error else ""
        lines.append(f"{name}: {sink.written} frames{late}, delay {_percentiles(sink.age_ms)}{ended}")
    for name, read in latency.items():
        what = f"{read.read} counters read back, {read.unreadable} unreadable"
        delay = "" if read.delay_ms["p50"] is None else f", true delay {_percentiles(read.delay_ms)}"
        lines.append(f"{name}: {what}{delay}")
    return "\n".join(lines)


def _percentiles(values: dict[str, float | None]) -> str:
    if values["p50"] is None:
        return "unknown"
    return f"{values['p50']:.0f} ms (p95 {values['p95']:.0f}, p99 {values['p99']:.0f})"


def _values(report: LiveReport, latency: dict[str, LatencyReport]) -> dict[str, Any]:
    values = asdict(report) | {"seconds": round(report.seconds, 3), "fps": round(report.fps, 3)}
    if latency:
        values["latency"] = {name: asdict(read) for name, read in latency.items()}
    return values


def _list(*, as_json: bool) -> None:
    from mst_deploy.cli.console import print_result
    from mst_deploy.video.capture import devices

    found = devices()
    lines, counts = [], {"camera": 0, "screen": 0}
    for each in found:
        lines.append(f"{each.kind}:{counts[each.kind]}  {each.name}")
        counts[each.kind] += 1
    text = "\n".join(lines) or "no camera and no screen found on this machine"
    print_result(text, {"devices": [asdict(each) for each in found]}, as_json=as_json)
