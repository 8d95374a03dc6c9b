"""Whether a Redis has on disk what it has confirmed, and what to ask so that it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from feedback.store import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT = ("WAITAOF", 1, 0, 3000)
"""Waits until the connection's writes are on this server's disk, for so many milliseconds.

With ``appendfsync everysec`` that is a second, and two where the disk is busy.
"""

WRITE = ("INCR", keys.DISK_WAITS)
"""Goes before each ``WAIT``, which waits only for what its own connection wrote last.

A vote that is sent again, because the first was not confirmed, writes nothing: without this write
it would be confirmed at once, while the first is not on disk yet.
"""

PROBE = ("WAITAOF", 1, 0, 1)
"""Answered at once, as nothing was written; an error where the server knows no such wait."""

QUESTION = ("CONFIG", "GET", "*append*")

_MEMORY = "or accept the loss of votes in a crash with THUMBLOOP_DURABILITY=memory"


@dataclass(frozen=True, slots=True)
class DurabilityStatus:
    """How a server writes to disk.

    Attributes:
        waits: Whether a write is on disk only once ``WAIT`` says so; else the write's own answer
            says so.
        refusal: Why the server cannot keep writes, and what to set; empty when it can.
    """

    waits: bool = False
    refusal: str = ""


def assess(config: Mapping[str, str] | ResponseError, probe: object) -> DurabilityStatus:
    """Return how a server writes to disk.

    Args:
        config: The server's answer to ``QUESTION``; the error where it may not be asked.
        probe: The server's answer to ``PROBE``, or the error.
    """
    known = {} if isinstance(config, ResponseError) else config
    if known.get("appendonly") == "no":
        return DurabilityStatus(
            refusal=f"Redis keeps no file: set `appendonly yes` in redis.conf, {_MEMORY}."
        )
    # With no-appendfsync-on-rewrite the server answers without fsync now and then.
    if known.get("appendfsync") == "always" and known.get("no-appendfsync-on-rewrite") == "no":
        return DurabilityStatus()
    if not isinstance(probe, ResponseError):
        return DurabilityStatus(waits=True)
    if known:
        return DurabilityStatus(
            refusal="Redis answers before it has written (appendfsync "
            f"{known.get('appendfsync')}), and its disk cannot be waited for ({probe}): set "
            "`appendfsync always` and `no-appendfsync-on-rewrite no`, or use Redis 7.2 or newer, "
            f"{_MEMORY}."
        )
    return DurabilityStatus(
        refusal=f"Redis does not say how it writes ({config}), and its disk cannot be waited for "
        f"({probe}): allow CONFIG GET or WAITAOF to this user, {_MEMORY}."
    )


def on_disk(answer: object) -> bool:
    """Whether the answer to ``WAIT`` says that the writes are on disk."""
    return isinstance(answer, list) and bool(answer) and int(answer[0]) >= 1
