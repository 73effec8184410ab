"""The command ``mst serve``: a web page and an HTTP API."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.cli.options import QuietOptions, requires
from mst_deploy.errors import InputError, InvalidArgument
from mst_deploy.options import Option

LOCAL = ("127.0.0.1", "localhost", "::1")
SERVICE, LIMITS = "Service", "Limits"
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServeOptions:
    """Address, access and limits of the service."""

    host: Annotated[
        str,
        Option("Address to listen on. Another one than this machine's own needs [option:token].", SERVICE),
    ] = LOCAL[0]
    port: Annotated[
        int, Option("Port to listen on; 0 takes a free one.", SERVICE, minimum=0, maximum=65535)
    ] = 8000
    token: Annotated[
        Path | None, Option("File with the secret that every call of the API needs.", SERVICE, metavar="FILE")
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Option("Further host name of the service, as behind a reverse proxy.", SERVICE, metavar="NAME"),
    ] = ()
    open: Annotated[
        bool | None, Option("Open the page in the browser. Default: when started in a terminal.", SERVICE)
    ] = None
    folder: Annotated[
        Path | None,
        Option("Folder for uploads and results. Default: in the user's cache, one for each port.", SERVICE),
    ] = None
    keep: Annotated[
        float,
        Option("Minutes that uploads and results are kept after their last use.", LIMITS, minimum=1),
    ] = 60.0
    queue: Annotated[int, Option("Pictures that may wait; more are refused.", LIMITS, minimum=1)] = 16
    cameras: Annotated[int, Option("Cameras that are stylized at a time.", LIMITS, minimum=0)] = 4
    camera_fps: Annotated[
        float,
        Option("Frames per second of a camera; its size follows from it.", LIMITS, minimum=1, maximum=60),
    ] = 10.0
    max_megabytes: Annotated[int, Option("Largest clip, in MB.", LIMITS, minimum=1)] = 2000
    max_minutes: Annotated[float, Option("Longest clip, in minutes.", LIMITS, minimum=0)] = 10.0
    quota: Annotated[float, Option("Most that all files may take, in GB.", LIMITS, minimum=0)] = 10.0
    threads: Annotated[
        int | None,
        Option(
            "Threads of the model: fewer leave more to other programs. onnxrt, openvino.", LIMITS, minimum=1
        ),
    ] = None


def serve(options: ServeOptions, model: GeneratorOptions, messages: QuietOptions) -> None:
    """Serve a page that stylizes pictures, videos and the camera, and an HTTP API for programs.

    Ends with Ctrl-C; unfinished videos go on at the next start with the same port or folder.
    """
    secret = _secret(options.token)
    if options.host not in LOCAL and not secret:
        raise InvalidArgument(
            field="host",
            problem=f"everybody who reaches {options.host} could use the service",
            hint="give a secret with [option:token]",
        )
    with requires("serve", "mst serve"):
        from mst_deploy.serve.app import create_app
        from mst_deploy.serve.run import listening, make_server, run
    from mst_deploy.cli.console import echo
    from mst_deploy.files import user_cache
    from mst_deploy.serve.guard import Access
    from mst_deploy.serve.limits import GB, MB, Limits
    from mst_deploy.serve.service import Service
    from mst_deploy.stylizer import Stylizer

    limits = Limits(
        queue=options.queue,
        cameras=options.cameras,
        keep=options.keep * 60,
        clip_bytes=options.max_megabytes * MB,
        clip_seconds=options.max_minutes * 60,
        quota=round(options.quota * GB),
    )
    listener = listening(options.host, options.port)
    port = int(listener.getsockname()[1])
    host = options.host
    shown = f"[{host}]" if ":" in host else {"0.0.0.0": LOCAL[0]}.get(host, host)
    url = f"http://{shown}:{port}/"

    def announce() -> None:
        echo(
            f"open {url}" + (" and give the token there" if secret else "") + "; Ctrl-C ends",
            quiet=messages.quiet,
        )
        if _has_browser() if options.open is None else options.open:
            import webbrowser

            webbrowser.open(f"{url}#token={secret}" if secret else url)

    with (
        listener,
        Stylizer(
            model.model,
            backend=model.backend,
            device=model.device,
            precision=model.precision,
            threads=options.threads,
        ) as stylizer,
        Service(stylizer, options.folder or user_cache("serve") / str(port), limits) as service,
    ):
        app = create_app(service, Access(host, secret, options.allow_host), camera_fps=options.camera_fps)
        run(make_server(app, limits, announce, service.closing.set), listener)


def _secret(path: Path | None) -> str:
    """Return the token of a file. Raises InputError, InvalidArgument."""
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(secret) < SHORTEST_TOKEN or not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise InvalidArgument(
            field="token",
            problem=f"the token in {path} must have {SHORTEST_TOKEN} or more ASCII letters and digits",
            hint="make one with: openssl rand -hex 32",
        )
    return secret


def _has_browser() -> bool:
    """Return whether somebody sits at this terminal who can see a browser."""
    display = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return sys.stderr.isatty() and display
