"""Keys pressed in the terminal while a command runs, one by one and without Enter."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK = 0.1  # seconds between checks whether to stop


@contextmanager
def pressed_keys(handle: Callable[[str], None]) -> Iterator[bool]:
    """Call ``handle`` with each key, in a thread, while the block runs; yield whether keys can be heard.

    Needs a terminal as standard input, of a system with ``termios``. The terminal is left as it was found.
    """
    if not sys.stdin or not sys.stdin.isatty():
        yield False
        return
    try:
        import select
        import termios
        import tty
    except ModuleNotFoundError:
        yield False
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            if not select.select([file], [], [], TICK)[0]:
                continue
            typed = os.read(file, 64)  # not through sys.stdin, whose buffer select does not see
            if not typed:
                return
            if not typed.startswith(b"\x1b"):  # arrows and the like are sequences with digits in them
                for key in typed.decode("ascii", "ignore"):
                    handle(key)

    thread = threading.Thread(target=listen, name="keys", daemon=True)
    try:
        tty.setcbreak(file)  # Ctrl-C still interrupts
        thread.start()
        yield True
    finally:
        ended.set()
        thread.join()
        termios.tcsetattr(file, termios.TCSADRAIN, before)
