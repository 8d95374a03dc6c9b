"""What a check of ``thumbloop doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        mend: What to do about it; empty when all is well.
    """

    check: str
    ok: bool
    found: str
    mend: str = ""
