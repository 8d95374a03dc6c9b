"""Bounds that operators set by name, several in one setting: ``praise=0.3, length=2``."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class NamedBounds(BaseModel):
    """Bounds by name; what a text does not name keeps its default.

    Operators use a field's title, or its own name where it has none, with ``_`` or a space.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def names(cls) -> dict[str, str]:
        """Return each field by the name that operators use."""
        return {
            field.title or name.replace("_", " "): name for name, field in cls.model_fields.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Read a text such as ``praise=0.3, length=2``; leave all else to pydantic.

        Raises:
            ValueError: A part is no pair, names no bound, or names one twice.
        """
        if not isinstance(value, str):
            return value
        found: dict[str, str] = {}
        for part in filter(None, map(str.strip, value.split(","))):
            name, equals, bound = (each.strip() for each in part.partition("="))
            if not equals or not bound:
                raise ValueError(f"write each bound as name=number, not {part!r}")
            field = cls._field(name)
            if field in found:
                raise ValueError(f"{name!r} is set twice")
            found[field] = bound
        return found

    @classmethod
    def _field(cls, name: str) -> str:
        known = {title.casefold(): field for title, field in cls.names().items()}
        meant = name.casefold().replace("_", " ")
        if meant in known:
            return known[meant]
        closest = difflib.get_close_matches(meant, known, n=1)
        hint = f"perhaps {closest[0]!r} is meant" if closest else f"known are: {', '.join(known)}"
        raise ValueError(f"no bound is called {name!r}; {hint}")
