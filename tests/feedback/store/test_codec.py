"""Dataclasses as JSON and as hashes: what is stored reads as what it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from feedback.store.codec import HashCodec, JsonCodec, flat
from feedback.store.vote_codec import encode_vote
from feedback.types import Comparison, Vote


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    number: int
    share: float | None
    on: bool
    parts: tuple[Part, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    note: str | None = None
    best: Part | None = None
    whose: str = "nobody"


VALUES = (
    Whole("a", 1, None, on=False),
    Whole("", -3, 0.1, on=True, parts=(Part('"', 2), Part("ü")), figures={"kl": 1e-9}, note="n"),
    Whole("half of a pair: \ud800", 2**60, 1e300, on=True, best=Part("\ud800"), whose="ann"),
    Whole(
        "a", 2**70, -0.0, on=True, figures={"\ud800": math.inf}, names=frozenset({"\ud800", "b"})
    ),
)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_reads_as_it_was_stored(value: Whole) -> None:
    in_json, in_hash = JsonCodec(Whole), HashCodec(Whole)
    assert in_json.decode(in_json.encode(value)) == value
    assert in_hash.decode(in_hash.encode(value)) == value


def test_the_keys_of_a_vote_are_sorted_as_its_script_expects() -> None:
    vote = Vote(comment="c", comparison=Comparison("chosen", "b"))
    assert encode_vote(vote, 1.0)[0] == (
        '{"comment": "c", "comparison": {"other": "b", "side": "chosen"}, "correction": null, '
        '"rating": null, "tags": [], "thumb": null}'
    )


def test_a_hash_holds_text_and_numbers_as_they_are_and_all_else_as_json() -> None:
    codec = HashCodec(Whole, without={"whose"})
    found = codec.encode(
        Whole("a", 1, 0.5, on=True, parts=(Part("b"),), names=frozenset({"c", "b"}))
    )
    assert found == {
        "name": "a",
        "number": "1",
        "share": "0.5",
        "on": "1",
        "parts": '[{"text":"b","count":0}]',
        "figures": "{}",
        "names": '["b","c"]',
    }
    assert flat(found)[:4] == ["name", "a", "number", "1"]


def test_an_empty_field_is_none_only_where_none_is_allowed() -> None:
    found = {"name": "", "number": "0", "share": "", "on": "0", "note": "", "best": ""}
    assert HashCodec(Whole).decode(found) == Whole("", 0, None, on=False)


def test_what_is_known_replaces_what_the_hash_holds() -> None:
    codec = HashCodec(Whole, without={"whose"})
    found = {"name": "a", "number": "7", "on": "1", "parts": "no JSON", "share": "", "other": "x"}
    best = Part("known")
    whole = codec.decode(found, name="b", parts=(best,), best=best, whose="ann")
    assert whole == Whole("b", 7, None, on=True, parts=(best,), best=best, whose="ann")
    assert whole.best is best
