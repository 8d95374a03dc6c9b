#!/usr/bin/env python3
"""Write docs/reference/settings.md from the settings classes; ``--check`` compares only."""

from __future__ import annotations

import sys
from dataclasses import fields
from datetime import timedelta
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter
from writing import write_or_check

from feedback.settings import FeedbackSettings, JudgeSettings
from models import failpoints
from models.bounds import NamedBounds
from models.gate.settings import GateSettings
from models.recipe import ARTICLE, THUMBLOOP, Recipe
from models.settings import LearnerSettings, ModelSettings, Settings
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The data folder", Settings),
    ("The HTTP service", ServiceSettings),
    ("The base model, adapters and decoding", ModelSettings),
    ("The record, rewards, and when votes make an update", FeedbackSettings),
    ("The learner", LearnerSettings),
    ("The gate", GateSettings),
    ("The canary and the judge", JudgeSettings),
)
INTRODUCTION = """\
# Settings

Every setting is an environment variable, read when a part starts:

```sh
THUMBLOOP_PORT=8080 THUMBLOOP_MIN_VOTES=32 thumbloop up
```

An unknown `THUMBLOOP_` variable, or a value of the wrong kind, stops every command with a line
that names it. All parts need the same settings. Durations are seconds (`30`, `0.5`) or ISO 8601
(`PT2M`, `P30D`). Defaults are in parentheses.

`make pages` writes this page from the settings classes; a test holds it current.
"""
RECIPE = """
## The fields of a recipe

The file of [a recipe of your own](../tasks/learn.md#choose-a-recipe) may have these keys, and
`based_on`. In parentheses: the value in `thumbloop`, and in `article` where that is another.

"""
FOR_TESTS = f"""
## For tests of what may break

- `{failpoints.VARIABLE}` (unset): Where processes break: [the points](faults.md#failpoints).
"""
WIDTH = 99


def page() -> str:
    """Return the page's text."""
    parts = [INTRODUCTION]
    for title, settings in SECTIONS:
        added = set(settings.model_fields) - _inherited(settings)
        rows = [_row(name, settings.model_fields[name]) for name in sorted(added)]
        parts.append(f"\n## {title}\n\n")
        parts.extend(rows)
        parts.extend(
            _bounds(name, field.default)
            for name, field in settings.model_fields.items()
            if name in added and isinstance(field.default, NamedBounds)
        )
    parts += [RECIPE, *_recipe(), FOR_TESTS]
    return "".join(parts)


def _recipe() -> list[str]:
    """Return the list of a recipe's fields."""
    described = TypeAdapter(Recipe).json_schema()["properties"]
    found = []
    for name in described:
        values = [getattr(recipe, name) for recipe in (THUMBLOOP, ARTICLE)]
        shown = ", ".join(f"`{value}`" for value in dict.fromkeys(values))
        meaning = " ".join(described[name]["description"].split())
        choices = described[name].get("enum", ())
        also = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        found.append(_entry(f"- `{name}` ({shown}): {escape(meaning + also, quote=False)}"))
    return found


def _inherited(settings: type[BaseModel]) -> set[str]:
    """Return the fields that a settings class has from those that it extends."""
    return {name for base in settings.__bases__ for name in getattr(base, "model_fields", {})}


def _row(name: str, field: FieldInfo) -> str:
    choices = _choices(field)
    meaning = (field.description or "") + (f" One of {choices}." if choices else "")
    of_recipe = field.default is None and name in {each.name for each in fields(Recipe)}
    default = "the recipe's" if of_recipe else _default(field.default)
    return _entry(f"- `THUMBLOOP_{name.upper()}` ({default}): {escape(meaning, quote=False)}")


def _entry(entry: str) -> str:
    return fill(entry, WIDTH, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def _bounds(name: str, bounds: NamedBounds) -> str:
    """Return the table of what a setting of bounds can name."""
    rows = [
        f"| {title} | `{getattr(bounds, field):g}` "
        f"| {escape(type(bounds).model_fields[field].description or '', quote=False)} |\n"
        for title, field in bounds.names().items()
    ]
    head = (
        f"\nBounds of `THUMBLOOP_{name.upper()}`:\n\n| bound | default | meaning |\n|---|---|---|\n"
    )
    return head + "".join(rows)


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))


def _default(value: Any) -> str:
    if value is None or value in {"", ()}:
        return "unset"
    if isinstance(value, NamedBounds):
        return "the bounds below"
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():.10g}` s"
    return f"`{value}`"


if __name__ == "__main__":
    sys.exit(write_or_check("settings.md", page()))
