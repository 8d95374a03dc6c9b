from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.export.records import BadRowError, as_row, from_row
from feedback.export.row import COLUMNS
from feedback.export.writers import encode_line
from feedback.rewards import reward
from feedback.types import RATING_STEPS, Comparison, Completion, Person, Vote
from feedback.vote_record import VoteRecord
from models.types import Message, Sampling

if TYPE_CHECKING:
    from tests.support.store.fixtures import MakeRecord

VERSION = "v000003-0123456789ab"


def through_json(row: dict[str, Any]) -> Any:
    return json.loads(json.dumps(row))


@pytest.mark.parametrize(
    "said",
    [
        {"thumb": "up", "comment": "fine\u2028", "tags": ("a", "b")},
        {"rating": 0.5},
        {"comparison": Comparison("rejected", "chatcmpl-9")},
        {"correction": "Better."},
    ],
)
def test_a_record_comes_back_from_its_row(record: MakeRecord, said: dict[str, Any]) -> None:
    made = record(1, **said)
    row = as_row(made)
    assert tuple(row) == COLUMNS
    assert from_row(through_json(row)) == made


def test_halves_of_surrogate_pairs_are_left_to_whoever_writes_the_row(record: MakeRecord) -> None:
    made = record(1, thumb="up")
    assert made.completion is not None
    odd = {"a": "b", "\ud800": "\udc00"}
    row = as_row(replace(made, completion=replace(made.completion, metadata=odd)))
    assert row["metadata"] == odd


def test_what_became_of_a_vote_comes_back_too(record: MakeRecord) -> None:
    learned = replace(record(1, thumb="up", state="learned"), learned_by=VERSION)
    discarded = replace(
        record(2, thumb="down", state="discarded"), reason="quarantined", returned=2
    )
    gone = replace(record(3, thumb="up", state="expired"), completion=None, reason="expired")
    for made in (learned, discarded, gone):
        assert from_row(through_json(as_row(made))) == made


def test_a_tombstone_has_no_text_and_nobody_in_it() -> None:
    made = VoteRecord("chatcmpl-1", "deleted", 3, 2000.5, VERSION)
    row = as_row(made)
    told = {name: value for name, value in row.items() if value is not None}
    assert told == {
        "id": "chatcmpl-1",
        "state": "deleted",
        "revision": 3,
        "updated_at": 2000.5,
        "learned_by": VERSION,
        "returned": 0,
    }
    assert from_row(through_json(row)) == made


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "log"}, "id: String should match"),  # would be the key of the log itself
        ({"id": "chatcmpl-1\n"}, "id: String should match"),
        ({"owner": "a:b"}, "owner: String should match"),
        ({"owner": None}, "owner: a vote that stands needs it"),
        ({"version": "../../x"}, "version: '../../x' is not a policy version"),
        ({"state": "learned"}, "learned_by: a learned vote needs it"),
        ({"state": "liked"}, "state: Input should be"),
        ({"score": 1.5}, "score: Input should be less than or equal to 1"),
        ({"score": float("nan")}, "score: Input should be a finite number"),
        ({"reply": None}, "reply: it is missing although conversation is there"),
        ({"response_ids": [1]}, "behaviour_logprobs: not as many as response_ids"),
        ({"behaviour_logprobs": [-0.1, "x"]}, "behaviour_logprobs.1: Input should be"),
        ({"thumb": "up", "rating": 3.0}, "Send either a thumb or a rating, not both"),
        ({"rating": 0.3, "thumb": None}, "A rating is a number from 0 to 5"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"reply": "half \ud800"}, "reply: holds half of a surrogate pair"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"revision": "1"}, "revision: Input should be a valid integer"),
    ],
)
def test_a_bad_row_says_which_column_and_why(
    record: MakeRecord, change: dict[str, Any], reason: str
) -> None:
    row = as_row(record(1, thumb="up")) | change
    with pytest.raises(BadRowError) as caught:
        from_row(row)
    assert str(caught.value).startswith(reason)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    texts=st.tuples(TEXT, TEXT, TEXT, TEXT),
    rating=st.sampled_from([None, *RATING_STEPS]),
    tags=st.lists(TEXT, max_size=3),
    tokens=st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.floats(-1e6, 0, allow_subnormal=True)),
        min_size=1,
        max_size=4,
    ),
    times=st.tuples(*[st.floats(0, 4e9)] * 3),
    metadata=st.dictionaries(TEXT, TEXT, max_size=2),
)
def test_any_record_comes_back_from_its_line(
    texts: tuple[str, str, str, str],
    rating: float | None,
    tags: list[str],
    tokens: list[tuple[int, float]],
    times: tuple[float, float, float],
    metadata: dict[str, str],
) -> None:
    user, prompt, reply, comment = texts
    person = Person("k1", user)
    vote = Vote(rating=rating, comment=comment + "!", tags=tuple(tags))
    made = VoteRecord(
        id="chatcmpl-1",
        state="pending",
        revision=3,
        updated_at=times[0],
        person=person,
        version="base",
        vote=vote,
        score=reward(vote),
        scored_revision=2,
        voted_at=times[1],
        completion=Completion(
            id="chatcmpl-1",
            person=person,
            conversation=prompt,
            version="base",
            messages=(Message("user", prompt),),
            text=reply,
            prompt_ids=tuple(token for token, _ in tokens),
            response_ids=tuple(token for token, _ in tokens),
            behaviour_logprobs=tuple(logprob for _, logprob in tokens),
            sampling=Sampling(),
            finish_reason="length",
            created_at=times[2],
            metadata=metadata,
        ),
    )
    line = encode_line(as_row(made))
    assert len(line.decode().splitlines()) == 1
    assert from_row(json.loads(line)) == made


@pytest.mark.parametrize("row", [None, [], "x", {}, 3])
def test_what_is_no_row_is_refused(row: object) -> None:
    with pytest.raises(BadRowError):
        from_row(row)
