"""Options and work that the commands for pictures and videos share: style options, the plan, the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mst_deploy.backends.registry import AUTO, precision_of
from mst_deploy.cli.errors import one_line
from mst_deploy.cli.options import requires
from mst_deploy.errors import InvalidArgument
from mst_deploy.styles.timeline import StrengthKey, StrokeSizeKey, StrokesKey, StyleKey, Timeline

if TYPE_CHECKING:
    from mst_deploy.backends.choice import Choice
    from mst_deploy.jobs.plan_optimizer import PlanOptimizer
    from mst_deploy.styles.plan import StylePlan
    from mst_deploy.video.info import ReadOptions

T = TypeVar("T")


def parsed_by(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser whose errors are usage errors (exit code 2) with its own message."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except InvalidArgument as error:
            raise typer.BadParameter(one_line(error)) from None

    return checked


StylesOption = Annotated[
    list[StyleKey] | None,
    typer.Option(
        "--style",
        "-s",
        metavar="STYLE[=WEIGHT][@TIME]",
        parser=parsed_by(StyleKey.parse),
        help="An image, a style file, or the name of a shipped style (see: mst style list). Repeat it to mix "
        "styles by weight, or with times to fade from one to the next.",
        show_default=False,
    ),
]
StrengthsOption = Annotated[
    list[StrengthKey] | None,
    typer.Option(
        "--strength",
        metavar="NUMBER[@TIME]",
        parser=parsed_by(StrengthKey.parse),
        help="0 is the source itself, 1 the full style (default). Repeat it with times to change it.",
        show_default=False,
    ),
]
StrokesOption = Annotated[
    list[StrokesKey] | None,
    typer.Option(
        "--strokes",
        metavar="NUMBER[@TIME]",
        parser=parsed_by(StrokesKey.parse),
        help="Strength of the strokes in flat areas (skies, walls, roads): 0 is the calmest, 1 the default, "
        "2 the most. Repeat it with times to change it.",
        show_default=False,
    ),
]
StrokeSizeOption = Annotated[
    list[StrokeSizeKey] | None,
    typer.Option(
        "--stroke-size",
        metavar="NUMBER[@TIME]",
        parser=parsed_by(StrokeSizeKey.parse),
        help="Size of these strokes, 0.5 to 3; 1 is the default. Repeat it with times to change it.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Another number gives other strokes. Default: 0.", show_default=False),
]
PreserveOption = Annotated[
    bool,
    typer.Option("--preserve-color", help="Keep the colors of the source; the style gives the luminance."),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        help="Picture or video: white is stylized, black stays as it is (or see --background-style)."
    ),
]
BackgroundStyleOption = Annotated[str | None, typer.Option(help="Style of the black part of the mask.")]
TimelineOption = Annotated[
    Path | None,
    typer.Option("--timeline", help="YAML file with all of these settings; see docs/video.md."),
]
OptimizeStyleOption = Annotated[
    bool,
    typer.Option(
        "--optimize-style",
        help="Optimize the style for each input first: closer to the painting, less flicker, one to three "
        "minutes on a CPU. Needs pictures as styles, and VGG-19; see mst style optimize.",
    ),
]
OptimizeVggOption = Annotated[
    Path | None,
    typer.Option(
        "--vgg", help="VGG-19 for --optimize-style: .pth or .safetensors. Default: downloaded once."
    ),
]


def timeline_of(
    styles: list[StyleKey] | None,
    strength: list[StrengthKey] | None,
    preserve_color: bool,
    mask: Path | None,
    background_style: str | None,
    file: Path | None,
    strokes: list[StrokesKey] | None = None,
    stroke_size: list[StrokeSizeKey] | None = None,
    seed: int | None = None,
) -> Timeline:
    """Return the timeline that the options describe. Raises InvalidArgument, and InputError for a YAML
    file."""
    if file is None:
        if not styles:
            raise typer.BadParameter("name a style, or a YAML file with --timeline", param_hint="--style")
        return Timeline(
            styles=tuple(styles),
            strength=tuple(strength or (StrengthKey(1.0),)),
            strokes=tuple(strokes or (StrokesKey(1.0),)),
            stroke_size=tuple(stroke_size or (StrokeSizeKey(1.0),)),
            seed=seed or 0,
            preserve_color=preserve_color,
            mask=mask,
            background_style=background_style,
        )
    if (
        styles
        or strength
        or preserve_color
        or mask
        or background_style
        or strokes
        or stroke_size
        or seed is not None
    ):
        raise InvalidArgument(
            f"{file} says which styles are wanted, how and where; leave out --style, --strength, --strokes, "
            "--stroke-size, --seed, --preserve-color, --mask and --background-style"
        )
    from mst_deploy.styles.timeline_yaml import load_timeline

    return load_timeline(file)


def refuse_times(timeline: Timeline) -> None:
    """Raise InvalidArgument for a timeline that changes, which is none for a picture."""
    if timeline.changes:
        raise InvalidArgument("a picture has no time: give styles, strength and strokes without @TIME")


def tell_choice(choice: Choice, *, quiet: bool) -> None:
    """Say which backend was chosen and why; nothing for one that was named."""
    from mst_deploy.cli.console import echo

    if not choice.named:
        echo(f"note: --backend auto takes {choice.backend} on {choice.device}: {choice.reason}", quiet=quiet)


class Job:
    """Session and style plan of one command. A context manager."""

    def __init__(
        self,
        timeline: Timeline,
        model: str | None,
        backend: str,
        device: str,
        *,
        optimize_style: bool = False,
        vgg: Path | None = None,
        precision: str = AUTO,
        sizes: Sequence[tuple[int, int]] = (),
        batch: int = 1,
    ) -> None:
        from mst_deploy.stylizer import Stylizer

        self.timeline = timeline
        self._choice_told = False
        self.style_optimizer: PlanOptimizer | None = None
        self.stylizer = Stylizer(
            model, backend=backend, device=device, precision=precision, sizes=sizes, batch=batch
        )
        if optimize_style:
            with requires("export", "--optimize-style"):
                from mst_deploy.jobs import plan_optimizer as optimized
            bundle = self.stylizer.bundle
            artworks = optimized.artworks_of(timeline, bundle.manifest)
            self.style_optimizer = optimized.PlanOptimizer(bundle, artworks, vgg, device)
        elif vgg is not None:
            raise InvalidArgument("--vgg is what --optimize-style looks with; give both or neither")
        self.style_plan: StylePlan = self.stylizer.plan(timeline)

    def plan_for(
        self,
        source: Path,
        read: ReadOptions | None = None,
        *,
        on_progress: Callable[[str], None] = lambda note: None,
        quiet: bool = False,
    ) -> tuple[StylePlan, dict[str, Any]]:
        """Return the plan for one input and, where styles were optimized for it, the results (also
        printed)."""
        from mst_deploy.cli.console import echo

        if self.style_optimizer is None:
            return self.style_plan, {}
        style_plan, optimized = self.style_optimizer(self.style_plan, source, read, on_progress)
        for name, gained in optimized.items():
            echo(f"note: {Path(name).name} tuned to {source.name}: {gained.describe()}", quiet=quiet)
        return style_plan, {
            "tuned": {
                name: {"before": asdict(gained.before), "after": asdict(gained.after)}
                for name, gained in optimized.items()
            }
        }

    def tell_choice(self, *, quiet: bool) -> None:
        """Say which backend was chosen, once. Called when the first result is under way, so that an input
        that fails before is still one line."""
        if not self._choice_told:
            self._choice_told = True
            tell_choice(self.stylizer.choice, quiet=quiet)

    def facts(self) -> dict[str, Any]:
        """Return the facts of the job for JSON output."""
        strengths = [key.strength for key in self.timeline.strength]
        backend, device = self.stylizer.backend_name, self.stylizer.device
        return {
            "style": self.timeline.label,
            "strength": strengths[0] if len(strengths) == 1 else strengths,
            "model": self.stylizer.manifest.name,
            "backend": backend,
            "precision": precision_of(backend, device, self.stylizer.manifest.precision),
            "device": device,
        }

    def __enter__(self) -> Job:
        self.stylizer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stylizer.__exit__(*error)
