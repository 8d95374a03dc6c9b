from dataclasses import replace
from datetime import timedelta

import pytest

from workers.scheduling import Canary, Decision, WorkFacts, decide

IDLE = WorkFacts(now=1000.0)
TRIED = Canary("v000003-0123456789ab", 0.25, "About 90 more votes are needed.")


def choose(facts: WorkFacts, *, interval: float = 0.0) -> Decision:
    return decide(facts, min_votes=16, update_interval=timedelta(seconds=interval))


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (IDLE, "rest"),
        (replace(IDLE, batch_size=15), "rest"),
        (replace(IDLE, batch_size=16), "claim"),
        (replace(IDLE, batch_size=16, paused=True), "rest"),
        (replace(IDLE, batch_size=16, open_run=3, lease_held=True), "rest"),
        (replace(IDLE, batch_size=16, open_run=3, lease_held=False), "take_over"),
        (replace(IDLE, batch_size=16, open_run=3, setback="the disk is full"), "rest"),
        (replace(IDLE, open_run=3, lease_held=False, paused=True), "rest"),
        (replace(IDLE, batch_size=16, unpromoted="v000003-0123456789ab"), "promote"),
        (replace(IDLE, unpromoted="v000003-0123456789ab", paused=True), "rest"),
        (replace(IDLE, batch_size=16, ungated="v000009-0123456789ab"), "gate"),
        (replace(IDLE, paused=True, ungated="v000009-0123456789ab"), "gate"),
        (replace(IDLE, canary=TRIED, ungated="v000009-0123456789ab"), "gate"),
        (replace(IDLE, open_run=3, ungated="v000009-0123456789ab"), "take_over"),
        (replace(IDLE, open_run=3, lease_held=True, ungated="v000009-0123456789ab"), "rest"),
        (
            replace(IDLE, paused=True, open_run=3, lease_held=True, ungated="v000009-0123456789ab"),
            "rest",
        ),
        (replace(IDLE, batch_size=16, canary=TRIED), "rest"),
        (replace(IDLE, unpromoted="v000004-0123456789ab", canary=TRIED), "rest"),
        (replace(IDLE, open_run=3, canary=TRIED), "take_over"),
        (replace(IDLE, batch_size=1, requests=1), "claim"),
        (replace(IDLE, batch_size=0, requests=1), "rest"),
        (replace(IDLE, batch_size=1, requests=1, paused=True), "rest"),
    ],
)
def test_what_is_done(facts: WorkFacts, action: str) -> None:
    assert choose(facts).action == action


@pytest.mark.parametrize(
    ("last_claim", "action"),
    [
        (None, "claim"),
        (700.0, "claim"),
        (700.1, "rest"),
        (1000.0, "rest"),
        (4600.0, "claim"),  # by a machine whose clock is an hour ahead
    ],
)
def test_updates_keep_their_distance(last_claim: float | None, action: str) -> None:
    facts = replace(IDLE, batch_size=16, last_claim=last_claim)
    assert choose(facts, interval=300.0).action == action


def test_a_request_does_not_wait_for_the_interval_or_for_more_votes() -> None:
    facts = replace(IDLE, batch_size=1, requests=1, last_claim=999.0)
    decision = choose(facts, interval=300.0)
    assert (decision.action, decision.min_votes, decision.answer) == ("claim", 1, None)


def test_without_a_request_a_batch_has_the_least_votes() -> None:
    assert choose(replace(IDLE, batch_size=20)).min_votes == 16


def test_a_request_is_told_why_there_is_no_update() -> None:
    paused = choose(replace(IDLE, requests=1, paused=True))
    assert paused.answer == "Learning is paused. Resume it with `thumbloop learning resume`."
    empty = choose(replace(IDLE, requests=1))
    assert empty.answer == "No votes are waiting to be learned from."


def test_a_request_during_a_run_is_told_its_number() -> None:
    decision = choose(replace(IDLE, requests=1, batch_size=5, open_run=7, lease_held=True))
    assert (decision.run, decision.answer) == (7, "Run 7 is already under way.")


def test_a_request_during_a_canary_is_told_what_is_waited_for() -> None:
    decision = choose(replace(IDLE, requests=1, batch_size=5, canary=TRIED))
    assert decision.answer == (
        "v000003-0123456789ab is the canary for 25% of the users; learning goes on after the "
        "judge's verdict. About 90 more votes are needed."
    )
