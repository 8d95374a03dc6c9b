"""What is simulated, how far it is, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.types import BASE
from service.simulate.errors import RequestFailedError, SimulationError

if TYPE_CHECKING:
    from service.simulate.people import Thumb
    from service.simulate.scoring import Score
    from service.simulate.tastes import Taste

MOST_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """What is simulated.

    Attributes:
        votes: Votes to cast in all.
        rate: Share of the turns on which the user votes, in (0, 1].
        flip: Share of the clicks that come out as their opposite, in [0, 1].
        pace: Whether users wait while an update is due or being learned, as if hours went by.
        concurrency: Users who chat at the same time.
        score_replies: Fresh replies on which each version is measured.
    """

    taste: Taste
    users: int
    votes: int
    rate: float
    flip: float
    seed: int
    pace: bool
    max_tokens: int
    concurrency: int
    score_replies: int


@dataclass(frozen=True, slots=True)
class Click:
    """A vote that was cast, and the version that it was about."""

    version: str
    thumb: Thumb


@dataclass(slots=True)
class SimulationProgress:
    """How far a simulation is; it changes while it runs.

    Attributes:
        live_since: Votes cast when each version was first seen live, in that order.
    """

    phase: str = "starting"
    chats: int = 0
    clicks: list[Click] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failures_in_a_row: int = 0
    live: str = BASE
    live_since: dict[str, int] = field(default_factory=dict)
    updating: bool = False
    scored: int = 0
    to_score: int = 0

    def recent_approval(self, last: int = 50) -> float | None:
        """Share of thumbs up among the last votes; None before the first vote."""
        recent = self.clicks[-last:]
        return sum(one.thumb == "up" for one in recent) / len(recent) if recent else None

    def succeeded(self) -> None:
        """Note that a request was answered."""
        self.failures_in_a_row = 0

    def failed(self, error: RequestFailedError) -> None:
        """Note a failed request.

        Raises:
            SimulationError: Too many failed one after another to go on.
        """
        self.failures.append(str(error))
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= MOST_FAILURES_IN_A_ROW:
            raise SimulationError(
                f"{self.failures_in_a_row} requests failed in a row. The last one: {error}"
            )

    def see(self, version: str) -> None:
        """Note that ``version`` serves."""
        self.live = version
        self.live_since.setdefault(version, len(self.clicks))


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What a simulation found; ``scores`` begins with the base and ends with the last version."""

    plan: SimulationPlan
    started_from: str
    live_since: dict[str, int]
    scores: tuple[Score, ...]
    clicks: tuple[Click, ...]
    chats: int
    failures: tuple[str, ...]
    seconds: float

    @property
    def versions_live(self) -> tuple[str, ...]:
        """Versions that went live on the way, in order."""
        return tuple(version for version in self.live_since if version != self.started_from)

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON output."""
        plan = self.plan
        return {
            "taste": plan.taste.name,
            "users": plan.users,
            "rate": plan.rate,
            "flip": plan.flip,
            "seed": plan.seed,
            "max_tokens": plan.max_tokens,
            "votes": len(self.clicks),
            "chats": self.chats,
            "failed_requests": len(self.failures),
            "failures": list(dict.fromkeys(self.failures))[:10],
            "seconds": round(self.seconds, 1),
            "started_from": self.started_from,
            "versions_live": list(self.versions_live),
            "scores": [_score_dict(score) for score in self.scores],
            "clicks": [{"version": one.version, "thumb": one.thumb} for one in self.clicks],
        }


def _score_dict(score: Score) -> dict[str, Any]:
    low, high = score.interval
    return {
        "version": score.version,
        "votes_before": score.votes_before,
        "replies": score.replies,
        "approved": score.approved,
        "approval": round(score.approval, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "mean_words": round(score.mean_words, 1),
    }
