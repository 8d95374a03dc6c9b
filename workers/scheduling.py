"""Pure decision whether there is work for the learner now, and which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import timedelta

Action = Literal["rest", "claim", "take_over", "promote", "gate"]


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that a share of the users tries; ``said`` is the judge's last word on it."""

    version: str
    fraction: float
    said: str = ""


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """What was found in the record. Times are seconds since the epoch.

    Attributes:
        paused: An operator paused learning.
        open_run: The run that has begun and not ended, if any.
        lease_held: Whether a live learner is at work on it.
        setback: What made its last attempt fail, while it rests from that.
        canary: The version that is tried out by some of the users, and what its judge last said.
        ungated: A candidate that no run made, and that waits for its gate.
        unpromoted: A version that passed its gate, whose promotion a crash cut off.
        batch_size: Votes that a run could claim now.
        requests: Operators' requests that wait for an answer.
        last_claim: When the newest run was claimed.
    """

    now: float
    paused: bool = False
    open_run: int | None = None
    lease_held: bool = False
    setback: str | None = None
    canary: Canary | None = None
    ungated: str | None = None
    unpromoted: str | None = None
    batch_size: int = 0
    requests: int = 0
    last_claim: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what to answer an operator who asked for an update.

    Attributes:
        min_votes: With ``claim``, the least votes that the batch must have.
        answer: The answer to waiting requests; None keeps them waiting.
        run: The run that the answer is about.
    """

    action: Action
    why: str
    min_votes: int = 0
    answer: str | None = None
    run: int | None = None


def decide(facts: WorkFacts, *, min_votes: int, update_interval: timedelta) -> Decision:
    """Say what the learner should do now.

    An operator's request is served with a single vote and does not wait for the interval, but
    does not overrule a pause or a canary, from whose outcome the next update has to start.
    """
    if facts.open_run is not None and not facts.paused:
        return _with_open_run(facts.open_run, facts)
    if facts.ungated is not None and not facts.lease_held:
        # Nobody is served by that, and nothing is learned: so a pause or a canary is no reason.
        return Decision("gate", f"{facts.ungated} was imported and waits for its gate.")
    if facts.paused:
        why = "Learning is paused. Resume it with `thumbloop learning resume`."
        return Decision("rest", why, answer=why)
    if facts.canary is not None:
        return _with_canary(facts.canary)
    if facts.unpromoted is not None:
        return Decision("promote", f"{facts.unpromoted} passed its gate and is not live yet.")
    return _with_votes(facts, min_votes, update_interval)


def _with_open_run(number: int, facts: WorkFacts) -> Decision:
    answer = f"Run {number} is already under way."
    if facts.lease_held:
        return Decision("rest", answer, answer=answer, run=number)
    if facts.setback is not None:
        answer = f"Run {number} is tried again soon; it failed: {facts.setback}"
        return Decision("rest", answer, answer=answer, run=number)
    return Decision(
        "take_over", f"The learner of run {number} stopped reporting.", answer=answer, run=number
    )


def _with_canary(canary: Canary) -> Decision:
    why = (
        f"{canary.version} is the canary for {canary.fraction:.0%} of the users; learning goes on "
        f"after the judge's verdict. {canary.said}"
    ).rstrip()
    return Decision("rest", why, answer=why)


def _with_votes(facts: WorkFacts, min_votes: int, update_interval: timedelta) -> Decision:
    if facts.requests:
        return _with_request(facts)
    return _unasked(facts, min_votes, update_interval.total_seconds())


def _with_request(facts: WorkFacts) -> Decision:
    if facts.batch_size == 0:
        why = "No votes are waiting to be learned from."
        return Decision("rest", why, answer=why)
    return Decision("claim", "An operator asked for an update.", min_votes=1)


def _unasked(facts: WorkFacts, min_votes: int, interval: float) -> Decision:
    if facts.batch_size < min_votes:
        return Decision(
            "rest", f"{facts.batch_size} of the {min_votes} votes that an update needs are waiting."
        )
    # A claim in the future was made by a machine whose clock is wrong: nobody waits for that.
    elapsed = interval if facts.last_claim is None else facts.now - facts.last_claim
    if 0 <= elapsed < interval:
        return Decision("rest", f"The next update may start in {interval - elapsed:.0f} s.")
    return Decision("claim", f"{facts.batch_size} votes make a batch.", min_votes=min_votes)
