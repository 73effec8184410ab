"""Commands made of options dataclasses.

    def sheet(sheet: SheetOptions, model: ModelOptions, messages: MessageOptions) -> None: ...

    app.command()(expand_options(sheet))

The command has an option for every field of these classes that is annotated with an ``options.Option``, also
for those of dataclasses within them. A field that several classes have (``force``) is one option and set in
all of them. Other parameters of the function stay as Typer takes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from mst_deploy import options
from mst_deploy.cli.errors import FLAGS, flag, worded
from mst_deploy.errors import InvalidArgument, template_of
from mst_deploy.options import Option

GROUPS = ("", options.STYLE, options.INPUT_OUTPUT, options.STROKES, options.VIDEO)
"""Order of the first groups in the help; further ones follow in the order of their options."""
FEW = 12
"""A command with fewer options shows them in one list."""


def expand_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer whose parameters are the fields of the function's dataclasses."""
    hints = get_type_hints(function, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    classes: dict[str, type] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(kind := hints[name]):
            assert isinstance(kind, type)
            classes[name] = kind
            for leaf in leaves(kind):
                parameters.setdefault(leaf.name, leaf.parameter())
        else:
            parameters[name] = parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)

    def command(**given: Any) -> None:
        values = {name: filled(kind, given) for name, kind in classes.items()}
        function(**{name: given[name] for name in hints if name in given and name not in classes}, **values)

    if len(parameters) < FEW:
        for parameter in parameters.values():
            _described_by(parameter).rich_help_panel = None
    ordered = sorted(parameters.values(), key=_place)
    command.__name__, command.__doc__, command.__module__ = (
        function.__name__,
        function.__doc__,
        function.__module__,
    )
    command.__wrapped__ = function  # type: ignore[attr-defined]
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
    return command


def filled(kind: type, given: Mapping[str, Any]) -> Any:
    """Return an instance of an options dataclass from the parsed command line.

    Raises InvalidArgument for a value that cannot be used.
    """
    values = {}
    for field, hint, option in _described(kind):
        if option is None:
            values[field.name] = filled(hint, given)
        elif (value := Leaf(field, hint, option).value(given[field.name])) is not MISSING:
            values[field.name] = value
    return kind(**values)


def leaves(kind: type) -> Iterator[Leaf]:
    """Yield the fields of a dataclass that are offered, and those of dataclasses within it."""
    for field, hint, option in _described(kind):
        if option is None:
            yield from leaves(hint)
        else:
            yield Leaf(field, hint, option)


@dataclass(frozen=True)
class Leaf:
    """One field that is an option or an argument."""

    field: Field[Any]
    hint: Any
    """Type of the field."""
    option: Option

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def several(self) -> bool:
        """Return whether the field is a tuple, of which each value is given by itself."""
        return get_origin(self.hint) is tuple and not self.option.separator

    @property
    def required(self) -> bool:
        """Return whether the field has no default."""
        return self.field.default is MISSING and self.field.default_factory is MISSING

    def parameter(self) -> inspect.Parameter:
        """Return the parameter as Typer takes it."""
        option = self.option
        default = None if self.required else self._shown_default()
        common: dict[str, Any] = {
            "help": worded(option.help),
            "metavar": option.metavar or option.name.upper() or None,
            "min": option.minimum,
            "max": option.maximum,
            "show_default": default is not None,
            "rich_help_panel": option.group or None,
        }
        can_be_off = default is True or (default is None and self.hint == (bool | None))
        names = spellings(option.name or self.name, option.letter, can_be_off=can_be_off)
        info = typer.Argument(**common) if option.positional else typer.Option(*names, **common)
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if self.required else default,
            annotation=Annotated[self._typed(), info],
        )

    def _shown_default(self) -> Any:
        """Return the default as Typer shows it; None where only the dataclass knows it."""
        default: Any = self.field.default
        if self.option.separator:
            return self.option.separator.join(map(str, default)) or None
        return None if self.option.parse or self.several else default

    def _typed(self) -> Any:
        """Return the type that Typer parses: text if the field has a parser of its own, a list if it is
        repeated."""
        if self.several:
            item = str if self.option.parse else get_args(self.hint)[0]
            return list[item] if self.required else list[item] | None  # type: ignore[valid-type]
        if self.option.parse or self.option.separator:
            return str if self.required else str | None
        return self.hint

    def value(self, given: Any) -> Any:
        """Return the field's value for what Typer parsed; MISSING for nothing, which leaves the default."""
        if self.several:
            return tuple(map(self._parsed, given)) if given else MISSING
        if given is None and (self.option.parse or self.option.separator):
            return MISSING
        if self.option.separator:
            return tuple(map(self._parsed, given.split(self.option.separator)))
        return self._parsed(given)

    def _parsed(self, given: Any) -> Any:
        if self.option.parse is None:
            return given
        try:
            return self.option.parse(given)
        except InvalidArgument as error:
            name = self.option.name or self.name
            if error.field == name or self.option.positional:
                raise
            raise InvalidArgument(
                field=name, problem=f"[option:{name}]: {template_of(error.problem)}", hint=error.hint
            ) from error


def spellings(name: str, letter: str, *, can_be_off: bool) -> tuple[str, ...]:
    """Return the names of an option as they are typed, and the one that turns it off."""
    short = FLAGS.get(name, "")
    long = f"--{name.replace('_', '-')}" if len(short) == 2 else flag(name)
    letter = f"-{letter}" if letter else short if len(short) == 2 else ""
    long = f"{long}/--no-{long[2:]}" if can_be_off else long
    return (letter, long) if letter else (long,)


def _described(kind: type) -> Iterator[tuple[Field[Any], Any, Option | None]]:
    """Yield (field, type, option) of what is offered; None as option for a dataclass that holds options."""
    hints = _hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Option)]
        hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if found:
            yield field, hint, found[0]
        elif is_dataclass(hint):
            yield field, hint, None


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields with what is said beside them."""
    return get_type_hints(kind, include_extras=True)


def _place(parameter: inspect.Parameter) -> int:
    """Return the position of a parameter's group in the help; arguments come first."""
    info = _described_by(parameter)
    if isinstance(info, typer.models.ArgumentInfo):
        return -1
    group = info.rich_help_panel or ""
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _described_by(parameter: inspect.Parameter) -> typer.models.ParameterInfo:
    """Return what Typer knows of a parameter, besides its type and default."""
    return next(
        each for each in parameter.annotation.__metadata__ if isinstance(each, typer.models.ParameterInfo)
    )
