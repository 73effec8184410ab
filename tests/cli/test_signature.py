"""Commands made of options dataclasses, run through Typer as people run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from mst_deploy.cli.errors import one_line
from mst_deploy.cli.signature import expand_options
from mst_deploy.errors import InvalidArgument
from mst_deploy.options import Option
from mst_deploy.video.time_ranges import parse_time


@dataclass(frozen=True)
class Inner:
    start: Annotated[Fraction | None, Option("Begin.", metavar="TIME", parse=parse_time)] = None
    force: Annotated[bool, Option("Overwrite.", letter="f")] = False
    unoffered: int = 7
    a: Annotated[int, Option("One of many.")] = 1
    b: Annotated[int, Option("One of many.")] = 1
    c: Annotated[int, Option("One of many.")] = 1

    def __post_init__(self) -> None:
        if self.start == 13:
            raise InvalidArgument(field="start", problem="[option:start] 13 s is bad luck")


@dataclass(frozen=True)
class Outer:
    source: Annotated[Path, Option("What to read.", positional=True)]
    width: Annotated[int, Option("Pixels.", minimum=1, maximum=9)]
    inner: Inner = field(default_factory=Inner)
    times: Annotated[
        tuple[Fraction, ...],
        Option("See [option:start].", "Input and output", name="moment", parse=parse_time),
    ] = (Fraction(2),)
    names: Annotated[tuple[str, ...], Option("Names.")] = ()
    gaps: Annotated[tuple[int, ...], Option("Gaps.", separator=",", parse=int)] = (1, 5)
    cached: Annotated[bool, Option("Cached.")] = True
    output: Annotated[Path | None, Option("Written.", "Input and output")] = None


@dataclass(frozen=True)
class Further:
    force: Annotated[bool, Option("Never shown.")] = False


@pytest.fixture
def run() -> Callable[..., Any]:
    """A command of the classes above: what it was called with, or its output where it was not."""
    app = typer.Typer(pretty_exceptions_enable=False)
    found: list[object] = []

    @app.command()
    @expand_options
    def command(
        outer: Outer, further: Further, plain: Annotated[int, typer.Option(help="As Typer takes it.")] = 1
    ) -> None:
        """The help."""
        found[:] = [outer, further, plain]

    def invoke(*arguments: str) -> Any:
        found.clear()
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, InvalidArgument):
            raise result.exception
        return found or (result.exit_code, " ".join(result.output.split()))

    return invoke


def test_fields_have_their_defaults_and_types(run: Callable[..., Any]) -> None:
    assert run("a.png", "--width", "3") == [Outer(Path("a.png"), 3), Further(), 1]


def test_every_kind_of_field_arrives(run: Callable[..., Any]) -> None:
    outer, further, plain = run(
        *("a.png", "--width", "9", "--start", "1:30", "-f", "--moment", "0.5", "--moment", "1"),
        *("--names", "a", "--names", "b", "--no-cached", "--gaps", "3", "-o", "b.png", "--plain", "2"),
    )
    assert outer == Outer(
        Path("a.png"),
        9,
        Inner(Fraction(90), force=True),
        times=(Fraction(1, 2), Fraction(1)),
        names=("a", "b"),
        gaps=(3,),
        cached=False,
        output=Path("b.png"),
    )
    assert (further, plain) == (Further(force=True), 2)
    assert [type(name) for name in outer.names] == [str, str]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--width", "3"), "Missing argument"),
        (("a.png",), "Missing option '--width'"),
        (("a.png", "--width", "10"), "equal to 9"),
        (("a.png", "--width", "3", "--unoffered", "1"), "No such option"),
    ],
)
def test_wrong_usage_is_refused(run: Callable[..., Any], arguments: tuple[str, ...], problem: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert problem in output


def test_errors_name_the_option_that_was_typed(run: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        run("a.png", "--width", "3", "--moment", "soon")
    assert one_line(caught.value).startswith("--moment: cannot use 'soon' as a time: give seconds")
    assert caught.value.field == "moment"
    with pytest.raises(InvalidArgument) as caught:
        run("a.png", "--width", "3", "--start", "13")
    assert one_line(caught.value) == "--start 13 s is bad luck"


def test_the_help_has_groups_texts_and_each_option_once(run: Callable[..., Any]) -> None:
    code, text = run("--help")
    assert code == 0
    assert text.index("Options") < text.index("Input and output") < text.index("See --start.")
    assert text.count("--force") == 1
    assert "[default: 1,5]" in text
    assert "Never shown" not in text
    assert "The help." in text
    assert "[default: (dynamic)]" not in text
