from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.retention import Rewrite, next_rewrite, position, trim_mark

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000

entries = st.builds(lambda ms, n: f"{ms}-{n}", st.integers(0, 2 * NOW_MS), st.integers(0, 9))
ages = st.integers(1, 2 * NOW_MS)


@given(exported=entries, now_ms=st.integers(0, 2 * NOW_MS), vote_ttl_ms=ages)
def test_the_mark_is_the_older_of_the_export_and_the_age(
    exported: str, now_ms: int, vote_ttl_ms: int
) -> None:
    mark = trim_mark(
        exported=exported, now_ms=now_ms, vote_ttl_ms=vote_ttl_ms, trim_unexported=False
    )
    assert mark is not None
    assert position(mark) <= position(exported)
    assert position(mark) <= (max(0, now_ms - vote_ttl_ms), 0)
    assert position(mark) in {position(exported), (max(0, now_ms - vote_ttl_ms), 0)}


@given(now_ms=st.integers(0, 2 * NOW_MS), vote_ttl_ms=ages, exported=st.none() | entries)
def test_without_an_export_only_the_setting_lets_anything_go(
    now_ms: int, vote_ttl_ms: int, exported: str | None
) -> None:
    aged = f"{max(0, now_ms - vote_ttl_ms)}-0"
    kept = trim_mark(exported=None, now_ms=now_ms, vote_ttl_ms=vote_ttl_ms, trim_unexported=False)
    assert kept is None
    gone = trim_mark(
        exported=exported, now_ms=now_ms, vote_ttl_ms=vote_ttl_ms, trim_unexported=True
    )
    assert gone == aged


@pytest.mark.parametrize(
    ("exported", "mark"),
    [
        (f"{NOW_MS - 61 * DAY_MS}-3", f"{NOW_MS - 61 * DAY_MS}-3"),
        (f"{NOW_MS - 60 * DAY_MS}-3", f"{NOW_MS - 60 * DAY_MS}-0"),
        (f"{NOW_MS}-0", f"{NOW_MS - 60 * DAY_MS}-0"),
        ("0-0", "0-0"),
        ("9-10", "9-10"),
    ],
)
def test_marks_by_hand(exported: str, mark: str) -> None:
    found = trim_mark(
        exported=exported, now_ms=NOW_MS, vote_ttl_ms=60 * DAY_MS, trim_unexported=False
    )
    assert found == mark


def test_entries_are_ordered_as_numbers_not_as_text() -> None:
    assert position("9-10") < position("10-9") < position("10-10")
    assert position("5") == (5, 0)


@pytest.mark.parametrize(
    ("rewrite", "running", "completed", "enabled", "after"),
    [
        ("wanted", False, False, True, "wanted"),
        ("wanted", False, True, True, "wanted"),  # an earlier one: not after the deletion
        ("wanted", True, True, True, "wanted"),
        ("started", True, False, True, "started"),
        ("started", False, True, True, ""),
        ("started", False, False, True, "wanted"),  # it failed, or Redis started anew
        ("wanted", False, False, False, ""),
        ("started", False, False, False, ""),
    ],
)
def test_a_rewrite_is_wanted_until_one_has_ended_well(
    rewrite: Rewrite, running: bool, completed: bool, enabled: bool, after: Rewrite
) -> None:
    found = next_rewrite(rewrite, running=running, completed=completed, enabled=enabled)
    assert found == after
