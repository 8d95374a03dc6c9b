"""Which version a request gets while a canary serves a share of the users: pure.

A user's place in [0, 1) is a hash, the same on every replica and after every start. A canary
serves the places below its fraction, so a raised fraction keeps those who had it. Each canary draws
the places anew, so that it isn't always the same people who try what is new.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

_BITS = 53
"""Bits of a hash that a float holds exactly: a place rounds to 1 otherwise."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a replica serves, both versions loaded.

    Attributes:
        live: The version of everyone who is not on the canary.
        canary: The version of a share of the users; None for nobody.
        fraction: That share, in [0, 1].
    """

    live: str
    canary: str | None = None
    fraction: float = 0.0


def version_for(route: Route, key: str) -> str:
    """Return the version of a request.

    Args:
        route: What is served.
        key: Whom the request counts as: ``feedback.types.counted_as``.
    """
    if route.canary is not None and _place(route.canary, key) < route.fraction:
        return route.canary
    return route.live


def _place(canary: str, key: str) -> float:
    digest = hashlib.sha256(json.dumps([canary, key]).encode()).digest()
    place: float = (int.from_bytes(digest[:8]) >> (64 - _BITS)) / 2**_BITS
    return place
