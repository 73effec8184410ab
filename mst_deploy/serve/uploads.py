"""Bodies of requests, counted while they stream in: the file itself, or a form with one file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from mst_deploy.serve.limits import Limits
from mst_deploy.serve.problems import Refused

COPIED = 1 << 20  # bytes of a form's file that are copied at a time
FORM = 10_000  # bytes of a form around its file


async def read_picture(request: Request, limits: Limits) -> bytes:
    """Return the bytes of a picture. Raises Refused."""
    _check_type(request, "image")
    parts = bytearray()
    async for chunk in _content(request, limits, limits.picture_bytes):
        parts += chunk
    if not parts:
        raise Refused(422, "the body is empty", "send a picture as the body, or as the file of a form")
    return bytes(parts)


async def save_clip(request: Request, limits: Limits, path: Path) -> int:
    """Write a clip to a file and return its size in bytes. Raises Refused."""
    _check_type(request, "video")
    written = 0
    with path.open("wb") as file:
        async for chunk in _content(request, limits, limits.clip_bytes):
            written += len(chunk)
            await asyncio.to_thread(file.write, chunk)
    if not written:
        raise Refused(422, "the body is empty", "send a clip as the body, or as the file of a form")
    return written


def media_type(request: Request) -> str:
    """Return the media type of a request's body in lower case, without parameters."""
    given: str = request.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower()


def _check_type(request: Request, kind: str) -> None:
    given = media_type(request)
    if not given.startswith((f"{kind}/", "application/octet-stream", "multipart/form-data")):
        raise Refused(
            415,
            f"cannot take {given or 'a body without a type'}",
            f"send {kind}/*, application/octet-stream, or multipart/form-data with one file",
        )


async def _content(request: Request, limits: Limits, most: int) -> AsyncIterator[bytes]:
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > most + FORM:
        raise _too_large(most)
    receive = _counted(request, limits, most)
    inner = Request(request.scope, receive)
    try:
        if media_type(request) != "multipart/form-data":
            async for chunk in inner.stream():
                yield chunk
            return
        async with inner.form(max_files=1, max_fields=8) as form:
            files = [value for value in form.values() if hasattr(value, "read")]
            if len(files) != 1:
                raise Refused(422, "the form has no file", "send one file in a field of any name")
            upload: Any = files[0]
            while chunk := await upload.read(COPIED):
                yield chunk
    except ClientDisconnect:
        raise Refused(400, "the request was not sent to its end") from None
    except MultiPartException as error:
        raise Refused(400, f"the form cannot be read: {error.message}") from error


def _counted(request: Request, limits: Limits, most: int) -> Any:
    """Return the request's ``receive`` that refuses too many, or too slow, bytes."""
    started, count = time.monotonic(), 0

    async def receive() -> Any:
        nonlocal count
        try:
            message = await asyncio.wait_for(request.receive(), limits.stalled_seconds)
        except TimeoutError:
            raise Refused(408, f"nothing was sent for {limits.stalled_seconds:g} s") from None
        count += len(message.get("body", b""))
        if count > most + FORM:
            raise _too_large(most)
        passed = time.monotonic() - started
        if (
            message.get("more_body")
            and passed > limits.stalled_seconds
            and count < limits.lowest_rate * passed
        ):
            raise Refused(408, f"the body comes at less than {limits.lowest_rate / 1000:g} kB/s")
        return message

    return receive


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body may have {most / 1e6:g} MB", "make the file smaller")
