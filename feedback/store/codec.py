"""Dataclasses as JSON and as Redis hashes, converted and checked by pydantic.

JSON goes through the ``json`` module, not through pydantic's own mode for it: what people write may
hold half of a surrogate pair, which pydantic refuses in some places and replaces in the keys of a
dict.
"""

from __future__ import annotations

import json
from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as type_hints

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

T = TypeVar("T")

_SCALARS = (str, int, float, bool)


class JsonCodec(Generic[T]):
    """A dataclass as one JSON text.

    Args:
        kind: The dataclass.
        sort_keys: Whether equal values have equal texts whatever the order of their fields.
    """

    def __init__(self, kind: type[T], *, sort_keys: bool = False) -> None:
        self._adapter = TypeAdapter(kind)
        self._sort_keys = sort_keys

    def encode(self, value: T) -> str:
        """Return the text of a value."""
        return _json(self._adapter.dump_python(value), sort_keys=self._sort_keys)

    def decode(self, text: str) -> T:
        """Return the value of a text."""
        return self._adapter.validate_python(json.loads(text))


class HashCodec(Generic[T]):
    """A dataclass as a Redis hash, one field for each attribute.

    Text and numbers are stored as they are, True and False as 1 and 0, all else as JSON without
    spaces, as a reply holds lists of a number for each token. An attribute that is None has no
    field, and an empty field is None where None is allowed.

    Args:
        kind: The dataclass.
        without: Attributes that the hash does not hold; ``decode`` gets them from its caller.
    """

    def __init__(self, kind: type[T], without: Collection[str] = ()) -> None:
        self._adapter = TypeAdapter(kind)
        hints = type_hints(kind)
        self.names = tuple(
            each.name
            for each in fields(kind)  # type: ignore[arg-type] # a type variable has no bound for it
            if each.name not in without
        )
        self._without = set(without)
        self._nothing = {name: None for name in self.names if type(None) in get_args(hints[name])}
        self._json = tuple(name for name in self.names if not _is_scalar(hints[name]))

    def encode(self, value: T) -> dict[str, str]:
        """Return the fields of a value."""
        found = self._adapter.dump_python(value, exclude=self._without or None)
        return {name: _encoded(each) for name, each in found.items() if each is not None}

    def decode(self, found: Mapping[str, str], **known: Any) -> T:
        """Return the value of a hash; ``known`` has what the hash does not, or what replaces it."""
        values: dict[str, Any] = self._nothing | {
            name: each for name, each in found.items() if each or name not in self._nothing
        }
        for name in self._json:
            if name not in known and (text := values.get(name)) is not None:
                values[name] = json.loads(text)
        return self._adapter.validate_python(values | known)


def flat(found: Mapping[str, str]) -> list[str]:
    """Return the fields of a hash as a command takes them, name after value."""
    return [word for pair in found.items() for word in pair]


def _encoded(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, bool) else _json(value, separators=(",", ":"))


def _json(value: Any, **form: Any) -> str:
    """Return the JSON of a value; a set is a sorted list."""
    return json.dumps(value, default=sorted, **form)


def _is_scalar(hint: Any) -> bool:
    """Whether a type is text, a number or a truth value, or such a one or None."""
    if get_origin(hint) in {Union, UnionType}:
        return all(_is_scalar(each) for each in get_args(hint) if each is not type(None))
    return hint in _SCALARS or get_origin(hint) is Literal
