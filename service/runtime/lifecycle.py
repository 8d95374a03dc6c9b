"""Whether the application has started, and whether it is about to stop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lifecycle:
    """What the process and the application say to each other.

    Attributes:
        draining: Set by the process: no new work should be sent here.
        failure: Set by the application: it cannot start.
        loaded: Set by the application: what it needs for good is in memory.
        url: Set by the process: where it listens.
    """

    draining: bool = False
    failure: Exception | None = None
    loaded: bool = False
    url: str = ""
