"""Value types of the record: completions, votes, runs, versions and the rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from feedback.errors import InvalidVoteError
from models.types import (  # noqa: TC001 - codecs read them
    FinishReason,
    Message,
    ReplyStyle,
    Sampling,
    Tool,
)
from models.versions import Rollout as Rollout  # noqa: PLC0414 - the record's word for it too
from models.versions import VersionState  # noqa: TC001 - codecs read it

Thumb = Literal["up", "down"]
Side = Literal["chosen", "rejected"]
VoteState = Literal["pending", "claimed", "learned", "expired", "discarded"]
RunState = Literal["claimed", "committed", "approved", "rejected", "quarantined"]
Signal = Literal["copied", "regenerated", "edited", "abandoned", "continued"]
Scope = Literal["chat", "admin"]
JudgementState = Literal["idle", "hold", "promote", "roll_back"]

_DIGITS = 20
_MOST_IN_ID = 2**64 - 1

RATING_STEPS = tuple(i / 2 for i in range(11))


OPEN_OWNER = "open"
"""Whose the completions of open mode are, where there is no API key."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose completion it is: the API key's public id (``open`` in open mode) and its ``user``."""

    owner: str
    user: str = ""

    @property
    def name(self) -> str:
        """One text for key and user, so that users of one name under two keys are two people."""
        return f"{self.owner}:{self.user}"


def counted_as(person: Person, conversation: str, completion_id: str) -> str:
    """Return whom a request counts as, where a canary is drawn and where the judge counts.

    It is the user under its key; without a user the conversation; without either the reply itself.
    ``person_of`` in ``feedback/store/lua/shared.lua`` is the same rule for votes.
    """
    if person.user:
        return f"u:{person.name}"
    return f"c:{person.owner}:{conversation}" if conversation else f"r:{completion_id}"


@dataclass(frozen=True, slots=True)
class Completion:
    """One assistant reply that was served.

    ``behaviour_logprobs`` has one entry per id of ``response_ids``, under the distribution that was
    drawn from. Where that is not the policy's own at the temperature, as with top-p or a penalty,
    ``policy_logprobs`` has those of the policy. ``forced`` has the places of the tokens that a
    grammar left no choice of. ``created_at`` is in seconds since the epoch.
    ``pinned`` says that the request named the version itself. ``text`` is all that the model wrote;
    ``style`` and ``tools`` say how thoughts and calls in it are read, where it may have any.
    ``signals`` has what its reader did with it, each kind with its first time.
    """

    id: str
    person: Person
    conversation: str
    version: str
    messages: tuple[Message, ...]
    text: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    sampling: Sampling
    finish_reason: FinishReason
    created_at: float
    metadata: dict[str, str] = field(default_factory=dict)
    pinned: bool = False
    policy_logprobs: tuple[float, ...] = ()
    forced: tuple[int, ...] = ()
    tools: tuple[Tool, ...] | None = None
    style: ReplyStyle | None = None
    signals: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One side's part in a choice between two completions of one prompt; ``other`` is the other."""

    side: Side
    other: str


@dataclass(frozen=True, slots=True)
class Vote:
    """What one user says of one completion: a thumb, a rating 0..5, a comparison, or none of them.

    A comment, tags or correction alone are kept, but are no vote to learn from.

    Raises:
        InvalidVoteError: More than one of thumb, rating and comparison, a rating off the half-point
            scale, or nothing.
    """

    thumb: Thumb | None = None
    rating: float | None = None
    comment: str | None = None
    tags: tuple[str, ...] = ()
    correction: str | None = None
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.thumb, self.rating, self.comparison)) > 1:
            raise InvalidVoteError(
                "Send either a thumb or a rating, not both; a comparison has a route of its own."
            )
        if self.rating is not None and self.rating not in RATING_STEPS:
            raise InvalidVoteError("A rating is a number from 0 to 5 in steps of 0.5.")
        content = self.thumb or self.comparison or self.comment or self.tags or self.correction
        if not content and self.rating is None:
            raise InvalidVoteError(
                "The feedback is empty: send a thumb, a rating, a comment, tags or a correction. "
                "To withdraw a vote, use DELETE."
            )


@dataclass(frozen=True, slots=True)
class Feedback:
    """The current vote on a completion and where it stands.

    Attributes:
        score: The reward that it became; None when there is nothing to learn from.
        revision: Rises with every accepted change.
        version: The version that learned it, once ``learned``.
        reason: Why it was ``discarded``, or ``expired``.
    """

    completion_id: str
    vote: Vote
    score: float | None
    revision: int
    state: VoteState
    updated_at: float
    version: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CurrentComparison:
    """A comparison as it stands.

    Attributes:
        chosen: The vote on the chosen side.
        rejected: The vote on the other side, which may have been replaced since; None when it was
            withdrawn, or its completion deleted.
    """

    chosen: Feedback
    rejected: Feedback | None

    @property
    def rejected_id(self) -> str:
        """The completion on the other side."""
        return self.chosen.vote.comparison.other if self.chosen.vote.comparison else ""

    @property
    def whole(self) -> bool:
        """Whether both sides are still this comparison."""
        expected = Comparison("rejected", self.chosen.completion_id)
        return self.rejected is not None and self.rejected.vote.comparison == expected


@dataclass(frozen=True, slots=True)
class WaitingVote:
    """A vote that no run has claimed, as the choice of a batch sees it."""

    completion_id: str
    revision: int
    score: float
    person: Person
    version: str
    voted_at: float


@dataclass(frozen=True, slots=True)
class FrozenVote:
    """A vote as an update run froze it."""

    completion_id: str
    revision: int
    score: float


@dataclass(frozen=True, slots=True)
class StaleVote:
    """A waiting vote that is no longer worth learning from, and why."""

    completion_id: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """One update run as the ledger has it. Times are seconds since the epoch.

    Attributes:
        attempts: Learners that had it so far.
        deaths: Those of them that fell silent without a failure and without giving it back.
        doing: What its learner does; None once it is finished, or before a learner has said so.
    """

    number: int
    state: RunState
    fence: int
    parent: str
    votes: tuple[FrozenVote, ...]
    batch_hash: str
    attempts: int
    claimed_at: float
    version: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    finished_at: float | None = None
    deaths: int = 0
    doing: str | None = None


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A policy version as the registry has it; ``up`` and ``down`` count its current votes.

    Attributes:
        origin: Whether an update run made it. The base, too, came from elsewhere.
        changed_at: When its state last changed, in seconds since the epoch; None of the base.
        changed_by: Who changed it.
        stopped_at: When a canary of it was stopped; None once it is served again.
        removed: Whether its weights were removed, as it was old: it cannot be loaded any more.
    """

    version: str
    state: VersionState
    parent: str
    created_at: float
    run: int | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    completions: int = 0
    up: int = 0
    down: int = 0
    origin: Literal["learned", "imported"] = "learned"
    changed_at: float | None = None
    changed_by: str | None = None
    stopped_at: float | None = None
    removed: bool = False

    @property
    def approval(self) -> float | None:
        """Share of approving votes in [0, 1]; None before the first vote."""
        votes = self.up + self.down
        return self.up / votes if votes else None


def is_event_id(text: str) -> bool:
    """Whether ``text`` can be the id of an entry of the audit, as Redis numbers a stream's."""
    parts = text.split("-")
    return len(parts) == 2 and all(  # noqa: PLR2004 - milliseconds and a count
        part.isascii() and part.isdecimal() and len(part) <= _DIGITS and int(part) <= _MOST_IN_ID
        for part in parts
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit keeps of a command besides its effect.

    Attributes:
        who: Who gives the command.
        why: The reason.
        now: When, in seconds since the epoch.
        figures: The measurements behind the decision.
    """

    who: str
    why: str
    now: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """One entry of the audit."""

    id: str
    at: float
    who: str
    action: str
    old: str
    new: str
    why: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge last found.

    Attributes:
        state: ``idle`` while there is nothing to compare.
        test: The versions that are judged: the canary, or those since the confirmed one.
        control: What they are compared with.
        reasons: Sentences for operators.
        votes_needed: About how many more votes it takes to decide; None where votes alone cannot.
        figures: Approval, votes, people, difference and its interval, replies of both sides.
        acted: What was done, once it was.
    """

    at: float
    state: JudgementState
    test: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    votes_needed: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    acted: str | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """What one API replica says that it serves.

    Attributes:
        serving: The version of those who are not on the canary.
        generation: The rollout's generation that it serves wholly, live version and canary.
        problem: Why it does not serve what the generation that it read last asks for.
        canary: The canary, once users get it here.
        read_generation: The generation that it read last.
        started_at: When it came up, in seconds since the epoch.
        url: Where it listens.
    """

    id: str
    serving: str
    loaded: tuple[str, ...]
    generation: int
    seen_at: float
    problem: str | None = None
    canary: str | None = None
    read_generation: int = 0
    started_at: float = 0.0
    url: str = ""


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """An operator's request for an update now, and the worker's answer to it."""

    id: str
    who: str
    asked_at: float
    state: Literal["waiting", "answered"]
    run: int | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret."""

    public_id: str
    name: str
    scopes: frozenset[Scope]
    created_at: float
    revoked: bool = False
