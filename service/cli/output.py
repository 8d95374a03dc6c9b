"""How commands print: a table for people, or with ``--json`` one JSON value for programs."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LONGEST_LINE = 10_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
"""Characters that move the cursor, begin an escape sequence, or turn the direction of text; ends of
lines and tabs are none of them."""
_WHOLE = frozenset({"version", "reply", "id", "from", "to", "serves", "canary"})
"""Columns that are never broken, so that they can be copied."""


def visible(text: str) -> str:
    r"""Return text in which what would control a terminal is seen instead: ESC as ``\x1b``."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line for people; what somebody has stored cannot control their terminal."""
    typer.echo(visible(text), err=err)


def print_json(value: Any) -> None:
    """Print a value, dataclasses and sets included, as JSON."""
    text = json.dumps(value, default=_plain, indent=2, ensure_ascii=False)
    typer.echo(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print a table, or ``empty`` when it has no rows."""
    if not rows:
        say(empty)
        return
    console = Console()
    if not console.is_terminal:  # a program reads it: a row is a line
        console = Console(width=_LONGEST_LINE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else visible(str(cell))) for cell in row))
    console.print(table, highlight=False)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; nested values as JSON."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        nested = isinstance(value, (dict, list, tuple))
        text = json.dumps(value, default=_plain, ensure_ascii=False) if nested else value
        say(f"{name:<{width}}  {'-' if text is None else text}")


def ago(then: float | None) -> str | None:
    """Return how long ago a moment was, in words."""
    if then is None:
        return None
    seconds = max(0.0, time.time() - then)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def approval(row: Mapping[str, Any]) -> str | None:
    """Return a version's approval with its 95 % interval, in words."""
    if row["approval"] is None:
        return None
    low, high = row["interval"]
    return f"{row['approval']:.0%} ({low:.0%} to {high:.0%})"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
