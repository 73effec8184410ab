"""The command line: ``mst``. Commands parse, call the library, print; nothing heavy is imported here.

Exit codes: 0 done; 1 an error, reported in one line on stderr; 2 a wrong option or argument; 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from mst_deploy import __version__
from mst_deploy.cli.batch import batch
from mst_deploy.cli.bench import bench_app
from mst_deploy.cli.engines import build, build_engine, engines_app
from mst_deploy.cli.errors import exit_code, one_line
from mst_deploy.cli.eval import eval_app
from mst_deploy.cli.image import image
from mst_deploy.cli.live import live
from mst_deploy.cli.options import CORE, JsonOptions, MessageOptions, requires
from mst_deploy.cli.renamed import renamed
from mst_deploy.cli.serve import serve
from mst_deploy.cli.sheet import sheet
from mst_deploy.cli.signature import expand_options
from mst_deploy.cli.streams import escape_unprintable, flush_output
from mst_deploy.cli.style import style_app
from mst_deploy.cli.train import train_app
from mst_deploy.cli.video import video
from mst_deploy.engines.options import Request as BuildRequest
from mst_deploy.errors import MissingDependency, MstError
from mst_deploy.export.options import ExportOptions

app = typer.Typer(
    name="mst",
    help="Render videos and pictures in the style of any painting.",
    epilog="Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted, "
    "143 terminated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(style_app, name="style")
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(engines_app, name="engines")
app.command("image")(image)
app.command("sheet")(sheet)
app.command("video")(video)
app.command("live")(live)
app.command("serve")(serve)
app.command("batch")(batch)
app.add_typer(bench_app, name="bench")
app.command("build")(build)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"mst {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Render videos and pictures in the style of any painting."""


@app.command()
@expand_options
def doctor(messages: JsonOptions) -> None:
    """Show what this machine can run, and the exact command that installs what is missing."""
    from mst_deploy.cli.console import print_result
    from mst_deploy.cli.doctor import examine, report

    findings = examine()
    print_result(report(findings), findings, as_json=messages.as_json)


@app.command()
@expand_options
def export(options: ExportOptions, messages: MessageOptions) -> None:
    """Write a model as two ONNX graphs with a manifest, verified against PyTorch."""
    from mst_deploy.cli.console import print_result

    if options.triton is not None:
        from mst_deploy.export.triton import export_options

        made = export_options(options)
        print_result(
            f"{made.path}: {' and '.join(made.models)}, version {made.version}",
            {"output": str(made.path), "models": list(made.models), "version": made.version},
            as_json=messages.as_json,
            quiet=messages.quiet,
        )
        return
    with requires("export", "mst export"):
        from mst_deploy.export import command
    bundle = command.export(options, messages.reporter())
    target, checks, precision = bundle.path, bundle.manifest.checks, options.precision
    if precision == "int8":
        from mst_deploy.export.int8 import report

        facts = bundle.manifest.int8
        lines = [
            f"{target} (int8, and the graph it was made of), checked against float32:",
            *report(facts),
            "  run it with: --backend openvino:int8",
        ]
        result = {"output": str(target), "precision": precision, **facts}
        print_result("\n".join(lines), result, as_json=messages.as_json, quiet=messages.quiet)
        return
    lines = [
        f"  {check['size']}: largest pixel difference {check['max_pixel_difference']}, "
        f"PSNR {check['psnr_db']} dB"
        for check in checks
        if "size" in check
    ]
    print_result(
        "\n".join([f"{target} ({precision}), checked against PyTorch:", *lines]),
        {"output": str(target), "precision": precision, "checks": list(checks)},
        as_json=messages.as_json,
        quiet=messages.quiet,
    )
    if options.engine is not None:
        build_engine(BuildRequest(str(target.absolute()), size=options.engine), messages)


def main() -> None:
    """Run the command line: errors meant for people become one line and exit code 1, or 2 for wrong usage."""
    escape_unprintable()
    if hint := renamed(sys.argv[1:]):
        _fail(hint, 2)
    try:
        try:
            app()
        except SystemExit:  # as every command ends, also a good one
            flush_output()
            raise
    except MstError as error:
        _fail(one_line(error), exit_code(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in CORE:
            raise
        _fail(str(MissingDependency(missing, "", "this command")), 1)
    except OSError as error:  # a name that is too long, an output that takes no more
        _fail(one_line(error), 1)


def _fail(message: str, code: int) -> NoReturn:
    with suppress(OSError):
        print(f"mst: {message}", file=sys.stderr)
    with suppress(MstError):  # the first error is reported
        flush_output()
    raise SystemExit(code) from None
