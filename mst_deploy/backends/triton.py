"""Backend that lets a Triton Inference Server run the model: frames go there and back over HTTP.

    triton:http://HOST:8000/mst_lite

The protocol is version 2 of KServe's Open Inference Protocol with the extension for binary tensors
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md), which
other servers speak, too. Several requests are under way at a time; results come in order.
"""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from mst_deploy.backends import BackendBase, Batch, FilmBatch, Images, model_inputs
from mst_deploy.errors import BackendError, BundleError, InvalidArgument
from mst_deploy.model.bundle import Bundle
from mst_deploy.model.canvas import Canvas

IN_FLIGHT = 4
"""Requests under way at a time."""
DEADLINE = 10.0
"""Seconds that an answer may take."""
TRIES = 5
"""Tries of a request that the server was too busy for."""
PAUSE = 0.1
"""Seconds before the second try; each further one waits twice as long, times a random factor up to 2."""
HEADER = "Inference-Header-Content-Length"
DATATYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype(np.float32)}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
BUSY = (429, 503)
Tensors = Mapping[str, NDArray[Any]]


class Client:
    """One model of a server. May be used by several threads."""

    def __init__(self, address: str, default_model: str) -> None:
        """Parse ``http://HOST:PORT/MODEL``; scheme and model may be left out. Raises InvalidArgument."""
        url = urlsplit(address if "://" in address else f"http://{address}")
        try:
            port = url.port
        except ValueError:
            port = 0
        if url.scheme not in ("http", "https") or not url.hostname or port == 0:
            raise InvalidArgument(
                field="backend",
                problem=f"cannot use {address!r} as the address of a server",
                hint="write it like triton:http://HOST:8000/mst_lite; gRPC is not spoken here",
            )
        self.name = f"{url.scheme}://{url.netloc}"
        self.host, self.port, self.secure = url.hostname, port, url.scheme == "https"
        self.model = url.path.strip("/") or default_model
        self.lock = threading.Lock()
        self.idle: list[HTTPConnection] = []

    def infer(self, inputs: Tensors, outputs: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Run the model once. Raises BackendError."""
        header, body = encoded(inputs, outputs)
        path = f"/v2/models/{quote(self.model)}/infer"
        for number in range(TRIES):
            headers = {HEADER: str(header), "Content-Type": "application/octet-stream"}
            status, answer, data = self._request("POST", path, body, headers)
            if status == 200:
                try:
                    return decoded(answer, data)
                except (ValueError, KeyError, TypeError) as error:
                    raise BackendError(f"cannot use the answer of {self.name}: {error}") from error
            if status not in BUSY:
                break
            time.sleep(PAUSE * 2**number * (1 + random.random()))
        if status in BUSY:
            raise BackendError(
                f"{self.name} is too busy ({_words(data)}); use fewer clients, or more instances of the model"
            )
        raise BackendError(f"{self.name} refused a request to {self.model}: {_words(data)}")

    def config(self) -> dict[str, Any]:
        """Return the configuration of the model; empty from servers without this extension of Triton. Raises
        BackendError for a server without the model."""
        status, _, data = self._request("GET", f"/v2/models/{quote(self.model)}")
        if status != 200:
            raise BackendError(
                f"{self.name} has no model {self.model} ({_words(data)}); its models are folders of the "
                "repository that mst export makes for Triton"
            )
        status, _, data = self._request("GET", f"/v2/models/{quote(self.model)}/config")
        try:
            values = json.loads(data) if status == 200 else {}
        except ValueError:
            values = {}
        return values if isinstance(values, dict) else {}

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self.lock:
            idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str | None, bytes]:
        """Return status, length of the JSON part, and content. Raises BackendError.

        Where the server has closed a connection while it was idle, another one is used.
        """
        while True:
            connection, used = self._connection()
            try:
                connection.request(method, path, body, dict(headers or {}))
                answer = connection.getresponse()
                found = answer.status, answer.getheader(HEADER), answer.read()
            except TimeoutError as error:
                connection.close()
                raise BackendError(
                    f"{self.name} did not answer within {DEADLINE:.0f} s; go on with [option:resume] when it "
                    "does"
                ) from error
            except (OSError, HTTPException) as error:
                connection.close()
                if not used:
                    raise BackendError(
                        f"{self.name} does not answer ({error or type(error).__name__}); is the server "
                        "running? Go on with [option:resume] when it is"
                    ) from error
            else:
                with self.lock:
                    self.idle.append(connection)
                return found

    def _connection(self) -> tuple[HTTPConnection, bool]:
        """Return a connection, and whether it has been used before."""
        with self.lock:
            if self.idle:
                return self.idle.pop(), True
        kind = HTTPSConnection if self.secure else HTTPConnection
        connection = kind(self.host, self.port, timeout=DEADLINE)
        with suppress(OSError):  # the request will report it
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, False


class TritonGenerator(BackendBase):
    """The generator on a server."""

    device = "server"

    def __init__(self, bundle: Bundle, address: str) -> None:
        self.manifest = bundle.manifest
        self.client = Client(address, f"mst_{bundle.manifest.name}")
        _require_same_model(self.client, bundle)

    def __call__(self, frames: Images, film_params: FilmBatch, canvas: Canvas | None = None) -> Images:
        inputs = model_inputs(self.manifest, frames, film_params, canvas)
        stylized = self.client.infer(inputs, ["stylized"]).get("stylized")
        if stylized is None or stylized.shape != frames.shape or stylized.dtype != np.uint8:
            found = "nothing" if stylized is None else f"{stylized.shape} {stylized.dtype}"
            raise BackendError(
                f"{self.client.name} gave {found} for frames {frames.shape} uint8; its model is not the one "
                "that mst export made"
            )
        return stylized

    def stream(self, batches: Iterable[Batch]) -> Iterator[Images]:
        """Stylize batches in order, ``IN_FLIGHT`` of them at a time."""
        waiting: deque[Future[Images]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, "triton") as threads:
            try:
                for batch in batches:
                    waiting.append(threads.submit(self, *batch))
                    if len(waiting) == IN_FLIGHT:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        self.client.close()


class TritonStyleEncoder:
    """The style encoder on a server."""

    def __init__(self, bundle: Bundle, address: str) -> None:
        self.manifest = bundle.manifest
        self.client = Client(address, f"mst_{bundle.manifest.name}")
        self.client.model += "_style"
        _require_same_model(self.client, bundle)

    def __call__(self, styles: Images) -> tuple[NDArray[np.float32], FilmBatch]:
        outputs = self.client.infer({"style": np.ascontiguousarray(styles)}, ["embedding", "film"])
        self.client.close()  # styles are few, and nobody closes an encoder
        shape = (len(styles), self.manifest.film_size)
        if "film" not in outputs or "embedding" not in outputs or outputs["film"].shape != shape:
            raise BackendError(f"{self.client.name} gave no FiLM vectors {shape} for {len(styles)} styles")
        return outputs["embedding"], outputs["film"]


def open_generator(bundle: Bundle, device: str, address: str = "") -> TritonGenerator:
    """Connect to the generator on a server. Raises InvalidArgument, BackendError, BundleError."""
    return TritonGenerator(bundle, address)


def open_style_encoder(bundle: Bundle, device: str, address: str = "") -> TritonStyleEncoder:
    """Connect to the style encoder on a server. Raises InvalidArgument, BackendError, BundleError."""
    return TritonStyleEncoder(bundle, address)


def _require_same_model(client: Client, bundle: Bundle) -> None:
    """Raise BundleError if the server says that its weights are other ones."""
    try:
        parameters = client.config().get("parameters", {})
    finally:
        client.close()
    found = parameters.get("model_id", {}).get("string_value") if isinstance(parameters, dict) else None
    if found not in (None, bundle.manifest.model_id):
        raise BundleError(
            f"{client.model} on {client.name} is the model {found}, not {bundle.manifest.name} "
            f"({bundle.manifest.model_id}); choose it with [option:model], or export it for the server again"
        )


def encoded(inputs: Tensors, outputs: Iterable[str]) -> tuple[int, bytes]:
    """Return a request, and the length of its JSON part: JSON, then the tensors, little-endian, in order."""
    tensors = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
    request = {
        "inputs": [
            {
                "name": name,
                "shape": list(value.shape),
                "datatype": NAMES[value.dtype],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in tensors.items()
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    }
    header = json.dumps(request).encode()
    return len(header), b"".join([header, *(value.data.cast("B") for value in tensors.values())])


def decoded(header: str | None, data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of an answer, binary or as JSON. Raises ValueError, KeyError, TypeError."""
    length = len(data) if header is None else int(header)
    answer, rest = json.loads(data[:length]), memoryview(data)[length:]
    found: dict[str, NDArray[Any]] = {}
    for output in answer["outputs"]:
        name, shape, dtype = output["name"], tuple(output["shape"]), DATATYPES[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.asarray(output["data"], dtype)
        else:
            if size > len(rest) or size != math.prod(shape) * dtype.itemsize:
                raise ValueError(
                    f"{name} has {min(size, len(rest))} bytes, which do not fit its shape {shape}"
                )
            values = np.frombuffer(rest[:size], dtype).copy()
            rest = rest[size:]
        found[name] = values.reshape(shape)
    return found


def _words(data: bytes) -> str:
    """Return the message in an error's content, in one line."""
    try:
        text = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        text = data[:200].decode(errors="replace")
    return " ".join(text.split()) or "it said nothing"
