"""The command ``mst live``: from a camera, a stream or a file to a window, a stream, a virtual camera."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import typer

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli.job import report_choice
from mst_deploy.cli.keys import pressed_keys
from mst_deploy.cli.live_keys import KEYS, LiveKeys
from mst_deploy.cli.live_output import list_devices, status_line, summary, values
from mst_deploy.cli.options import MessageOptions
from mst_deploy.errors import InvalidArgument, MstError
from mst_deploy.options import INPUT_OUTPUT, MESSAGES, MODEL, STYLE, Option
from mst_deploy.pipeline.live_options import LiveOptions
from mst_deploy.styles.options import PreserveColor
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline


@dataclass(frozen=True)
class SourceOptions:
    """What to stylize, where to show it, and how it is controlled."""

    source: Annotated[
        str | None,
        Option(
            "camera[:N or :NAME], screen[:N], udp:// tcp:// rtmp:// rtsp:// http://, a file, - "
            "(standard input), or test[:WxH@FPS], a moving picture with a frame counter.",
            metavar="SOURCE",
            positional=True,
        ),
    ] = None
    sinks: Annotated[
        tuple[str, ...],
        Option(
            "window, virtual-camera[:DEVICE], udp:// tcp:// rtmp:// rtsp://, a file (.mp4, .mov, .mkv, .ts), "
            "mjpeg:[HOST:]PORT, - (MPEG-TS), or null. Several at once. Default: window, where one can be "
            "shown.",
            metavar="[SINK...]",
            positional=True,
        ),
    ] = ()
    seconds: Annotated[float | None, Option("End after so many seconds.", INPUT_OUTPUT, minimum=0)] = None
    control: Annotated[
        str | None,
        Option(
            "Change style and strength over HTTP while it runs, on this machine: GET and PATCH /v1/live, "
            "/v1/live/events, /v1/live/preview.mjpeg, POST /v1/live/snapshot.",
            INPUT_OUTPUT,
            metavar="[HOST:]PORT",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Option(
            "Threads of the model: fewer leave more to other programs. onnxrt, openvino.", MODEL, minimum=1
        ),
    ] = None
    latency_test: Annotated[
        bool,
        Option(
            "With the source test: read the frame counter back from what each sink sends, and report the "
            "true delay.",
            MESSAGES,
        ),
    ] = False
    devices: Annotated[
        bool, Option("List the cameras, virtual cameras and screens of this machine.", MESSAGES)
    ] = False


@dataclass(frozen=True)
class LiveStyleOptions:
    """The styles at the start, and those that can be chosen with keys."""

    style: Annotated[
        tuple[StyleKey, ...],
        Option(
            "An image, a style file, or the name of a shipped style (see: mst style list). Repeat it to mix "
            "styles by weight.",
            STYLE,
            metavar="STYLE[=WEIGHT]",
            parse=StyleKey.parse,
            letter="s",
        ),
    ] = ()
    styles: Annotated[
        tuple[str, ...],
        Option(
            "Styles to change to with the keys 1 to 9. All are read at the start.",
            STYLE,
            metavar="A,B,C",
            separator=",",
            parse=str.strip,
        ),
    ] = ()
    fade: Annotated[
        float, Option("Seconds in which one style goes over into the next.", STYLE, minimum=0)
    ] = 0.0
    strength: Annotated[
        float, Option("0 keeps the picture, 1 gives the full style.", STYLE, minimum=0.0, maximum=1.0)
    ] = 1.0
    preserve_color: PreserveColor = False

    def timeline(self) -> Timeline:
        """Return a timeline with the initial styles at time 0 and those that can be chosen at time 1.

        Raises InvalidArgument.
        """
        if any(key.time for key in self.style):
            raise InvalidArgument("live video has no timeline; leave out @TIME, and see --styles")
        choices = [name for name in self.styles if name]
        if len(choices) > 9:
            raise InvalidArgument(f"--styles has room for 9, one for each key; got {len(choices)}")
        begin = list(self.style) or [StyleKey(name) for name in choices[:1]]
        if not begin:
            raise typer.BadParameter("name a style", param_hint="--style")
        later = [StyleKey(name, Fraction(1)) for name in dict.fromkeys(choices)]
        return Timeline((*begin, *later), (StrengthKey(self.strength),), preserve_color=self.preserve_color)


def live(
    where: SourceOptions,
    style: LiveStyleOptions,
    options: LiveOptions,
    model: GeneratorOptions,
    messages: MessageOptions,
) -> None:
    """Stylize live video: the newest frame is stylized, older ones are dropped, so the delay never grows.

    Ends with q, Ctrl-C, --seconds or the source, and reports the numbers and delays of the frames.
    """
    from mst_deploy.cli.console import echo, print_result
    from mst_deploy.cli.live_control import controlled, parse_port  # here, because it loads a server
    from mst_deploy.live import LiveSession
    from mst_deploy.stylizer import Stylizer
    from mst_deploy.video.live_encoding import PIPE

    source, quiet = where.source, messages.quiet
    if where.devices:
        return list_devices(as_json=messages.as_json)
    if source is None:
        raise typer.BadParameter("name a source, for example: mst live camera window", param_hint="SOURCE")
    names = _sink_names(where.sinks)
    if PIPE in names and messages.as_json:
        raise InvalidArgument(
            field="as_json",
            problem="the sink - and [option:as_json] both write to the standard output",
            hint="leave out one of them",
        )
    timeline = style.timeline()
    if where.latency_test:
        _check_latency_test(source, names)
    on_note = _note_printer(quiet)
    with (
        Stylizer(
            model.model,
            backend=model.backend,
            device=model.device,
            precision=model.precision,
            threads=where.threads,
        ) as stylizer,
        LiveSession(stylizer, source, names, timeline, options, on_note) as session,
    ):
        live = session.pipeline
        if where.latency_test:
            session.read_back()
        report_choice(stylizer.choice, quiet=quiet)
        for hint in session.hints():
            echo(hint, quiet=quiet)
        keys = LiveKeys(session, tuple(dict.fromkeys(key.style for key in timeline.styles)), style.fade)
        error: MstError | None = None
        with ExitStack() as around:
            if where.control is not None:
                port = around.enter_context(controlled(live, parse_port(where.control)))
                echo(f"control it at http://127.0.0.1:{port}/v1/live", quiet=quiet)
            around.enter_context(stopped_by_signals(session.stop))
            heard = around.enter_context(pressed_keys(keys.press))
            if heard:
                echo(KEYS, quiet=quiet)
            with status_line(live, shown=not quiet and sys.stderr.isatty()):
                try:
                    session.run(where.seconds)
                except MstError as failed:
                    error = failed
        report, latency = session.stats(), session.latency()
    if PIPE in names:  # the standard output has the video
        echo(summary(report, latency), quiet=quiet)
    elif report.captured or error is None:
        found = values(report, latency) | {"backend": stylizer.backend_name, "device": stylizer.device}
        print_result(summary(report, latency), found, as_json=messages.as_json, quiet=quiet)
    if error is not None:
        raise error


def _sink_names(names: Sequence[str]) -> Sequence[str]:
    """Return the given sinks, or a window where one can be opened. Raises InvalidArgument."""
    from mst_deploy.live import check_sinks
    from mst_deploy.video.live_displays import find_player
    from mst_deploy.video.live_sinks import KINDS

    if not names:
        if find_player() is None:
            raise InvalidArgument(f"name a sink; a window cannot be shown here. Known are: {KINDS}")
        return ["window"]
    check_sinks(names)
    return names


def _check_latency_test(source: str, names: Sequence[str]) -> None:
    from mst_deploy.video.latency import READABLE, can_be_read

    if source.partition(":")[0] != "test":
        raise InvalidArgument("--latency-test needs the source test, whose frames have a counter")
    for name in names:
        if not can_be_read(name):
            raise InvalidArgument(f"--latency-test cannot read back from {name}; use {READABLE}")


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


def _note_printer(quiet: bool) -> Callable[[str], None]:
    from mst_deploy.cli.console import echo

    return lambda text: echo(f"note: {text}", quiet=quiet)
