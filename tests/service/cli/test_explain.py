from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from feedback.types import Audit, Completion, FrozenVote, Person, Vote
from models.types import Message, Sampling
from models.versions import Activate

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.service.operator import Operator

ANN = Person("open", "ann")
SECRET = "My cat is called Kafka."


def reply(completion_id: str, version: str = "base") -> Completion:
    return Completion(
        id=completion_id,
        person=ANN,
        conversation="c",
        version=version,
        messages=(Message("user", SECRET),),
        text=f"I am {version}",
        prompt_ids=(1,),
        response_ids=(2,),
        behaviour_logprobs=(-0.1,),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1000.0,
    )


@pytest.fixture
def learned(operator: Operator) -> str:
    """A live version that learned from two votes on the base's replies, and a reply of its own."""

    async def learn(store: Store) -> str:
        for name, thumb, score in (("c1", "up", 1.0), ("c2", "down", -1.0)):
            await store.completions.record(reply(name))
            await store.votes.put(name, ANN, Vote(thumb=thumb, comment="so so"), score, now=2000.0)
        votes = [FrozenVote("c1", 1, 1.0), FrozenVote("c2", 1, -1.0)]
        run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
        assert run is not None
        version = "v000001-000000000001"
        report = {
            "reward_mean": 0.25,
            "practice": {"shared": [0.123456, 0.5]},
            "seconds": {"learn": 12.3456},
            "practice_vote_ids": ["c1"],
        }
        await store.runs.commit(run, version=version, manifest={}, report=report, now=3001.0)
        check = {
            "name": "KL to base",
            "value": 1.5,
            "bound": 25.0,
            "base": 0.5,
            "passed": True,
            "reason": "drift",
        }
        sample = {"prompt": "How are you?", "text": "Well."}
        figures = {"kl_per_reply": 1.5, "checks": [check], "samples": [sample]}
        await store.runs.finish(run, "approved", figures=figures, reason=None, now=3002.0)
        await store.rollout.do(Activate(version), Audit("learner", "run 1", 3003.0))
        await store.completions.record(reply("mine", version))
        return version

    return operator.in_store(learn)


def test_a_reply_leads_to_its_votes(operator: Operator, learned: str) -> None:
    shown = operator.run("explain", "mine").stdout
    assert f"{learned} wrote this reply" in shown
    assert "Run 1 learned these 2 votes, of which 2 still stand:" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("c")]
    assert rows == [["c1", "+1.00", "1", "yes"], ["c2", "-1.00", "1", "yes"]]
    assert "This reply has no vote." in shown
    found = operator.ask("explain", "mine")
    assert found["made"]["chain"][0]["run"] == 1
    assert [vote["score"] for vote in found["made"]["votes"]] == [1.0, -1.0]


def test_a_vote_leads_to_what_learned_it(operator: Operator, learned: str) -> None:
    shown = operator.run("explain", "c2").stdout
    assert "The base wrote this reply" in shown
    assert "The vote on this reply is thumb down, worth -1.00, learned, revision 1." in shown
    row = next(line for line in shown.splitlines() if learned in line)
    assert row.split()[-2:] == ["live", "live"]
    operator.run("versions", "rollback", "--yes")
    (only,) = operator.ask("explain", "c2")["learned_by"]
    assert (only["version"], only["state"], only["served_in"]) == (learned, "rolled_back", [])


def test_nobody_s_words_are_shown_unless_asked_for(operator: Operator, learned: str) -> None:
    for words in (("explain", "mine"), ("explain", "c1"), ("versions", "show", learned)):
        for printed in (operator.run(*words).stdout, operator.run(*words, "--json").stdout):
            assert SECRET not in printed
            assert "so so" not in printed
            assert "ann" not in printed
        asked = operator.run(*words, "--texts").stdout
        assert SECRET in asked
        assert "so so" in asked


def test_a_version_shows_its_run_and_votes(operator: Operator, learned: str) -> None:
    shown = operator.run("versions", "show", learned).stdout
    assert "run 1" in shown
    assert "Run 1 learned these 2 votes" in shown
    row = next(line for line in shown.splitlines() if line.startswith("KL to base"))
    assert row.split() == ["KL", "to", "base", "1.5", "25", "0.5", "yes", "drift"]
    assert "  question: 'How are you?'\n  reply: 'Well.'\n" in shown
    assert re.search(r"^roles +live$", shown, re.MULTILINE)
    assert [
        v["completion_id"] for v in operator.ask("versions", "show", learned)["made"]["votes"]
    ] == [
        "c1",
        "c2",
    ]
    assert "no vote had a part in it" in operator.run("versions", "show", "base").stdout


def test_an_update_shows_its_report_line_by_line(operator: Operator, learned: str) -> None:
    shown = operator.run("updates", "show", "1").stdout
    assert re.search(rf"^version +{learned}$", shown, re.MULTILINE)
    assert re.search(r"^claimed_at +\d+ d ago$", shown, re.MULTILINE)
    assert shown.endswith(
        "report\nreward_mean      0.25\npractice.shared  0.1235, 0.5\nseconds.learn    12.35\n"
    )
    assert operator.ask("updates", "show", "1")["report"]["practice_vote_ids"] == ["c1"]


def test_an_unknown_reply_is_one_clear_line(operator: Operator) -> None:
    result = operator.run("explain", "chatcmpl-none", code=1)
    assert result.stderr.startswith("thumbloop: The record holds nothing of a reply")
    assert result.stderr.count("\n") == 1
