"""Ids of versions: a sequence number, and the first digits of the content's hash."""

from __future__ import annotations

import re

from models.errors import AdapterError
from models.types import BASE

_ID = re.compile(r"v([0-9]{6})-([0-9a-f]{12})")


def make_id(sequence: int, content_hash: str) -> str:
    """Return an id like ``v000012-3fa9c1d2e4b7`` from a sequence number and a SHA-256 digest."""
    return f"v{sequence:06d}-{content_hash[:12]}"


def is_version_id(text: str) -> bool:
    """Return whether ``text`` is a version id or ``base``."""
    return text == BASE or _ID.fullmatch(text) is not None


def sequence_of(version: str) -> int:
    """Return the sequence number of a version id; 0 for ``base``.

    Raises:
        AdapterError: ``version`` is not a version id.
    """
    if version == BASE:
        return 0
    match = _ID.fullmatch(version)
    if match is None:
        raise AdapterError(f"{version!r} is not a version id like v000012-3fa9c1d2e4b7.")
    return int(match[1])
