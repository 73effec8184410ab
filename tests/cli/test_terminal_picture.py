"""Pictures in terminals: the escape sequences are read back as a terminal reads them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mst_deploy.cli import terminal_picture
from mst_deploy.cli.terminal_picture import CHUNK, ITERM, KITTY, protocol_of, sequence, show
from tests.command_line import mst


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, ITERM),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, ITERM),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({}, None),
    ],
)
def test_terminals(environment: dict[str, str], protocol: str | None) -> None:
    assert protocol_of(environment) == protocol


def png_in(text: str, protocol: str) -> bytes:
    """The file that a terminal reads in escape sequences."""
    if protocol == ITERM:
        found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);[^:]*:([^\x07]*)\x07\n", text)
        assert found is not None
        data = base64.b64decode(found[2], validate=True)
        assert len(data) == int(found[1])
        return data
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{chunk}\x1b\\" for keys, chunk in parts) + "\n" == text
    assert [keys.rpartition("m=")[2] for keys, _ in parts] == ["1"] * (len(parts) - 1) + ["0"]
    assert all(len(chunk) <= CHUNK for _, chunk in parts)
    return base64.b64decode("".join(chunk for _, chunk in parts), validate=True)


@pytest.mark.parametrize("protocol", [KITTY, ITERM])
@pytest.mark.parametrize("size", [1, CHUNK * 3 // 4, CHUNK * 3 // 4 + 1, 20000])
def test_sequences_hold_the_file(protocol: str, size: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    assert png_in(sequence(data, protocol), protocol) == data


def test_the_first_frame_is_shown_where_the_terminal_can(
    small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("video", small_clip, "-s", "zodiac", "--backend", "fake", "-f", "-o", tmp_path / "o.mp4")
    assert "\x1b" not in mst(*arguments, env={"TERM": "xterm-kitty"}).stderr  # no terminal
    monkeypatch.setattr(terminal_picture, "shows_pictures", lambda: True)
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")
    for name in ("KITTY_WINDOW_ID", "TMUX", "TERM"):
        monkeypatch.delenv(name, raising=False)
    done = mst(*arguments)
    assert done.returncode == 0, done.stderr
    shown = re.search(r"\x1b\][^\x07]*\x07\n", done.stderr)
    assert shown is not None
    assert Image.open(io.BytesIO(png_in(shown[0], ITERM))).size == (64, 48)
    assert "\x1b" not in mst(*arguments, "--json").stderr
    assert "\x1b" not in mst(*arguments, "--quiet").stderr


def test_large_pictures_are_sent_small() -> None:
    stream = io.StringIO()
    show(np.zeros((900, 1600, 3), np.uint8), stream)
    data = re.findall(r":([A-Za-z0-9+/=]+)\x07|;([A-Za-z0-9+/=]+)\x1b", stream.getvalue())
    assert Image.open(io.BytesIO(base64.b64decode("".join(a or b for a, b in data)))).size == (640, 360)
