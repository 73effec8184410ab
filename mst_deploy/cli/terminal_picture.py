"""Pictures in terminals that can show them: the protocols of kitty and of iTerm2."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from mst_deploy.images import Image

KITTY, ITERM = "kitty", "iterm"
CHUNK = 4096
"""Characters in one escape sequence of kitty's protocol, at most."""
COLUMNS = 48
"""Width of a picture in cells of the terminal."""
PIXELS = 640
"""Long side of a picture that is sent."""


def protocol_of(environment: Mapping[str, str]) -> str | None:
    """Return the protocol by which the terminal shows pictures; None if it shows none, or is not known to.

    tmux and screen pass pictures on only if they are set up for it, so there is none inside of them.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return KITTY
    return ITERM if program in ("iTerm.app", "WezTerm") else None


def sequence(png: bytes, protocol: str) -> str:
    """Return the escape sequences that show a PNG file."""
    text = base64.b64encode(png).decode()
    if protocol == ITERM:
        return f"\x1b]1337;File=inline=1;size={len(png)};width={COLUMNS};preserveAspectRatio=1:{text}\a\n"
    chunks = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
    parts = []
    for number, chunk in enumerate(chunks):
        more = int(number < len(chunks) - 1)
        keys = f"a=T,f=100,q=2,c={COLUMNS},m={more}" if number == 0 else f"m={more}"
        parts.append(f"\x1b_G{keys};{chunk}\x1b\\")
    return "".join(parts) + "\n"


def shows_pictures() -> bool:
    """Return whether stderr is a terminal that shows pictures."""
    return sys.stderr.isatty() and protocol_of(os.environ) is not None


def show(image: Image, stream: TextIO | None = None) -> None:
    """Show a picture (H, W, 3) uint8 RGB in the terminal; nothing where it cannot be written."""
    from PIL import Image as pillow

    picture, file = pillow.fromarray(image), io.BytesIO()
    picture.thumbnail((PIXELS, PIXELS))
    picture.save(file, "PNG")
    stream = stream or sys.stderr
    with suppress(OSError, ValueError):
        stream.write(sequence(file.getvalue(), protocol_of(os.environ) or ITERM))
        stream.flush()
