"""A small inference server for tests: version 2 of KServe's protocol, with binary tensors, over HTTP.

It reads a model repository as Triton does, really runs the graphs with ONNX Runtime, and answers wrong
requests as Triton does. Faults can be switched on.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HEADER = "Inference-Header-Content-Length"
TYPES = {"UINT8": np.uint8, "FP32": np.float32}


class Model:
    """The newest version of one model of a repository."""

    def __init__(self, folder: Path) -> None:
        self.config = (folder / "config.pbtxt").read_text()
        self.version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        self.session = onnxruntime.InferenceSession(
            folder / str(self.version) / "model.onnx", providers=["CPUExecutionProvider"]
        )
        tensors = re.findall(
            r'(input|output) \[ \{ name: "(\w+)" data_type: TYPE_(\w+) dims: (\[[^\]]*\])', self.config
        )
        self.inputs = {name: (kind, json.loads(dims)) for way, name, kind, dims in tensors if way == "input"}
        self.outputs = {
            name: (kind, json.loads(dims)) for way, name, kind, dims in tensors if way == "output"
        }
        self.parameters = {
            key: {"string_value": value}
            for key, value in re.findall(r'key: "(\w+)" value \{ string_value: "([^"]*)" \}', self.config)
        }
        found = re.search(r"max_batch_size: (\d+)", self.config)
        assert found is not None
        self.max_batch = int(found[1])

    def run(self, tensors: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
        """Raises ValueError with Triton's words."""
        for name, (kind, dims) in self.inputs.items():
            if name not in tensors:
                raise ValueError(f"expected {len(self.inputs)} inputs but got {len(tensors)}")
            value = tensors[name]
            if value.dtype != TYPES[kind]:
                raise ValueError(f"inference input '{name}' data-type is wrong, expected '{kind}'")
            shape = [-1, *dims]
            fits = len(shape) == value.ndim and all(
                w in (-1, f) for w, f in zip(shape, value.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"unexpected shape for input '{name}'. Expected {shape}, got {list(value.shape)}"
                )
            if len(value) > self.max_batch:
                raise ValueError(f"inference request batch-size must be <= {self.max_batch}")
        return dict(zip(wanted, self.session.run(wanted, tensors), strict=True))


class Server(ThreadingHTTPServer):
    """The server; its faults are attributes."""

    request_queue_size = 64  # clients that connect at once

    daemon_threads = True

    def __init__(self, repository: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {path.parent.name: Model(path.parent) for path in repository.glob("*/config.pbtxt")}
        self.busy = 0
        """Number of requests that are refused because the queue is full."""
        self.short = False
        """Whether answers lack their last byte of data."""
        self.connections = 0
        self.requests = 0
        self.open: set[Any] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        self.server.open.add(self.connection)

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        match = re.fullmatch(r"/v2/models/([^/]+)(/config|/ready)?", self.path)
        model = self.server.models.get(match[1]) if match else None
        if model is None or match is None:
            name = match[1] if match else ""
            return self.answer(400, {"error": f"Request for unknown model: '{name}' is not found"})
        if match[2] == "/config":
            return self.answer(200, {"name": match[1], "parameters": model.parameters})
        self.answer(200, {"name": match[1], "versions": [str(model.version)], "platform": "onnxruntime_onnx"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        if self.server.busy:
            self.server.busy -= 1
            return self.answer(503, {"error": "Exceeds maximum queue size"})
        match = re.fullmatch(r"/v2/models/([^/]+)/infer", self.path)
        assert match is not None
        model = self.server.models[match[1]]
        length = int(self.headers.get(HEADER, len(body)))
        request, rest = json.loads(body[:length]), body[length:]
        tensors = {}
        for entry in request["inputs"]:
            size = entry["parameters"]["binary_data_size"]
            values = np.frombuffer(rest[:size], TYPES[entry["datatype"]])
            tensors[entry["name"]] = values.reshape(entry["shape"])
            rest = rest[size:]
        try:
            outputs = model.run(tensors, [entry["name"] for entry in request["outputs"]])
        except ValueError as error:
            return self.answer(400, {"error": str(error)})
        described = [
            {
                "name": name,
                "shape": list(value.shape),
                "datatype": model.outputs[name][0],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in outputs.items()
        ]
        data = b"".join(np.ascontiguousarray(value).tobytes() for value in outputs.values())
        self.answer(
            200, {"model_name": match[1], "outputs": described}, data[: len(data) - self.server.short]
        )

    def answer(self, status: int, values: dict[str, Any], data: bytes = b"") -> None:
        header = json.dumps(values).encode()
        self.send_response(status)
        if data:
            self.send_header(HEADER, str(len(header)))
        self.send_header("Content-Length", str(len(header) + len(data)))
        self.end_headers()
        self.wfile.write(header + data)


@contextmanager
def serving(repository: Path) -> Iterator[Server]:
    """A server in a thread, until the block ends; connections are closed then, as by a server that dies."""
    server = Server(repository)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        stop(server)
        thread.join()


def stop(server: Server) -> None:
    """Stop a server now; calling it twice is no harm."""
    server.shutdown()
    server.server_close()
    for connection in server.open:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
