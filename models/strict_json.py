"""Objects out of JSON that a model or a client wrote, and only such as can be written again."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def json_objects(text: str, between: str = "") -> list[dict[str, Any]] | None:
    """Return the objects in a text, one after the other; None if there is anything else.

    Args:
        text: JSON objects, or one list of them.
        between: Signs that may separate them, besides white space.
    """
    found: list[dict[str, Any]] = []
    rest = text.strip()
    while rest:
        try:
            value, end = _DECODER.raw_decode(rest)
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # of which half a surrogate pair is one
            return None
        found.extend(value if isinstance(value, list) and not found else [value])
        rest = rest[end:].lstrip().lstrip(between).lstrip()
    return found if found and all(isinstance(each, dict) for each in found) else None


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object of a text; None if it is anything else."""
    found = json_objects(text)
    return found[0] if found and len(found) == 1 and text.lstrip().startswith("{") else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON.")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
