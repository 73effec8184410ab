"""Work that the commands for pictures and videos share: the model and the style plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mst_deploy.backends.options import GeneratorOptions
from mst_deploy.backends.registry import precision_of
from mst_deploy.cli.options import requires
from mst_deploy.errors import InvalidArgument
from mst_deploy.styles.options import OptimizeStyleOptions
from mst_deploy.styles.timeline import Timeline

if TYPE_CHECKING:
    from mst_deploy.backends.choice import Choice
    from mst_deploy.jobs.plan_optimizer import PlanOptimizer
    from mst_deploy.styles.plan import StylePlan
    from mst_deploy.video.options import ReadOptions


def refuse_times(timeline: Timeline) -> None:
    """Raise InvalidArgument for a timeline that changes, which is none for a picture."""
    if timeline.changes:
        raise InvalidArgument("a picture has no time: give styles, strength and strokes without @TIME")


def report_choice(choice: Choice, *, quiet: bool) -> None:
    """Report which backend was chosen and why; nothing for one that was named."""
    from mst_deploy.cli.console import echo

    if not choice.named:
        echo(f"note: --backend auto takes {choice.backend} on {choice.device}: {choice.reason}", quiet=quiet)


class Job:
    """Session and style plan of one command. A context manager."""

    def __init__(
        self,
        timeline: Timeline,
        model: GeneratorOptions,
        optimize: OptimizeStyleOptions | None = None,
        *,
        sizes: Sequence[tuple[int, int]] = (),
        batch: int = 1,
    ) -> None:
        from mst_deploy.stylizer import Stylizer

        self.timeline = timeline
        self._choice_reported = False
        self.style_optimizer: PlanOptimizer | None = None
        self.stylizer = Stylizer(
            model.model,
            backend=model.backend,
            device=model.device,
            precision=model.precision,
            sizes=sizes,
            batch=batch,
        )
        if optimize is not None and optimize.optimize_style:
            with requires("export", "--optimize-style"):
                from mst_deploy.jobs import plan_optimizer as optimized
            bundle = self.stylizer.bundle
            artworks = optimized.artworks_of(timeline, bundle.manifest)
            self.style_optimizer = optimized.PlanOptimizer(bundle, artworks, optimize.vgg, model.device)
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
            echo(f"note: {Path(name).name} optimized for {source.name}: {gained.describe()}", quiet=quiet)
        return style_plan, {
            "tuned": {
                name: {"before": asdict(gained.before), "after": asdict(gained.after)}
                for name, gained in optimized.items()
            }
        }

    def report_choice(self, *, quiet: bool) -> None:
        """Report which backend was chosen, once. Called when the first result is under way, so that an input
        that fails before is still one line."""
        if not self._choice_reported:
            self._choice_reported = True
            report_choice(self.stylizer.choice, quiet=quiet)

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
