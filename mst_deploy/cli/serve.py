"""The command ``mst serve``: a web page and an HTTP API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mst_deploy.cli.options import BackendOption, DeviceOption, ModelOption, QuietOption, requires
from mst_deploy.errors import InputError, InvalidArgument

LOCAL = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16  # characters


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Another one than this machine's own needs --token.")
    ] = LOCAL[0],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    token: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the secret that every call of the API needs."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further host name of the service, as behind a reverse proxy."),
    ] = None,
    open_page: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page in the browser. Default: when started in a terminal."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder for uploads and results. Default: in the user's cache, one for each port."),
    ] = None,
    keep: Annotated[
        float, typer.Option(min=1, help="Minutes that uploads and results are kept after their last use.")
    ] = 60.0,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are refused.")] = 16,
    cameras: Annotated[int, typer.Option(min=0, help="Cameras that are stylized at a time.")] = 4,
    camera_fps: Annotated[
        float, typer.Option(min=1, max=60, help="Frames per second of a camera; its size follows from it.")
    ] = 10.0,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest clip, in MB.")] = 2000,
    max_minutes: Annotated[float, typer.Option(min=0, help="Longest clip, in minutes.")] = 10.0,
    quota: Annotated[float, typer.Option(min=0, help="Most that all files may take, in GB.")] = 10.0,
    model: ModelOption = None,
    backend: BackendOption = "onnxrt",
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Serve a page that stylizes pictures, videos and the camera, and an HTTP API for programs.

    Ends with Ctrl-C; unfinished videos go on at the next start with the same port or folder.
    """
    secret = _secret(token)
    if host not in LOCAL and not secret:
        raise InvalidArgument(
            field="host",
            problem=f"everybody who reaches {host} could use the service",
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
        queue=queue,
        cameras=cameras,
        keep=keep * 60,
        clip_bytes=max_megabytes * MB,
        clip_seconds=max_minutes * 60,
        quota=round(quota * GB),
    )
    listener = listening(host, port)
    port = int(listener.getsockname()[1])
    shown = f"[{host}]" if ":" in host else {"0.0.0.0": LOCAL[0]}.get(host, host)
    url = f"http://{shown}:{port}/"

    def announce() -> None:
        echo(f"open {url}" + (" and give the token there" if secret else "") + "; Ctrl-C ends", quiet=quiet)
        if open_page if open_page is not None else _has_browser():
            import webbrowser

            webbrowser.open(f"{url}#token={secret}" if secret else url)

    with (
        listener,
        Stylizer(model, backend=backend, device=device) as stylizer,
        Service(stylizer, folder or user_cache("serve") / str(port), limits) as service,
    ):
        app = create_app(service, Access(host, secret, tuple(allow_host or ())), camera_fps=camera_fps)
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
