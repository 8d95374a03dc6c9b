"""
title: Thumbs for Thumbloop
description: Turns thumbs on replies of Thumbloop into votes that it learns from.
requirements: httpx
"""  # fmt: skip
# An event function of Open WebUI (0.10 or newer). Whatever event it gets, it compares all ratings
# that Open WebUI has with those that it has sent, and sends the difference. So an event may be lost
# or come twice, and what an event says does not matter: in 0.10.2 its rating was empty.

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

LIKE = frozenset(
    {
        "accurate_information",
        "followed_instructions_perfectly",
        "showcased_creativity",
        "positive_attitude",
        "attention_to_detail",
        "thorough_explanation",
    }
)
DISLIKE = frozenset(
    {
        "dont_like_the_style",
        "too_verbose",
        "not_helpful",
        "not_factually_correct",
        "didnt_fully_follow_instructions",
        "refused_when_it_shouldnt_have",
        "being_lazy",
    }
)
GONE = 404
_LONGEST_COMMENT = 4000
_lock = asyncio.Lock()


class Valves(BaseModel):
    """What an administrator sets."""

    url: str = Field("http://127.0.0.1:8000/v1", description="Thumbloop's API.")
    key: str = Field("", description="The API key that Open WebUI chats with; empty without keys.")
    state_file: str = Field(
        "",
        description="Where to note what was sent; empty = thumbloop-votes.json in the data folder.",
    )


valves = Valves()


async def event(event: Mapping[str, Any]) -> None:
    """Send what has changed, after any event about ratings and at each start."""
    name = str(event.get("event", ""))
    if name.startswith("feedback.") or name == "system.startup.completed":
        async with _lock:
            await reconcile(await all_ratings(), valves)


async def all_ratings() -> list[Any]:
    """Return every rating that Open WebUI has."""
    from open_webui.models.feedbacks import Feedbacks  # noqa: PLC0415 - only there it exists

    found = Feedbacks.get_all_feedbacks()
    return list(await found if inspect.isawaitable(found) else found)


async def reconcile(ratings: Sequence[Any], settings: Valves) -> None:
    """Make Thumbloop's votes those that Open WebUI has, and note what was sent.

    What could not be sent is sent again with the next event.

    Args:
        ratings: Open WebUI's ratings: objects with ``id``, ``user_id``, ``data`` and ``meta``.
        settings: Where Thumbloop is, and where the note is.
    """
    path = _state_path(settings)
    sent: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    wanted = {vote["id"]: vote for vote in map(vote_of, ratings) if vote is not None}
    changed = [vote for name, vote in wanted.items() if sent.get(name) != vote]
    withdrawn = [vote for name, vote in sent.items() if name not in wanted]
    if not changed and not withdrawn:
        return
    headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        for vote in withdrawn:
            if await _withdraw(client, settings.url, vote):
                del sent[vote["id"]]
        for vote in changed:
            if await _put(client, settings.url, vote):
                sent[vote["id"]] = vote
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(sent))
    scratch.replace(path)


def vote_of(rating: Any) -> dict[str, Any] | None:
    """Return the vote that a rating is, with the ids of the rating and of the reply; None if none.

    A person who turns a thumb round keeps the old reason in Open WebUI (issue 30053), so a reason
    of the other side is left out.
    """
    data, meta = rating.data or {}, rating.meta or {}
    value, chat, message = _number(data.get("rating")), meta.get("chat_id"), meta.get("message_id")
    if not value or not chat or not message:
        return None
    reason = data.get("reason")
    wrong = DISLIKE if value > 0 else LIKE
    return {
        "id": rating.id,
        "reply": f"{chat}:{message}",
        "user": rating.user_id,
        "thumb": "up" if value > 0 else "down",
        "tags": [reason[:64]] if reason and reason not in wrong else [],
        "comment": (data.get("comment") or "")[:_LONGEST_COMMENT] or None,
    }


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


async def _put(client: httpx.AsyncClient, url: str, vote: Mapping[str, Any]) -> bool:
    """Send a vote; return whether that is settled. A reply of another server is settled too."""
    body = {name: vote[name] for name in ("user", "thumb", "tags", "comment")}
    return await _settled(client.put(_address(url, vote), json=body))


async def _withdraw(client: httpx.AsyncClient, url: str, vote: Mapping[str, Any]) -> bool:
    return await _settled(client.delete(_address(url, vote), params={"user": vote["user"]}))


async def _settled(asking: Any) -> bool:
    try:
        answer = await asking
    except httpx.HTTPError as error:
        logger.warning("Thumbloop does not answer, and the vote waits: %r", error)
        return False
    if answer.is_success or answer.status_code == GONE:
        return True
    logger.warning("Thumbloop refuses a vote, which waits: %s", answer.text)
    return False


def _address(url: str, vote: Mapping[str, Any]) -> str:
    return f"{url.rstrip('/')}/feedback/external/{quote(vote['reply'], safe='')}"


def _state_path(settings: Valves) -> Path:
    if settings.state_file:
        return Path(settings.state_file)
    return Path(os.environ.get("DATA_DIR", ".")) / "thumbloop-votes.json"
