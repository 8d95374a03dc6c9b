from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.types import Person, counted_as
from service.following.routing import Route, version_for

CANARY, OTHER = "v000002-000000000002", "v000003-000000000003"
USERS = [counted_as(Person("open", f"user{number}"), "", f"r{number}") for number in range(20_000)]

fractions = st.floats(0, 1, allow_nan=False)


def on_canary(fraction: float, canary: str = CANARY) -> set[str]:
    route = Route("base", canary, fraction)
    return {key for key in USERS if version_for(route, key) == canary}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_share_of_users_is_the_fraction(fraction: float) -> None:
    # Three standard deviations of a share of 20 000 draws.
    margin = 3 * (fraction * (1 - fraction) / len(USERS)) ** 0.5
    assert len(on_canary(fraction)) / len(USERS) == pytest.approx(fraction, abs=margin)


def test_nobody_and_everybody() -> None:
    assert on_canary(0.0) == set()
    assert on_canary(1.0) == set(USERS)
    assert version_for(Route("base"), "anybody") == "base"


def test_a_raised_fraction_keeps_those_who_had_it() -> None:
    shares = [on_canary(fraction) for fraction in (0.05, 0.1, 0.3, 0.31, 1.0)]
    for smaller, larger in pairwise(shares):
        assert smaller < larger


def test_the_next_canary_tries_other_people() -> None:
    first, second = on_canary(0.5), on_canary(0.5, OTHER)
    assert len(first & second) / len(USERS) == pytest.approx(0.25, abs=0.02)


@given(owner=st.text(), user=st.text(), conversation=st.text(), fraction=fractions)
def test_a_request_gets_one_of_the_two_and_always_the_same(
    owner: str, user: str, conversation: str, fraction: float
) -> None:
    route = Route("base", CANARY, fraction)
    key = counted_as(Person(owner, user), conversation, "request")
    assert version_for(route, key) in {"base", CANARY}
    assert version_for(route, key) == version_for(route, key)


def test_a_user_stays_through_conversations_and_requests() -> None:
    assert len({counted_as(Person("k", "ann"), f"c{n}", f"r{n}") for n in range(5)}) == 1


def test_users_of_one_name_under_two_keys_are_drawn_apart_and_each_stays() -> None:
    route = Route("base", CANARY, 0.5)

    def versions_of(owner: str, user: str) -> set[str]:
        return {
            version_for(route, counted_as(Person(owner, user), f"c{n}", f"r{n}")) for n in range(5)
        }

    names = [f"user{number}" for number in range(400)]
    drawn = {owner: [versions_of(owner, name) for name in names] for owner in ("k1", "k2")}
    assert all(len(versions) == 1 for each in drawn.values() for versions in each)
    apart = sum(one != other for one, other in zip(*drawn.values(), strict=True))
    # Of independent draws half differ; three standard deviations of 400 draws are 30.
    assert 170 <= apart <= 230


def test_a_conversation_without_a_user_stays_within_its_key() -> None:
    assert len({counted_as(Person("k", ""), "c", f"r{n}") for n in range(5)}) == 1
    assert counted_as(Person("k1", ""), "c", "r") != counted_as(Person("k2", ""), "c", "r")


def test_a_request_that_names_neither_is_drawn_by_itself() -> None:
    keys = [counted_as(Person("k", ""), "", f"r{number}") for number in range(5000)]
    drawn = [version_for(Route("base", CANARY, 0.3), key) for key in keys]
    assert drawn.count(CANARY) / len(drawn) == pytest.approx(0.3, abs=0.02)


def test_no_user_is_taken_for_a_conversation() -> None:
    keys = {
        counted_as(Person("k", "x"), "", ""),
        counted_as(Person("k", ""), "x", ""),
        counted_as(Person("k", ""), "", "x"),
        counted_as(Person("k:x", ""), "", ""),
    }
    assert len(keys) == 4


def test_the_place_is_the_same_in_every_process() -> None:
    code = (
        "import json; from service.following.routing import Route, version_for;"
        f"print(json.dumps([version_for(Route('base', '{CANARY}', 0.5), str(n)) "
        "for n in range(64)]))"
    )
    ours = [version_for(Route("base", CANARY, 0.5), str(n)) for n in range(64)]
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(theirs.stdout) == ours
    assert len(set(ours)) == 2
