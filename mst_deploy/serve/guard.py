"""Who may ask, checked before anything is read: host name, origin, token; and headers of every answer.

A page of another origin can make a browser send requests here. Names that are not ours are refused (DNS
rebinding), requests that change something must come from our own page or from no page at all, and every
call of the API needs the token where there is one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from mst_deploy.serve.problems import problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::")
SAFE = ("GET", "HEAD", "OPTIONS")
PUBLIC = ("/healthz", "/readyz")
SUBPROTOCOL = "mst"
"""Subprotocol of WebSockets; a second one, ``bearer.TOKEN`` in base64url, carries the token, because
browsers send no other header."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who may use the service."""

    host: str = LOCAL[0]
    """Address that it listens on."""
    token: str = field(default="", repr=False)
    """Secret that every call needs; "" for none."""
    names: tuple[str, ...] = ()
    """Further host names under which it is reached, as behind a reverse proxy."""

    def knows(self, host: str) -> bool:
        """Return whether a Host header, with or without a port, names this service."""
        name = _name(host)
        if name in (*LOCAL, self.host, *self.names):
            return True
        return self.host in ANY and _is_address(name)  # an address cannot be rebound as a name can

    def admits(self, token: str) -> bool:
        """Compare a token in constant time."""
        return not self.token or hmac.compare_digest(token.encode(), self.token.encode())


class Guard:
    """ASGI middleware that lets only permitted requests through and adds headers to every answer."""

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal is not None:
                return await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            return await self.app(scope, receive, send)

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                if scope["path"].startswith("/v1/"):
                    extra.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *(each for each in extra if each[0] not in given)]
            await send(message)

        if refusal is not None:
            answer = problem(*refusal)
            if refusal[0] == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        """Return status, problem and hint of a request that is not permitted."""
        host = headers.get("host", "")
        if not self.access.knows(host):
            return 403, f"this service is not called {_name(host)[:100]!r}", "start it with that name allowed"
        method = scope.get("method", "")
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            foreign = True
        if foreign and method not in SAFE:
            return 403, "requests from pages of other sites are refused", ""
        path = scope["path"]
        if (path.startswith("/v1/") or path == "/metrics") and not self.access.admits(_token(scope, headers)):
            return 401, "a token is needed", "send it as Authorization: Bearer TOKEN"
        return None


def _token(scope: Scope, headers: dict[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for offered in scope.get("subprotocols", ()):
        if offered.startswith("bearer."):
            coded = offered.removeprefix("bearer.")
            try:
                return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
            except (binascii.Error, ValueError):
                return ""
    return ""


def _name(host: str) -> str:
    """Return the name of a Host header, without port and brackets, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
