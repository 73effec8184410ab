"""The command ``mst live``: from a camera, a stream or a file to a window, a stream, a virtual camera."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Annotated

import typer

from mst_deploy.backends.registry import AUTO
from mst_deploy.cli.job import PreserveOption, parsed_by, tell_choice
from mst_deploy.cli.keys import pressed_keys
from mst_deploy.cli.live_control import controlled, parse_port
from mst_deploy.cli.live_keys import KEYS, LiveKeys
from mst_deploy.cli.live_output import list_devices, status_line, summary, values
from mst_deploy.cli.options import (
    BackendOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    StrengthOption,
)
from mst_deploy.errors import InvalidArgument, MstError
from mst_deploy.styles.timeline import StrengthKey, StyleKey, Timeline


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="camera[:N or :NAME], screen[:N], udp:// tcp:// rtmp:// rtsp:// http://, a file, - "
            "(standard input), or test[:WxH@FPS], a moving picture with a frame counter.",
            show_default=False,
        ),
    ] = None,
    sinks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SINK...]",
            help="window, virtual-camera[:DEVICE], udp:// tcp:// rtmp:// rtsp://, a file (.mp4, .mov, .mkv, "
            ".ts), mjpeg:[HOST:]PORT, - (MPEG-TS), or null. Several at once. Default: window, where one can "
            "be shown.",
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
    min_size: Annotated[
        int, typer.Option(min=2, help="Short side in pixels that --fps does not go below.")
    ] = 180,
    sink_size: Annotated[
        str | None,
        typer.Option(help="Size of what sinks get, as --size. Default: the size that is stylized at."),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option(help="Drop pictures above so many a second, as soon as they come.")
    ] = None,
    similar: Annotated[
        float,
        typer.Option(
            help="Show the last painted picture again where the next one differs from its source by less "
            "than so many levels of 255, on average. 0 paints all."
        ),
    ] = 0.0,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of the model: fewer leave more to other programs. onnxrt, openvino."
        ),
    ] = None,
    audio: Annotated[
        bool,
        typer.Option("--audio/--no-audio", help="Send the sound of the source, in step with the pictures."),
    ] = True,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so many seconds.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again at its end.")] = False,
    retry: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a source that is gone, until giving up.")
    ] = 30.0,
    control: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Change style and strength over HTTP while it runs, on this machine: GET and PATCH "
            "/v1/live, /v1/live/events, /v1/live/preview.mjpeg, POST /v1/live/snapshot.",
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
    devices: Annotated[
        bool, typer.Option("--list", help="List the cameras, virtual cameras and screens of this machine.")
    ] = False,
    model: ModelOption = None,
    backend: BackendOption = AUTO,
    precision: PrecisionOption = AUTO,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stylize live video: the newest frame is stylized, older ones are dropped, so the delay never grows.

    Ends with q, Ctrl-C, --seconds or the source, and reports the numbers and delays of the frames.
    """
    from mst_deploy.cli.console import echo, print_result
    from mst_deploy.live import LiveOptions, LiveSession
    from mst_deploy.stylizer import Stylizer
    from mst_deploy.video.live_encoding import PIPE

    if devices:
        return list_devices(as_json=as_json)
    if source is None:
        raise typer.BadParameter("name a source, for example: mst live camera window", param_hint="SOURCE")
    names = _sink_names(sinks or [])
    if PIPE in names and as_json:
        raise InvalidArgument(
            field="as_json",
            problem="the sink - and [option:as_json] both write to the standard output",
            hint="leave out one of them",
        )
    timeline = _timeline(style, styles, strength, preserve_color)
    if latency_test:
        _check_latency_test(source, names)
    options = LiveOptions(
        fps=fps,
        size=size,
        min_size=min_size,
        sink_size=sink_size,
        max_fps=max_fps,
        similar=similar,
        loop=loop,
        retry=retry,
        force=force,
        audio=audio,
    )
    on_note = _note_printer(quiet)
    with (
        Stylizer(model, backend=backend, device=device, precision=precision, threads=threads) as stylizer,
        LiveSession(stylizer, source, names, timeline, options, on_note) as session,
    ):
        live = session.pipeline
        if latency_test:
            session.read_back()
        tell_choice(stylizer.choice, quiet=quiet)
        for hint in session.hints():
            echo(hint, quiet=quiet)
        keys = LiveKeys(session, tuple(dict.fromkeys(key.style for key in timeline.styles)), fade)
        error: MstError | None = None
        with ExitStack() as around:
            if control is not None:
                port = around.enter_context(controlled(live, parse_port(control)))
                echo(f"control it at http://127.0.0.1:{port}/v1/live", quiet=quiet)
            around.enter_context(stopped_by_signals(session.stop))
            heard = around.enter_context(pressed_keys(keys.press))
            if heard:
                echo(KEYS, quiet=quiet)
            with status_line(live, shown=not quiet and sys.stderr.isatty()):
                try:
                    session.run(seconds)
                except MstError as failed:
                    error = failed
        report, latency = session.stats(), session.latency()
    facts = values(report, latency) | {"backend": stylizer.backend_name, "device": stylizer.device}
    if PIPE in names:  # the standard output has the video
        echo(summary(report, latency), quiet=quiet)
    elif report.captured or error is None:
        print_result(summary(report, latency), facts, as_json=as_json, quiet=quiet)
    if error is not None:
        raise error


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
    from mst_deploy.live import check_sinks
    from mst_deploy.video.live_displays import find_player
    from mst_deploy.video.live_sinks import KINDS

    if not names:
        if find_player() is None:
            raise InvalidArgument(f"name a sink; a window cannot be shown here. Known are: {KINDS}")
        return ["window"]
    check_sinks(names)
    return names


def _check_latency_test(source: str, names: list[str]) -> None:
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
