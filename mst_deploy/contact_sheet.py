"""Contact sheets: small pictures in rows and columns, with a name below each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mst_deploy.errors import InvalidArgument
from mst_deploy.images import Image, check_image

SHAPE = 4 / 3
"""Width by height of a sheet whose number of columns is chosen here."""
BACKGROUND = 255
INK = (32, 32, 32)


@dataclass(frozen=True)
class SheetLayout:
    """Geometry of a sheet, in pixels."""

    count: int
    """Number of cells."""
    columns: int
    width: int
    """Of one picture."""
    height: int

    @property
    def rows(self) -> int:
        """Number of rows; the last may not be full."""
        return math.ceil(self.count / self.columns)

    @property
    def gap(self) -> int:
        """Space around pictures and between columns: a fortieth of a picture's long side, at least 4."""
        return max(4, max(self.width, self.height) // 40)

    @property
    def font_size(self) -> int:
        """Size of the names: a twentieth of a picture's long side, at least 12."""
        return max(12, max(self.width, self.height) // 20)

    @property
    def label_height(self) -> int:
        """Height of the strip below a picture that holds its name."""
        return round(1.6 * self.font_size)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole sheet."""
        return (
            self.gap + self.columns * (self.width + self.gap),
            self.gap + self.rows * (self.height + self.label_height),
        )

    def position(self, index: int) -> tuple[int, int]:
        """(left, top) of a picture; they follow each other along the rows."""
        row, column = divmod(index, self.columns)
        return (
            self.gap + column * (self.width + self.gap),
            self.gap + row * (self.height + self.label_height),
        )


def best_columns(count: int, width: int, height: int) -> int:
    """Return the number of columns whose sheet of ``count`` pictures of a size is nearest to 4:3.

    Nearest in the ratio of the shapes; of two equal ones the one with fewer empty places.
    """

    def badness(columns: int) -> tuple[float, int]:
        layout = SheetLayout(count, columns, width, height)
        wide, high = layout.size
        return abs(math.log(wide / high / SHAPE)), layout.rows * columns - count

    return min(range(1, count + 1), key=badness)


def contact_sheet(cells: Sequence[Image], labels: Sequence[str], columns: int | None = None) -> Image:
    """Put pictures (H, W, 3) uint8 RGB of one size on a white sheet, each with its label centered below it.

    ``columns`` None chooses them so that the sheet is about 4:3. Labels that are too wide are cut, with three
    dots. Returns the sheet, (H, W, 3) uint8 RGB, of the size that ``SheetLayout`` says. Raises
    InvalidArgument.
    """
    if not cells or len(cells) != len(labels):
        raise InvalidArgument(
            f"a contact sheet needs pictures and one label for each; got {len(cells)} pictures and "
            f"{len(labels)} labels"
        )
    for cell in cells:
        check_image(cell, "a picture of a contact sheet")
        if cell.shape != cells[0].shape:
            raise InvalidArgument(
                f"all pictures of a contact sheet must be of one size; got {cells[0].shape} and {cell.shape}"
            )
    height, width = cells[0].shape[:2]
    if columns is None:
        columns = best_columns(len(cells), width, height)
    if columns < 1:
        raise InvalidArgument(
            field="columns", problem=f"a contact sheet needs at least one column, got {columns}"
        )
    layout = SheetLayout(len(cells), min(columns, len(cells)), width, height)
    sheet = np.full((layout.size[1], layout.size[0], 3), BACKGROUND, np.uint8)
    for index, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        left, top = layout.position(index)
        sheet[top : top + height, left : left + width] = cell
        strip = label_strip(label, width, layout.label_height, layout.font_size)
        sheet[top + height : top + height + layout.label_height, left : left + width] = strip
    return sheet


def label_strip(text: str, width: int, height: int, font_size: int) -> NDArray[np.uint8]:
    """Draw one line of text in the middle of a white strip -> (height, width, 3) uint8 RGB.

    The font is the one that Pillow brings along. Text wider than the strip is cut.
    """
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(font_size)
    strip = pillow.new("RGB", (width, height), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(strip)
    line = shortened(" ".join(text.split()), width, partial(draw.textlength, font=font))
    draw.text((width / 2, height / 2), line, INK, font, anchor="mm")
    return np.asarray(strip, np.uint8)


def shortened(text: str, width: float, measure: Callable[[str], float]) -> str:
    """Return the text, or the longest beginning of it that fits into a width with three dots behind it."""
    if measure(text) <= width:
        return text
    fitting = (f"{text[:end].rstrip()}..." for end in range(len(text) - 1, 0, -1))
    return next((line for line in fitting if measure(line) <= width), "")
