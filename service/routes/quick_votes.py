"""PUT /v1/feedback/{completion_id} as a Starlette route, placed before FastAPI's routes.

FastAPI takes twice as long to read a request and shape its answer as the vote itself takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from service.routes import feedback
from service.routes.queries import refuse_unknown_queries
from service.schemas.chat import FeedbackRequest

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_JSON = "application/json"
_PATH = f"{feedback.router.prefix}/{{completion_id}}"


class QuickVotes:
    """Answers well-formed votes; FastAPI's route gets all else, and says what is wrong with it.

    It is an ASGI application, as Starlette wraps a function in a further handler of errors.
    """

    def __init__(self) -> None:
        routes = feedback.router.routes
        self._documented = next(each for each in routes if "PUT" in getattr(each, "methods", ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await refuse_unknown_queries(Request({**scope, "route": self._documented}))
        body = await _whole(receive)
        asked = _understood(body) if _is_json(scope) else None
        if asked is None:
            await self._documented.handle(scope, _again(body), send)
            return
        state, completion_id = scope["state"], scope["path_params"]["completion_id"]
        found = await feedback.put_vote(state["runtime"], state["caller"], completion_id, asked)
        await Response(found.model_dump_json(), media_type=_JSON)(scope, receive, send)


class VoteRoute(Route):
    """A route that notes itself, as FastAPI's do: metrics name it, also where it answers 405."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for this route, and what is noted of it then."""
        match, noted = super().matches(scope)
        return match, noted if match is Match.NONE else {**noted, "route": self}


ROUTE = VoteRoute(_PATH, QuickVotes(), methods=["PUT"], name="quick_votes", include_in_schema=False)


def _is_json(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type") == _JSON


async def _whole(receive: Receive) -> bytes:
    """Return the request's whole body; of a client that has left, what came of it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _understood(body: bytes) -> FeedbackRequest | None:
    try:
        return FeedbackRequest.model_validate_json(body)
    except ValidationError:
        return None


def _again(body: bytes) -> Receive:
    """Return what gives a body that was read already once more."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
