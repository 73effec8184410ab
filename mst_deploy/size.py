"""The size requested for a result."""

from __future__ import annotations

from dataclasses import dataclass

from mst_deploy.errors import InvalidArgument


@dataclass(frozen=True)
class Size:
    """A requested picture size in pixels: exactly width x height, or a short side that keeps the aspect
    ratio."""

    width: int | None = None
    height: int | None = None
    short_side: int | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """Parse ``640x360`` or ``360``, in pixels. Raises InvalidArgument."""
        parts = text.lower().split("x")
        if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 16384 for part in parts):
            parts = []
        if len(parts) == 1:
            return cls(short_side=int(parts[0]))
        if len(parts) == 2:
            return cls(width=int(parts[0]), height=int(parts[1]))
        raise InvalidArgument(
            field="size",
            problem=(
                f"cannot use {text!r} as a size: give WIDTHxHEIGHT (640x360) or the short side (360), in "
                "pixels from 1 to 16384"
            ),
        )

    def applied(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) for a picture of the given size; with a short side both are rounded to even
        numbers."""
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.short_side is None or self.short_side == min(width, height):
            return width, height
        scale = self.short_side / min(width, height)
        wide, high = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
        return wide, high
