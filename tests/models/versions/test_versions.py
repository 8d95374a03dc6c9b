from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import AdapterError
from models.versions import STATES, is_version_id, make_id, may_go_live, may_move, sequence_of


def test_an_id_is_the_sequence_and_twelve_digits_of_the_hash() -> None:
    assert make_id(12, "3fa9c1d2e4b7ffff") == "v000012-3fa9c1d2e4b7"


@given(st.integers(1, 999_999), st.text("0123456789abcdef", min_size=12, max_size=64))
def test_an_id_tells_its_sequence(sequence: int, digest: str) -> None:
    version = make_id(sequence, digest)
    assert is_version_id(version)
    assert sequence_of(version) == sequence


@pytest.mark.parametrize(
    "text",
    [
        "v\u0660\u0660\u0660\u0660\u0660\u0661-0123456789ab",  # digits, but not ours
        "",
        "../../x",
        "/etc/passwd",
        "v000012-3FA9C1D2E4B7",
        "v12-3fa9c1d2e4b7",
        "v000012-3fa9c1d2e4b7\n",
        "v000012-3fa9c1d2e4b7/..",
        "policy",
        "BASE",
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    assert not is_version_id(text)
    with pytest.raises(AdapterError):
        sequence_of(text)


def test_base_is_a_version_with_sequence_zero() -> None:
    assert is_version_id("base")
    assert sequence_of("base") == 0


def test_a_life_without_incident() -> None:
    life = ["candidate", "approved", "canary", "live", "retired", "live"]
    assert all(may_move(a, b) for a, b in pairwise(life))


def test_what_was_rejected_stays_rejected() -> None:
    assert not any(may_move("rejected", state) for state in STATES)


def test_only_what_passed_the_gate_may_go_live() -> None:
    assert {s for s in STATES if may_go_live(s)} == {"approved", "canary", "retired", "rolled_back"}
