"""Keys of a terminal, with a pseudo-terminal in its place."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mst_deploy.cli.keys import pressed_keys

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")


def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty
    import termios

    master, terminal = pty.openpty()
    keys: list[str] = []
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(terminal)
        with pressed_keys(keys.append) as listening:
            assert listening
            for typed, total in ((b"12q", 3), (b"+", 4)):  # several at once, and without Enter
                os.write(master, typed)
                begun = time.monotonic()
                while len(keys) < total:
                    assert time.monotonic() - begun < 30
                    time.sleep(0.01)
            os.write(master, b"\x1b[3~")  # the key Delete
            time.sleep(0.3)
        assert keys == ["1", "2", "q", "+"]
        assert termios.tcgetattr(terminal) == before
    os.close(master)


def test_without_a_terminal_no_key_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pressed_keys(lambda key: None) as listening:
            assert not listening
