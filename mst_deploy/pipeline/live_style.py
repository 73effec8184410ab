"""Style and strength of live video, which change by the clock and not by frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from mst_deploy.errors import InvalidArgument
from mst_deploy.styles.plan import FramePlan, StylePlan
from mst_deploy.styles.timeline import StrengthKey, StyleKey


@dataclass(frozen=True)
class LiveStyle:
    """Style and strength of the frames from now on. Immutable: a change is one assignment between two frames.

    A fade is a timeline that began when the change was made, so it depends on the clock, not on frames.
    """

    plan: StylePlan = field(repr=False)
    """Its FiLM vectors are those of every style that can be chosen; its timeline counts from ``since``."""
    since: float
    """Time of the change, in seconds of the monotonic clock."""

    @classmethod
    def of(cls, plan: StylePlan, now: float) -> LiveStyle:
        """Take a plan whose timeline begins now. Raises InvalidArgument for one with a mask."""
        if plan.timeline.mask is not None:
            raise InvalidArgument("live video has no mask; leave it out")
        return cls(plan, now)

    def at(self, now: float) -> FramePlan:
        """Return the plan of a frame that is stylized now."""
        return self.plan.at(self._elapsed(now))

    @property
    def needs_content(self) -> bool:
        """Return whether the FiLM vector of the content is needed and not known yet."""
        return self.plan.own is None and not self.plan.timeline.always_full

    def is_settled(self, now: float) -> bool:
        """Return whether all fades are over."""
        timeline, elapsed = self.plan.timeline, self._elapsed(now)
        keys = (timeline.styles, timeline.strength, timeline.strokes, timeline.stroke_size)
        return all(key.time <= elapsed for group in keys for key in group)

    def weights(self, now: float) -> dict[str, float]:
        """Return the weight of every style that is visible at a time; they sum to 1."""
        weights = self.plan.timeline.weights_at(self._elapsed(now))
        return {name: weight for name, weight in weights.items() if weight > 0}

    def with_style(
        self, name: str, now: float, fade: float = 0.0, strength: float | None = None
    ) -> LiveStyle:
        """Return a copy that fades to a style and a strength in ``fade`` seconds; None keeps the present
        strength."""
        if name not in self.plan.film_params:
            raise InvalidArgument(
                f"the style {name!r} was not read before the start; known are: "
                f"{', '.join(self.plan.film_params)}"
            )
        keys = [StyleKey(name)]
        if fade > 0:
            keys = [StyleKey(each, weight=weight) for each, weight in self.weights(now).items()]
            keys.append(StyleKey(name, Fraction(fade)))
        before = self.strength(now)
        after = before if strength is None else float(strength)
        strengths = (
            [StrengthKey(after)]
            if after == before or fade <= 0
            else [StrengthKey(before), StrengthKey(after, Fraction(fade))]
        )
        return self._changed(now, styles=tuple(keys), strength=tuple(strengths))

    def mixed_with(self, name: str, now: float, fade: float = 0.0) -> LiveStyle:
        """Return a copy that goes to equal parts of the heaviest visible style and another one."""
        heaviest = max(self.weights(now).items(), key=lambda item: item[1])[0]
        before = [StyleKey(each, weight=weight) for each, weight in self.weights(now).items()]
        after = [StyleKey(each, Fraction(fade), 0.5) for each in dict.fromkeys((heaviest, name))]
        return self._changed(
            now,
            styles=tuple([*before, *after] if fade > 0 else after),
            strength=(StrengthKey(self.strength(now)),),
        )

    def with_strength(self, strength: float, now: float) -> LiveStyle:
        """Return a copy with another strength from now on; a fade between styles stops where it is."""
        keys = tuple(StyleKey(each, weight=weight) for each, weight in self.weights(now).items())
        return self._changed(now, styles=keys, strength=(StrengthKey(strength),))

    def strength(self, now: float) -> float:
        """Return the strength at a time, 0..1."""
        return self.plan.timeline.strength_at(self._elapsed(now))

    def _elapsed(self, now: float) -> Fraction:
        return Fraction(max(0.0, now - self.since))

    def _changed(self, now: float, **changes: Any) -> LiveStyle:
        return LiveStyle(replace(self.plan, timeline=replace(self.plan.timeline, **changes)), now)
