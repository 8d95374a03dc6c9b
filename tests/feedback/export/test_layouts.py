from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from feedback.export.layouts import PAIRED, Layout, pair_row, single_rows
from feedback.export.pairs import PreferencePair
from models.types import Message

if TYPE_CHECKING:
    from tests.support.store.fixtures import MakeRecord

USER = {"role": "user", "content": "Question 1"}
SYSTEM = {"role": "system", "content": "Be kind."}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("vote", "label"),
    [
        ({"thumb": "up"}, True),
        ({"thumb": "down"}, False),
        ({"rating": 3.0}, True),
        ({"rating": 0.0}, False),
    ],
)
def test_kto_has_a_label(record: MakeRecord, vote: dict[str, Any], label: bool) -> None:
    assert single_rows("kto", record(1, text="Hi.", **vote)) == [
        {"prompt": [SYSTEM, USER], "completion": said("Hi."), "label": label}
    ]


@pytest.mark.parametrize("vote", [{"rating": 2.5}, {"comment": "hm"}])
def test_kto_leaves_out_what_is_neither_good_nor_bad(
    record: MakeRecord, vote: dict[str, Any]
) -> None:
    assert single_rows("kto", record(1, **vote)) == []


def test_sft_has_approved_replies_and_corrections(record: MakeRecord) -> None:
    def row(**fields: Any) -> Any:
        return single_rows("sft", record(1, text="Hi.", **fields))

    assert row(thumb="up") == [{"prompt": [SYSTEM, USER], "completion": said("Hi.")}]
    assert row(thumb="down", correction="Ho.") == [
        {"prompt": [SYSTEM, USER], "completion": said("Ho.")}
    ]
    assert row(thumb="up", correction="Ho.")[0]["completion"] == said("Ho.")
    assert row(thumb="down") == []
    assert row(comment="hm") == []


def test_triplets_have_input_output_and_reward(record: MakeRecord) -> None:
    assert single_rows("triplets", record(1, text="Hi.", rating=0.0)) == [
        {
            "input": {
                "system": "Be kind.",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Question 1"}]}],
            },
            "output": [{"type": "text", "text": "Hi."}],
            "reward": -1.0,
        }
    ]
    assert single_rows("triplets", record(1, rating=2.5))[0]["reward"] == 0.0
    assert single_rows("triplets", record(1, comment="hm")) == []


def test_a_prompt_without_a_system_message_has_none_in_a_triplet(record: MakeRecord) -> None:
    row = single_rows("triplets", record(1, thumb="up", messages=(Message("user", "Q"),)))[0]
    assert row["input"]["system"] is None


def test_pairs_have_the_prompt_apart_or_in_both(record: MakeRecord) -> None:
    pair = PreferencePair((Message("user", "Question 1"),), "Good.", "Bad.")
    assert pair_row("preference", pair) == {
        "prompt": [USER],
        "chosen": said("Good."),
        "rejected": said("Bad."),
    }
    assert pair_row("reward", pair) == {
        "chosen": [USER, *said("Good.")],
        "rejected": [USER, *said("Bad.")],
    }


@pytest.mark.parametrize("layout", sorted(set(get_args(Layout)) - PAIRED - {"records"}))
def test_a_reply_that_expired_makes_no_row(record: MakeRecord, layout: Layout) -> None:
    gone = replace(record(1, thumb="up"), completion=None)
    assert single_rows(layout, gone) == []
    assert len(single_rows("records", gone)) == 1
