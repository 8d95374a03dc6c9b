"""The vote store against a plain model of it, under random sequences of operations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from feedback.errors import UnknownCompletionError
from feedback.events import Completion, FrozenVote, Person, Run, Vote
from feedback.rewards import reward
from feedback.settings import FeedbackSettings
from feedback.store import Store
from models.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

ANN = Person("k1", "ann")
IDS = ("a", "b", "c")
VOTES = (
    Vote(thumb="up"),
    Vote(thumb="down"),
    Vote(thumb="down", comment="no"),
    Vote(rating=2.5),
    Vote(rating=4),
    Vote(comment="hm"),
)


@dataclass
class Expected:
    """What the model says of one completion's vote."""

    vote: Vote | None = None
    revision: int = 0
    scored: int = 0
    state: str = ""
    returned: bool = False
    voted_at: float = 0.0

    @property
    def score(self) -> float | None:
        return reward(self.vote) if self.vote else None


class VoteStore(RuleBasedStateMachine):
    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.clock = 1000.0
        self.runner = asyncio.Runner()
        self.store = Store.connect(redis_url, FeedbackSettings())
        self.do(self.store._client.command("FLUSHALL"))
        self.votes = {each: Expected() for each in IDS}
        self.run: Run | None = None
        for each in IDS:
            self.do(self.store.completions.record(_completion(each)))

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        self.clock += 1
        return self.runner.run(call)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    @rule(each=st.sampled_from(IDS), vote=st.sampled_from(VOTES))
    def put(self, each: str, vote: Vote) -> None:
        now = self.clock
        found = self.do(self.store.votes.put(each, ANN, vote, reward(vote), now=now))
        old = self.votes[each]
        if old.vote != vote:
            same = old.vote is not None and old.score == reward(vote)
            old.vote, old.revision = vote, old.revision + 1
            if not same:
                old.state, old.returned, old.voted_at = "pending", False, now
                old.scored = old.revision
        assert (found.vote, found.revision, found.state) == (vote, old.revision, old.state)

    @rule(each=st.sampled_from(IDS))
    def withdraw(self, each: str) -> None:
        old = self.votes[each]
        call = self.store.votes.withdraw(each, ANN, now=self.clock)
        if old.vote is None:
            with pytest.raises(UnknownCompletionError):
                self.do(call)
            return
        self.do(call)
        self.votes[each] = Expected(revision=old.revision + 1)

    @precondition(lambda self: self.run is None)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        waiting = self.do(self.store.votes.waiting(10))
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique=True)) if waiting else []
        votes = [FrozenVote(vote.completion_id, vote.revision, vote.score) for vote in chosen]
        self.run = self.do(self.store.runs.claim(votes, parent="base", min_votes=1, now=self.clock))
        assert (self.run is None) == (not votes)
        for vote in votes:
            self.votes[vote.completion_id].state = "claimed"

    @precondition(lambda self: self.run is not None)
    @rule(how=st.sampled_from(["approved", "rejected", "quarantined"]), between=st.data())
    def end(self, how: str, between: st.DataObject) -> None:
        run, self.run = self.run, None
        assert run is not None
        if how == "quarantined":
            self.do(self.store.runs.fail(run, reason="x", max_attempts=1, now=self.clock))
            self._each_current(run, "claimed", "discarded")
            return
        version = f"v{run.number:06d}-0123456789ab"
        self.do(
            self.store.runs.commit(run, version=version, manifest={}, report={}, now=self.clock)
        )
        self._each_current(run, "claimed", "learned")
        if between.draw(st.booleans()):
            self.withdraw(between.draw(st.sampled_from(IDS)))
        self.do(self.store.runs.finish(run, how, figures={}, reason="x", now=self.clock))
        if how == "rejected":
            self._each_current(run, "learned", "pending")

    def _each_current(self, run: Run, old: str, new: str) -> None:
        for frozen in run.votes:
            vote = self.votes[frozen.completion_id]
            if vote.scored == frozen.revision and vote.state == old:
                vote.state = new
                if new == "pending" and vote.returned:
                    vote.state = "discarded"
                elif new == "pending":
                    vote.returned = True

    @invariant()
    def agrees(self) -> None:
        for each, expected in self.votes.items():
            if expected.vote is None:
                continue
            found = self.do(self.store.votes.get(each, ANN))
            assert found.vote == expected.vote
            assert (found.revision, found.state) == (expected.revision, expected.state)
            assert (found.version is not None) == (expected.state == "learned")
        waiting = [
            (vote.voted_at, each, vote.scored)
            for each, vote in self.votes.items()
            if vote.state == "pending" and vote.score is not None
        ]
        assert sorted(waiting) == [
            (vote.voted_at, vote.completion_id, vote.revision)
            for vote in self.do(self.store.votes.waiting(10))
        ]

    @invariant()
    def counts_are_right(self) -> None:
        votes = [vote for vote in self.votes.values() if vote.vote]
        scores = [vote.score for vote in votes if vote.score is not None]
        stats = self.do(self.store.votes.stats())
        base = self.do(self.store.versions.get("base"))
        up, down = sum(score > 0 for score in scores), sum(score < 0 for score in scores)
        assert (stats["up"], stats["down"]) == (base.up, base.down) == (up, down)
        assert stats["unscored"] == sum(vote.score is None for vote in votes)
        for state in ("pending", "claimed", "learned", "discarded"):
            assert stats[state] == sum(
                vote.state == state and vote.score is not None for vote in votes
            )


def _completion(completion_id: str) -> Completion:
    return Completion(
        id=completion_id,
        person=ANN,
        conversation="",
        version="base",
        messages=(),
        text="",
        prompt_ids=(),
        response_ids=(),
        behaviour_logprobs=(),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1000.0,
    )


def test_the_vote_store_agrees_with_its_model(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: VoteStore(redis_url),
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None),
    )
