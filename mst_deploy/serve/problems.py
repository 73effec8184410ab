"""Errors as problem details (RFC 9457), in the words of the library, without paths and tracebacks."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mst_deploy.errors import BackendError, InputError, InvalidArgument, MstError, OutputError

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("mst.serve")


class Refused(Exception):
    """An answer other than success: a status, what is wrong, what to do."""

    def __init__(self, status: int, problem: str, hint: str = "", *, field: str = "", retry: int = 0) -> None:
        self.status, self.problem, self.hint, self.field, self.retry = status, problem, hint, field, retry
        super().__init__(problem)


class ProcessDied(InputError):
    """The process that decoded a file ended: the file asked for too much, or is made to do harm."""


def problem(status: int, problem: str, hint: str = "", *, field: str = "", retry: int = 0) -> JSONResponse:
    """Return the answer for an error. ``detail`` is the whole sentence; ``retry`` is in seconds."""
    values: dict[str, Any] = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": "; ".join(part for part in (problem, hint) if part),
        "problem": problem,
    }
    values |= {name: text for name, text in (("hint", hint), ("field", field)) if text}
    headers = {"Retry-After": str(retry)} if retry else None
    return JSONResponse(values, status, headers, MEDIA_TYPE)


def of_error(error: Exception) -> JSONResponse:
    """Return the answer for an error of the library."""
    if isinstance(error, InvalidArgument):
        return problem(422, str(error.problem), str(error.hint), field=error.field)
    if isinstance(error, InputError):
        return problem(422, str(error))
    if isinstance(error, BackendError):
        return problem(503, str(error), retry=10)
    if isinstance(error, OutputError):
        log.error("cannot write: %s", error)
        return problem(507, "the result cannot be written", "try again later", retry=60)
    log.error("unexpected error", exc_info=error)
    return problem(500, "an unexpected error; the log of the server has the details")


def install(app: FastAPI) -> None:
    """Make all errors of an application problem details."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.problem, error.hint, field=error.field, retry=error.retry)

    @app.exception_handler(MstError)
    async def expected(request: Request, error: MstError) -> JSONResponse:
        return of_error(error)

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return problem(422, f"{name}: {first['msg']}", field=name)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return of_error(error)
