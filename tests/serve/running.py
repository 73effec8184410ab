"""``mst serve`` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self


class Running:
    """The service with the fake model. A context manager."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [
            *(sys.executable, "-m", "mst_deploy", "serve", "--backend", "fake", "--model", "lite"),
            *("--port", "0", "--no-open", "--folder", str(folder)),
        ]
        self.process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found is not None, line + self.process.stderr.read()
        self.port, self.url = int(found[1]), found[0].rstrip("/")

    def ask(self, path: str, data: bytes | None = None, method: str | None = None, **headers: str) -> Any:
        """Status and body of an answer."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=200) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self, path: str) -> Any:
        """Description of a job."""
        return json.loads(self.ask(path)[1])

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
