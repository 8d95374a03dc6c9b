"""Random JSON schemas whose values are short, so that every reply can end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

WORDS = ["red", "green", "a b", "é", 'x"y', "never"]


def random_schema(random: Random, depth: int = 2) -> dict[str, Any]:
    """Return an object of up to three properties, nested at most ``depth`` deep."""
    names = random.sample(["name", "age", "ok", "tags", "at"], random.randint(1, 3))
    return {
        "type": "object",
        "properties": {name: _value(random, depth) for name in names},
        "required": names if random.random() < 0.7 else names[:1],
        "additionalProperties": False,
    }


def _value(random: Random, depth: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "null"},
        {"enum": random.sample(WORDS, 2)},
        {"const": random.choice(WORDS)},
        {"type": "integer", "minimum": random.randint(-9, 0), "maximum": random.randint(1, 40)},
        {"type": "string", "maxLength": random.randint(1, 4)},
        {"type": "string", "pattern": "^[a-c]{1,3}$"},
        {"anyOf": [{"type": "boolean"}, {"enum": [1, 2]}]},
    ]
    if depth:
        kinds += [
            {"type": "array", "items": _value(random, 0), "minItems": 1, "maxItems": 2},
            random_schema(random, depth - 1),
        ]
    return random.choice(kinds)
