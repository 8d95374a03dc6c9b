"""The public API as a simulated user sees it; the only module here that does IO over HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from models.types import BASE
from service.simulate.errors import NotThereError, RequestFailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.simulate.people import Thumb

_PATIENCE = httpx.Timeout(300.0, connect=10.0)
"""Seconds; a reply waits behind others, and the learner shares the machine."""

_OPEN_RUN_STATES = frozenset({"claimed", "committed"})
_CLIENT_ERRORS = 400


@dataclass(frozen=True, slots=True)
class SimulatedReply:
    """An assistant's reply; ``version`` is the one that wrote it."""

    id: str
    text: str
    version: str
    recorded: bool


@dataclass(frozen=True, slots=True)
class LearningStatus:
    """How learning stands.

    Attributes:
        updating: Whether an update is being learned or checked.
        due: Whether the votes for one wait, so that it is about to begin.
    """

    updating: bool
    due: bool


def pinned(version: str) -> str:
    """Return what a request for this very version calls its model."""
    return BASE if version == BASE else f"policy@{version}"


class Api:
    """What simulated users ask of a Thumbloop server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, key: str | None) -> AsyncIterator[Api]:
        """Open a connection pool to the server at ``url``; closed at the end of the block."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_PATIENCE, trust_env=False
        ) as http:
            yield cls(http)

    async def chat(
        self, prompt: str, *, user: str, model: str, max_tokens: int, seed: int
    ) -> SimulatedReply:
        """Ask one question at temperature 1.

        Raises:
            RequestFailedError: The server refused, failed, or could not be reached.
        """
        answer = await self._ask(
            "POST",
            "/v1/chat/completions",
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 1.0,
                "max_tokens": max_tokens,
                "user": user,
                "seed": seed,
            },
        )
        try:
            return SimulatedReply(
                id=answer["id"],
                text=answer["choices"][0]["message"]["content"] or "",
                version=answer["system_fingerprint"],
                recorded=answer.get("recorded", True),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise RequestFailedError(f"The reply is not a chat completion: {answer}") from error

    async def vote(self, completion_id: str, *, user: str, thumb: Thumb) -> None:
        """Cast a vote.

        Raises:
            RequestFailedError: The server refused, failed, or could not be reached.
        """
        await self._ask("PUT", f"/v1/feedback/{completion_id}", {"thumb": thumb, "user": user})

    async def serves(self, version: str) -> bool:
        """Whether the server still has a version's weights; raises RequestFailedError."""
        try:
            await self._ask("GET", f"/v1/models/{pinned(version)}")
        except NotThereError:
            return False
        return True

    async def live(self) -> str:
        """Return the version that is live now; raises RequestFailedError."""
        rollout = await self._ask("GET", "/admin/rollout")
        try:
            return str(rollout["live"])
        except (KeyError, TypeError) as error:
            raise RequestFailedError(f"/admin/rollout names no live version: {rollout}") from error

    async def learning(self) -> LearningStatus:
        """Return how learning stands; raises RequestFailedError."""
        updates = await self._ask("GET", "/admin/updates?limit=5")
        try:
            stands = updates["learning"]
            return LearningStatus(
                updating=any(run["state"] in _OPEN_RUN_STATES for run in updates["data"]),
                due=not stands["paused"] and stands["waiting_votes"] >= stands["min_votes"],
            )
        except (KeyError, TypeError) as error:
            raise RequestFailedError(f"/admin/updates lists no runs: {updates}") from error

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise RequestFailedError(
                f"{self._http.base_url} could not be asked ({what}). Is the server running? "
                "Start it with: thumbloop up"
            ) from error
        if response.status_code >= _CLIENT_ERRORS:
            absent = response.status_code == httpx.codes.NOT_FOUND
            kind = NotThereError if absent else RequestFailedError
            raise kind(f"{method} {path}: {_explain(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise RequestFailedError(f"{method} {path}: the answer is not JSON.") from error


def _explain(response: httpx.Response) -> str:
    try:
        said = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = response.text[:200]
    return f"{response.status_code} {said}"
