"""Where an export begins: a moment, or the last entry that an earlier one had; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from feedback.errors import TransferError

_ENTRY = re.compile(r"[0-9]{1,16}-[0-9]{1,19}")
_LAST_NUMBER = 2**64 - 1


def entry_before(since: str) -> str:
    """Return the id of the entry of the log after which an export begins.

    Args:
        since: An id such as ``1760000000000-0``, after which it begins, or a day or time in ISO
            8601, at which it begins; without a zone it is UTC.

    Raises:
        TransferError: It is neither.
    """
    if _ENTRY.fullmatch(since):
        return since
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise TransferError(
            f"{since!r} is not a time to begin at: write a day or a time, such as 2026-11-22 or "
            "2026-11-22T18:00:00Z, or the `until` of an earlier export."
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    milliseconds = round(moment.timestamp() * 1000)
    return f"{milliseconds - 1}-{_LAST_NUMBER}" if milliseconds > 0 else "0-0"
