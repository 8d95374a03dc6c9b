"""People who chat and vote over HTTP while things break, and remember what they were promised."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VOTES_PER_REPLY = 3
CLIENT_SECONDS = 20.0
"""Longer than the API waits for Redis: a vote is over, whatever came of it, when it is answered."""


@dataclass
class Ballot:
    """One reply and what its reader voted, each vote under a number that rises.

    Attributes:
        acknowledged: Number of the last vote that was answered 200; 0 for none.
        tried: Number of the last vote that was sent.
    """

    completion_id: str
    user: str
    acknowledged: int = 0
    tried: int = 0


@dataclass
class Found:
    """What is there afterwards, held against what was promised.

    Attributes:
        promised: Replies with at least one vote that was answered 200.
        kept: Those whose vote is the promised one, or a later one whose answer got lost.
    """

    promised: int
    kept: int
    lost: list[Ballot] = field(default_factory=list)


class Voters:
    """Some people, each of whom asks, then votes a few times on the reply, again and again.

    Where a reply has no record, they vote on the one before.
    """

    def __init__(self, url: str, people: int = 4, pause: float = 0.02) -> None:
        self.url = url
        self.people = people
        self.pause = pause
        self.ballots: list[Ballot] = []
        self.chats: Counter[str] = Counter()
        self.votes: Counter[int] = Counter()
        self.messages: set[str] = set()
        self._client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=CLIENT_SECONDS)

    async def close(self) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Chat and vote for as long as the block lasts; then let each end what it began."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(self.people):
                group.create_task(self._go_on(f"person{number}", stop))
            try:
                yield
            finally:
                stop.set()

    async def _go_on(self, user: str, stop: asyncio.Event) -> None:
        ballot = next((each for each in reversed(self.ballots) if each.user == user), None)
        while not stop.is_set():
            reply = await self.chat(user)
            if reply["recorded"]:
                ballot = self.ballot(reply["id"], user)
            if ballot is not None:
                for _ in range(VOTES_PER_REPLY):
                    await self.vote(ballot)
            await asyncio.sleep(self.pause)

    async def chat(self, user: str = "ann") -> dict[str, Any]:
        """Ask; an answer other than 200 fails the test, whatever is broken."""
        body = {"model": "policy", "user": user, "messages": [{"role": "user", "content": "Hi"}]}
        answer = await self._client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        reply: dict[str, Any] = answer.json()
        self.chats["recorded" if reply["recorded"] else "unrecorded"] += 1
        return reply

    def ballot(self, completion_id: str, user: str) -> Ballot:
        self.ballots.append(Ballot(completion_id, user))
        return self.ballots[-1]

    async def vote(self, ballot: Ballot) -> httpx.Response:
        """Vote anew; the comment carries the vote's number."""
        ballot.tried += 1
        thumb = "up" if ballot.tried % 2 else "down"
        body = {"thumb": thumb, "comment": str(ballot.tried), "user": ballot.user}
        answer = await self._client.put(f"/v1/feedback/{ballot.completion_id}", json=body)
        self.votes[answer.status_code] += 1
        if answer.status_code == 200:
            ballot.acknowledged = ballot.tried
        else:
            assert answer.status_code == 503, answer.text
            self.messages.add(answer.json()["error"]["message"])
        return answer

    async def ask_for_update(self) -> httpx.Response:
        """Ask for an update, as an operator does."""
        return await self._client.post("/admin/updates")

    async def feedback(self, ballot: Ballot) -> httpx.Response:
        query = {"user": ballot.user}
        return await self._client.get(f"/v1/feedback/{ballot.completion_id}", params=query)

    async def count(self) -> Found:
        """Read every vote that was promised, through the API."""
        promised = [ballot for ballot in self.ballots if ballot.acknowledged]
        found = Found(len(promised), 0)
        for ballot in promised:
            if await self._kept(ballot):
                found.kept += 1
            else:
                found.lost.append(ballot)
        return found

    async def _kept(self, ballot: Ballot) -> bool:
        answer = await self.feedback(ballot)
        if answer.status_code != 200:
            return False
        vote = answer.json()
        number = int(vote["comment"])
        thumb = "up" if number % 2 else "down"
        return ballot.acknowledged <= number <= ballot.tried and vote["thumb"] == thumb

    def summary(self) -> str:
        """Return the counts so far in one line."""
        refused = {status: n for status, n in self.votes.items() if status != 200}
        return (
            f"chats {dict(self.chats)}, votes acknowledged {self.votes[200]}, "
            f"refused {refused or 'none'}"
        )
