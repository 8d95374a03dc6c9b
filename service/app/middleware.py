"""ASGI middleware: figures and headers of every answer, body limit, and who the caller is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service.errors import ApiError, error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.runtime.runtime import Runtime

PUBLIC = frozenset({"/", "/ops", "/livez", "/readyz", "/metrics", "/openapi.json", "/favicon.ico"})
"""Paths that need no key; so do those under ``/static/``."""

ADMIN = "/admin"
"""How paths begin that only keys with the scope ``admin`` may use; the others need ``chat``."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

_PROTECTION = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _runtime(scope: Scope) -> Runtime:
    runtime: Runtime = scope["state"]["runtime"]
    return runtime


class Observer:
    """Counts and times each request, names it, and adds the headers that protect browsers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _protect(message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            # A client may send any word as its method, and each new one would be a new series.
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - started
            _runtime(scope).metrics.answered(method, route, status, seconds)


def _protect(headers: list[tuple[bytes, bytes]]) -> None:
    """Add the headers that an answer lacks."""
    present = {name for name, _ in headers}
    headers += [header for header in _PROTECTION if header[0] not in present]
    if b"x-request-id" not in present:
        headers.append((b"x-request-id", f"req-{os.urandom(16).hex()}".encode()))


class BodyLimit:
    """Refuses bodies over the limit; counts the bytes, as a chunked body declares no length.

    Args:
        app: What it is around.
        limit: Most bytes of a body.
        larger: Most bytes where more are needed, by method and path.
    """

    def __init__(
        self, app: ASGIApp, limit: int, larger: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        self.app = app
        self.limit = limit
        self.larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.larger.get((scope["method"], scope["path"]), self.limit)
        refusal = f"The request's body is larger than {limit} bytes. Send less."
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            body = error_body(413, refusal, "body_too_large")
            await JSONResponse(body, 413)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, refusal)
            return message

        await self.app(scope, counted, send)


class Authentication:
    """Finds out who is calling, and whether they may, before anything of the body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authenticator = _runtime(scope).authenticator
        try:
            authenticator.check_browser(headers)
            if scope["path"] not in PUBLIC and not scope["path"].startswith("/static/"):
                caller = await authenticator.identify(headers)
                caller.require("admin" if scope["path"].startswith(ADMIN) else "chat")
                caller.check_reply(scope["path"])
                scope["state"]["caller"] = caller
        except ApiError as error:
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)
