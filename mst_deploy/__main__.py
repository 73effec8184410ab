"""``python -m mst_deploy`` is ``mst``. Signals are handled from the start, so imports come later."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""As shells have them: 128 and the number of the signal."""


def _leave(number: int, frame: object) -> NoReturn:
    """Exit at once: before the start there is nothing to clean up."""
    sys.stderr.write("mst: interrupted\n")
    sys.stderr.flush()
    os._exit(EXIT_CODES[signal.Signals(number)])


def main() -> None:
    """Run the command ``mst``: Ctrl-C and SIGTERM both clean up and exit with 130 or 143."""
    received = signal.SIGINT
    for each in EXIT_CODES:
        signal.signal(each, _leave)

    from mst_deploy.cli import main as run

    def interrupt(number: int, frame: object) -> NoReturn:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    for each in EXIT_CODES:
        signal.signal(each, interrupt)
    try:
        run()
    except SystemExit as end:
        if end.code != EXIT_CODES[signal.SIGINT]:
            raise
        raise SystemExit(EXIT_CODES[received]) from None
    except KeyboardInterrupt:
        sys.stderr.write("mst: interrupted\n")
        raise SystemExit(EXIT_CODES[received]) from None


if __name__ == "__main__":
    main()
