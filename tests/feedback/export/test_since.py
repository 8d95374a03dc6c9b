from __future__ import annotations

import pytest

from feedback.errors import TransferError
from feedback.export.since import entry_before


@pytest.mark.parametrize(
    ("since", "entry"),
    [
        ("0-0", "0-0"),
        ("1760000000000-7", "1760000000000-7"),
        ("1970-01-01", "0-0"),
        ("1970-01-01T00:00:01Z", "999-18446744073709551615"),
        ("1970-01-01T01:00:01+01:00", "999-18446744073709551615"),
        ("1970-01-02", "86399999-18446744073709551615"),
    ],
)
def test_an_export_begins_after_an_entry_or_at_a_moment(since: str, entry: str) -> None:
    assert entry_before(since) == entry


@pytest.mark.parametrize(
    "since", ["", "yesterday", "5", "1-2-3", "-1-0", "+", "$", "\u0661-\u0661"]
)
def test_anything_else_is_refused(since: str) -> None:
    with pytest.raises(TransferError, match="not a time to begin at"):
        entry_before(since)
