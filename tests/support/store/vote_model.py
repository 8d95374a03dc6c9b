"""A plain model of the vote store: what each vote, count and queue has to be after each operation.

It knows nothing of Redis. What the store does in one script is one method here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from feedback.rewards import reward
from feedback.types import Comparison, Vote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feedback.types import Person


@dataclass
class Expected:
    """One completion and the vote on it."""

    person: Person
    made_by: str
    prompt: str
    alive: bool = True
    vote: Vote | None = None
    revision: int = 0
    scored: int = 0
    state: str = ""
    voted_at: float = 0.0
    queued: bool = False
    returned: int = 0
    run: int | None = None
    version: str | None = None
    event: tuple[str, str] | None = None

    @property
    def score(self) -> float | None:
        return reward(self.vote) if self.vote else None

    @property
    def shown(self) -> str:
        """The state that the voter reads."""
        return "expired" if self.state == "pending" and not self.alive else self.state


@dataclass
class Model:
    """All completions that were not deleted, and the votes that have outlived theirs."""

    votes: dict[str, Expected] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    forgotten: list[Expected] = field(default_factory=list)

    def put(self, name: str, vote: Vote, now: float) -> None:
        old = self.votes[name]
        if old.vote == vote:
            return
        same_score = old.vote is not None and old.score == reward(vote)
        old.vote, old.revision = vote, old.revision + 1
        old.event = ("put", str(old.revision))
        if not same_score:
            old.state, old.returned, old.run, old.version = "pending", 0, None, None
            old.scored, old.voted_at, old.queued = old.revision, now, old.score is not None

    def compare(self, chosen: str, rejected: str, comment: str | None, now: float) -> None:
        for name, side, other in ((chosen, "chosen", rejected), (rejected, "rejected", chosen)):
            comparison = Comparison(side, other)  # type: ignore[arg-type]
            self.put(name, Vote(comment=comment, comparison=comparison), now)

    def withdraw(self, name: str) -> None:
        old = self.votes[name]
        blank = Expected(old.person, old.made_by, old.prompt, old.alive)
        event = ("withdrawn", str(old.revision + 1))
        self.votes[name] = replace(blank, revision=old.revision + 1, event=event)

    def withdraw_comparison(self, chosen: str) -> None:
        other = self.votes[chosen].vote.comparison.other  # type: ignore[union-attr]
        self.withdraw(chosen)
        if other in self.votes and self._compared(other) == Comparison("rejected", chosen):
            self.withdraw(other)

    def may_withdraw_comparison(self, name: str) -> bool:
        compared = self._compared(name)
        return compared is not None and compared.side == "chosen"

    def _compared(self, name: str) -> Comparison | None:
        vote = self.votes[name].vote
        return vote.comparison if vote else None

    def expire(self, name: str) -> None:
        self.votes[name].alive = False

    def sweep(self, names: Iterable[str]) -> int:
        """End the wait of those of the votes that have no completion; return how many had to."""
        dead = [name for name in names if self.votes[name].queued and not self.votes[name].alive]
        for name in dead:
            self.votes[name].state, self.votes[name].queued = "expired", False
        return len(dead)

    def forget(self, name: str) -> None:
        """Let the vote's own time run out; what was counted stays counted."""
        self.forgotten.append(self.votes.pop(name))

    def delete(self, name: str) -> None:
        del self.votes[name]
        self.deleted.add(name)

    def claim(self, names: Iterable[str], run: int) -> None:
        for name in names:
            vote = self.votes[name]
            vote.state, vote.run, vote.queued = "claimed", run, False

    def commit(self, run: int, version: str) -> None:
        for vote in self._of(run, "claimed"):
            vote.state, vote.version = "learned", version

    def quarantine(self, run: int) -> None:
        for vote in self._of(run, "claimed"):
            vote.state = "discarded"

    def give_back(self, run: int, *, most: int = 1) -> None:
        for vote in self._of(run, "learned"):
            vote.version = None
            if vote.returned >= most:
                vote.state = "discarded"
            else:
                vote.state, vote.queued, vote.run = "pending", True, None
                vote.returned += 1

    def discard(self, name: str) -> None:
        self.votes[name].state, self.votes[name].queued = "discarded", False

    def _of(self, run: int, state: str) -> list[Expected]:
        return [vote for vote in self.votes.values() if (vote.run, vote.state) == (run, state)]

    def queue(self) -> list[str]:
        """Return what waits, oldest first."""
        waiting = [name for name, vote in self.votes.items() if vote.queued]
        return sorted(waiting, key=lambda name: (self.votes[name].voted_at, name))

    def waiting_by_user(self) -> dict[str, str]:
        """Return how many votes of each user wait, as Redis spells it."""
        persons = (self.votes[name].person for name in self.queue())
        found = Counter(f"{person.owner}:{person.user}" for person in persons)
        return {who: str(count) for who, count in found.items()}

    def totals(self) -> Counter[str]:
        """Return how many votes there are per state and per thumb."""
        found: Counter[str] = Counter()
        for vote in self._counted():
            found[vote.state if vote.score is not None else "unscored"] += 1
            found.update(_thumb(vote))
        return found

    def of_version(self, version: str) -> Counter[str]:
        """Return how many votes on a version's replies approve, and how many do not."""
        found: Counter[str] = Counter()
        for vote in self._counted():
            if vote.made_by == version:
                found.update(_thumb(vote))
        return found

    def _counted(self) -> list[Expected]:
        return [vote for vote in [*self.votes.values(), *self.forgotten] if vote.vote]


def _thumb(vote: Expected) -> list[str]:
    score = vote.score or 0
    return ["up"] if score > 0 else ["down"] if score < 0 else []
