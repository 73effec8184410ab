"""A headless Chromium with a fake camera, driven over the DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any, Self

from tests.ports import free_port

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def chromium() -> str | None:
    """The program, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Browser:
    """One page. A context manager."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        """``folder`` becomes the profile."""
        program = chromium()
        assert program is not None
        port = free_port()
        self.process = subprocess.Popen(
            [
                program,
                *FLAGS,
                f"--user-data-dir={folder}",
                f"--remote-debugging-port={port}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        from websockets.sync.client import connect

        self.socket = connect(self._page(port), max_size=None)
        self.numbers = count(1)
        self.messages: list[str] = []
        """Errors of the console, and uncaught ones."""
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def _page(self, port: int, patience: float = 60.0) -> str:
        until = time.monotonic() + patience
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                    pages = [each for each in json.load(answer) if each["type"] == "page"]
                    return str(pages[0]["webSocketDebuggerUrl"])
            except (OSError, IndexError):
                if time.monotonic() > until:
                    self.process.kill()
                    raise
                time.sleep(0.1)

    def call(self, method: str, **arguments: Any) -> Any:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("method") == "Runtime.exceptionThrown":
                self.messages.append(json.dumps(answer["params"]["exceptionDetails"])[:500])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.messages.append(json.dumps(answer["params"]["entry"])[:500])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What JavaScript says; promises are waited for."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str, patience: float = 60.0) -> None:
        until = time.monotonic() + patience
        while not self.value(condition):
            assert time.monotonic() < until, f"{condition} did not become true; {self.messages}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self, path: Path, **options: Any) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
